COMMENT ON COLUMN payment.hinted_at IS 'A callback or an operator wants it asked now, ahead of what is due; cleared by an ask that began after it.';
COMMENT ON COLUMN payment_callback.event_id IS NULL;
DROP INDEX payment_callback_overdue_idx;
DROP INDEX payment_callback_waiting_idx;
DROP INDEX payment_callback_orphan_idx;
CREATE INDEX payment_callback_orphan_idx ON payment_callback (provider, reference) WHERE payment_id IS NULL;
