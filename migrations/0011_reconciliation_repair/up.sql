-- What the full comparison of a gate with the ledger found and repaired, member by member.
CREATE TABLE reconciliation_repair (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    coupon_code text NOT NULL,
    member_id   text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('only_in_redis', 'only_in_postgres')),
    noted_at    timestamptz NOT NULL DEFAULT now(),
    repaired_at timestamptz
);
COMMENT ON TABLE reconciliation_repair IS 'Mismatches of single members. Noted before the gate is touched, so that no repair goes without its row.';
COMMENT ON COLUMN reconciliation_repair.repaired_at IS 'When the gate was repaired; null while that is not known.';
-- One open row a member: a repair whose answer was lost is found again, not noted twice.
CREATE UNIQUE INDEX reconciliation_repair_open ON reconciliation_repair (coupon_code, member_id, kind) WHERE repaired_at IS NULL;
CREATE INDEX reconciliation_repair_coupon_idx ON reconciliation_repair (coupon_code, id);

CREATE OR REPLACE VIEW failed_coupon_issue AS
    SELECT coupon_code, member_id, request_id, outcome::text AS reason, decided_at AS failed_at FROM coupon_request WHERE outcome <> 'issued'
    UNION ALL
    SELECT coupon_code, member_id, NULL, 'Reconciliation mismatch - only in Redis', repaired_at
    FROM reconciliation_repair WHERE kind = 'only_in_redis' AND repaired_at IS NOT NULL;

ALTER TABLE coupon_lease DROP CONSTRAINT coupon_lease_task_check;
ALTER TABLE coupon_lease ADD CONSTRAINT coupon_lease_task_check CHECK (task IN ('pending', 'gate', 'run', 'compare'));
