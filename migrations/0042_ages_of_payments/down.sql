COMMENT ON COLUMN payment.created_at IS NULL;
COMMENT ON COLUMN customer_order.received_at IS 'When the row was written.';
COMMENT ON COLUMN customer_order.created_at IS 'When the order was placed, by the order service; its age is counted from here.';
