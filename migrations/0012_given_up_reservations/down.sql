CREATE OR REPLACE VIEW failed_coupon_issue AS
    SELECT coupon_code, member_id, request_id, outcome::text AS reason, decided_at AS failed_at FROM coupon_request WHERE outcome <> 'issued'
    UNION ALL
    SELECT coupon_code, member_id, NULL, 'Reconciliation mismatch - only in Redis', repaired_at
    FROM reconciliation_repair WHERE kind = 'only_in_redis' AND repaired_at IS NOT NULL;
DROP INDEX dead_letter_refused_idx;
DELETE FROM reconciliation_repair WHERE kind = 'refused_by_database';
ALTER TABLE reconciliation_repair DROP COLUMN detail;
ALTER TABLE reconciliation_repair DROP COLUMN request_id;
ALTER TABLE reconciliation_repair DROP CONSTRAINT reconciliation_repair_kind_check;
ALTER TABLE reconciliation_repair ADD CONSTRAINT reconciliation_repair_kind_check CHECK (kind IN ('only_in_redis', 'only_in_postgres'));
