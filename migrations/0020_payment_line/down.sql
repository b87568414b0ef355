DROP TABLE operator_action, provider_outage, provider_state, payment_run, payment_callback, outbox, money_entry, refund, payment, stock_movement,
    product, order_line, customer_order, payment_clock CASCADE;
DROP FUNCTION payment_outage_ms, payment_now, product_begins, stock_movement_applies, product_adjusted;
