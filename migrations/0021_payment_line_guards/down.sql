DROP TRIGGER customer_order_stays ON customer_order;
DROP TRIGGER order_line_stays ON order_line;
DROP TRIGGER payment_stays ON payment;
DROP TRIGGER refund_stays ON refund;
DROP FUNCTION payment_line_stays, payment_line_append_only, order_line_in_time, customer_order_moves, customer_order_holds, stock_movement_holds,
    payment_moves, payment_net, payment_holds, refund_moves, refund_holds, payment_line_refuse CASCADE;
