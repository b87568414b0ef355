-- The trace of a request goes on in the event of its outcome, also when that is told from the ledger, long after the batch.
ALTER TABLE coupon_request ADD COLUMN traceparent text;
COMMENT ON COLUMN coupon_request.traceparent IS 'The W3C trace context of the record that was decided, where the trace is recorded; null otherwise.';
