DROP INDEX refund_reopened_idx;
ALTER TABLE refund DROP COLUMN reopened_at;
