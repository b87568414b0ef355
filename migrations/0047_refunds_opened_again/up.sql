-- A refund that a gateway takes back is opened again by the line itself, long after it was made: it counts as an automatic one from there,
-- and its age begins there.

ALTER TABLE refund ADD COLUMN reopened_at timestamptz;
COMMENT ON COLUMN refund.reopened_at IS 'When it was opened again, because the gateway took it back after it was confirmed. NULL: never. Its age is counted from here.';
CREATE INDEX refund_reopened_idx ON refund (reopened_at) WHERE reopened_at IS NOT NULL;
