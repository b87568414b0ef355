-- Callbacks about payments that are not known are looked at every second, among millions that are done: each look has an index that holds
-- nothing else.
DROP INDEX payment_callback_orphan_idx;
CREATE INDEX payment_callback_orphan_idx ON payment_callback (callback_id) WHERE payment_id IS NULL;
CREATE INDEX payment_callback_waiting_idx ON payment_callback (authenticated, received_at) WHERE payment_id IS NULL AND attention_since IS NULL;
CREATE INDEX payment_callback_overdue_idx ON payment_callback (authenticated, attention_since) WHERE payment_id IS NULL AND attention_since IS NOT NULL;

COMMENT ON COLUMN payment_callback.event_id IS 'The gateway''s id of the event, or the digest of one that is too long for an index.';

-- A success is not asked about; what is left over of hints at it would only lengthen each look for hints.
UPDATE payment SET hinted_at = NULL WHERE state = 'SUCCESS' AND hinted_at IS NOT NULL;
COMMENT ON COLUMN payment.hinted_at IS 'A callback or an operator wants it asked now, ahead of what is due. Cleared by an ask that began after it, so that one that comes during a claim is always another, later one; and when it becomes a SUCCESS.';
