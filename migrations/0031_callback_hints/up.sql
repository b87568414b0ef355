-- A hint may not make a payment due more often than a bound: one that comes too soon waits in its row for its time.
ALTER TABLE payment_callback ADD COLUMN hint_at timestamptz;
COMMENT ON COLUMN payment_callback.hint_at IS 'When it is to make its payment due, because another ask was too short ago. NULL: done, or nothing to do.';
CREATE INDEX payment_callback_hint_idx ON payment_callback (hint_at) WHERE hint_at IS NOT NULL;
