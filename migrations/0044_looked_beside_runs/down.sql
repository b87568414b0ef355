ALTER TABLE payment_run DROP COLUMN looked;
