-- Audits and totals read the book by time, a page at a time: the moment of a movement is the gateway's, or when it was learnt of.
CREATE INDEX money_entry_moved_idx ON money_entry ((coalesce(pg_at, recorded_at)), entry_id);

-- What an audit did not look at, and why it could not tell.
ALTER TABLE payment_audit
    ADD COLUMN reason    text,
    ADD COLUMN confirmed bigint NOT NULL DEFAULT 0,
    ADD COLUMN left_out  bigint NOT NULL DEFAULT 0,
    ADD COLUMN settled_by timestamptz;
COMMENT ON COLUMN payment_audit.reason IS 'Why it could not be told; NULL where it could.';
COMMENT ON COLUMN payment_audit.confirmed IS 'Payments that the list did not have and about which the gateway, when asked, said what the book says.';
COMMENT ON COLUMN payment_audit.left_out IS 'Lines of the audited time that were not looked at, because they were younger than settled_by.';
COMMENT ON COLUMN payment_audit.settled_by IS 'What moved from here on may not have been settled when the audit began, and is left out.';
