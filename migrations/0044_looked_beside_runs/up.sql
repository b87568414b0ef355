-- The reports of a replica add up to all that it did: a run's report has what was looked after beside the runs since the one before.
ALTER TABLE payment_run ADD COLUMN looked bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN payment_run.looked IS 'How many of those in asked were looked after beside the runs, since the last report: due checks, hints, operators'' wishes.';
