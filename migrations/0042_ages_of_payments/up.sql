-- What ages are counted from, said where the columns are (docs/decisions/021-a-payment-is-as-old-as-its-intake.md).
COMMENT ON COLUMN customer_order.created_at IS 'When the order was placed, by the order service; it becomes stale so long after that. Not when anything of it ends: see received_at.';
COMMENT ON COLUMN customer_order.received_at IS 'When the row was written, by this database. No payment of it counts as older than this when it is given up, closed or shown to an operator.';
COMMENT ON COLUMN payment.created_at IS 'When the attempt was begun: by the order service if it came by the log, else when the row was written.';
