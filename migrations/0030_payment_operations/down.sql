DROP TABLE payment_audit;
DROP INDEX payment_callback_age_idx;
DROP INDEX payment_callback_reference_idx;
DROP INDEX outbox_published_idx;
DROP INDEX outbox_unpublished_idx;
CREATE INDEX outbox_unpublished_idx ON outbox (tx, outbox_id) WHERE published_at IS NULL;
DROP TABLE payment_task;
