DELETE FROM coupon_lease WHERE task = 'compare';
ALTER TABLE coupon_lease DROP CONSTRAINT coupon_lease_task_check;
ALTER TABLE coupon_lease ADD CONSTRAINT coupon_lease_task_check CHECK (task IN ('pending', 'gate', 'run'));
CREATE OR REPLACE VIEW failed_coupon_issue AS
    SELECT coupon_code, member_id, request_id, outcome::text AS reason, decided_at AS failed_at FROM coupon_request WHERE outcome <> 'issued';
DROP TABLE reconciliation_repair;
