ALTER TABLE payment_audit DROP COLUMN settled_by, DROP COLUMN left_out, DROP COLUMN confirmed, DROP COLUMN reason;
DROP INDEX money_entry_moved_idx;
