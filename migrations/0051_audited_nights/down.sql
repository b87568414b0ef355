DROP INDEX payment_audit_to_idx;
DROP TABLE audited_gateway;
