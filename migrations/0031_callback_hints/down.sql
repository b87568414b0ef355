ALTER TABLE payment_callback DROP COLUMN hint_at;
