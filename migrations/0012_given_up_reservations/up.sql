-- Reservations that were given up, because PostgreSQL refused every row of their request, again and again.
ALTER TABLE reconciliation_repair DROP CONSTRAINT reconciliation_repair_kind_check;
ALTER TABLE reconciliation_repair ADD CONSTRAINT reconciliation_repair_kind_check
    CHECK (kind IN ('only_in_redis', 'only_in_postgres', 'refused_by_database'));
ALTER TABLE reconciliation_repair ADD COLUMN request_id uuid;
ALTER TABLE reconciliation_repair ADD COLUMN detail text;
COMMENT ON COLUMN reconciliation_repair.request_id IS 'The request whose reservation was given up; null for the other kinds.';
COMMENT ON COLUMN reconciliation_repair.detail IS 'What PostgreSQL said to it.';

-- Old reservations are looked up by their request; only refused requests are in it.
CREATE INDEX dead_letter_refused_idx ON dead_letter (request_id) WHERE cause = 'refused_by_database';

CREATE OR REPLACE VIEW failed_coupon_issue AS
    SELECT coupon_code, member_id, request_id, outcome::text AS reason, decided_at AS failed_at FROM coupon_request WHERE outcome <> 'issued'
    UNION ALL
    SELECT coupon_code, member_id, request_id,
        CASE kind WHEN 'only_in_redis' THEN 'Reconciliation mismatch - only in Redis' ELSE 'Refused by the database: ' || detail END, repaired_at
    FROM reconciliation_repair WHERE kind IN ('only_in_redis', 'refused_by_database') AND repaired_at IS NOT NULL;
