DROP TRIGGER customer_order_ids ON customer_order;
DROP TRIGGER order_line_ids ON order_line;
DROP TRIGGER payment_ids ON payment;
DROP FUNCTION payment_line_opaque_ids();
DROP FUNCTION is_opaque_id(text);
