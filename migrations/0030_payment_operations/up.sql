-- What the edges of the payment line keep: who does the tasks that one replica at a time does, and what an audit found.

CREATE TABLE payment_task (
    task       text PRIMARY KEY,
    holder     uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    done_at    timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE payment_task IS 'Leases: which replica does a task that one at a time should do. One that ends too early costs repeated work, never a wrong result.';
COMMENT ON COLUMN payment_task.expires_at IS 'When the lease ends by itself, by now().';
COMMENT ON COLUMN payment_task.done_at IS 'When the task was last finished by anybody.';

-- Rows are published in the order of their ids: an order's events are written under its row lock, so their ids are in its order. Each
-- row is marked by itself, so that one whose transaction commits late is found whatever its id is.
DROP INDEX outbox_unpublished_idx;
CREATE INDEX outbox_unpublished_idx ON outbox (outbox_id) WHERE published_at IS NULL;
CREATE INDEX outbox_published_idx ON outbox (published_at) WHERE published_at IS NOT NULL;
COMMENT ON COLUMN outbox.tx IS 'The writing transaction, for people who look into an order of events.';

CREATE INDEX payment_callback_reference_idx ON payment_callback (provider, reference);
CREATE INDEX payment_callback_age_idx ON payment_callback (last_received_at);

CREATE TABLE payment_audit (
    audit_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider    text NOT NULL,
    from_at     timestamptz NOT NULL,
    to_at       timestamptz NOT NULL,
    verdict     text NOT NULL CHECK (verdict IN ('clean', 'difference', 'cannot_tell')),
    compared    bigint NOT NULL,
    differences jsonb NOT NULL,
    actor       text NOT NULL,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz NOT NULL
);
COMMENT ON TABLE payment_audit IS 'What each audit of a gateway''s transaction list against the book found.';
COMMENT ON COLUMN payment_audit.compared IS 'Lines of the gateway''s list that were looked at.';
CREATE INDEX payment_audit_finished_idx ON payment_audit (provider, finished_at);
