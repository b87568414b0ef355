-- The payment line: orders, their payments, and the money that moved. The schema is the last guard here, too: it refuses every move that is
-- not in the two state tables, whatever the code above it does (docs/decisions/012-the-schema-holds-the-state-tables.md).

-- Time ------------------------------------------------------------------------------------------------------------------------------------
CREATE TABLE payment_clock (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    offset_ms bigint NOT NULL
);
COMMENT ON TABLE payment_clock IS 'The clock seam of the payment line: empty in production; a test puts one row here to move the time of all replicas at once.';

CREATE FUNCTION payment_now() RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT statement_timestamp() + coalesce((SELECT offset_ms FROM payment_clock), 0) * interval '1 millisecond'
$$;
COMMENT ON FUNCTION payment_now() IS 'Now, for every decision of the payment line that depends on time: the database''s clock, so that replicas need not agree.';

-- Orders ----------------------------------------------------------------------------------------------------------------------------------
CREATE TABLE customer_order (
    order_id       text PRIMARY KEY CHECK (char_length(order_id) BETWEEN 1 AND 64),
    amount         bigint NOT NULL CHECK (amount > 0),
    currency       text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    state          text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    reason         text,
    content_digest bytea,
    created_at     timestamptz NOT NULL DEFAULT payment_now(),
    received_at    timestamptz NOT NULL DEFAULT payment_now(),
    updated_at     timestamptz NOT NULL DEFAULT payment_now()
) WITH (fillfactor = 80);
COMMENT ON TABLE customer_order IS 'Orders, shared with the order service: intake writes them once, the settle moves them.';
COMMENT ON COLUMN customer_order.amount IS 'In minor units (won, cents) of currency.';
COMMENT ON COLUMN customer_order.reason IS 'Why it failed or was cancelled: a stable code such as PRODUCT_NOT_FOUND.';
COMMENT ON COLUMN customer_order.content_digest IS 'SHA-256 over the content it came with; the same id with another digest is refused at intake. NULL when the order service wrote the row itself.';
COMMENT ON COLUMN customer_order.created_at IS 'When the order was placed, by the order service; its age is counted from here.';
COMMENT ON COLUMN customer_order.received_at IS 'When the row was written.';
CREATE INDEX customer_order_pending_idx ON customer_order (created_at) WHERE state = 'PENDING';

CREATE TABLE order_line (
    order_id   text NOT NULL REFERENCES customer_order,
    product_id text NOT NULL CHECK (char_length(product_id) BETWEEN 1 AND 64),
    quantity   bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, product_id)
);
COMMENT ON TABLE order_line IS 'What was ordered; equal products of an order are summed at intake. No reference to product: a product that was deleted meanwhile is a case of the settle, not an error here.';

-- Stock -----------------------------------------------------------------------------------------------------------------------------------
CREATE TABLE product (
    product_id    text PRIMARY KEY CHECK (char_length(product_id) BETWEEN 1 AND 64),
    name          text NOT NULL DEFAULT '',
    initial_stock bigint NOT NULL,
    stock         bigint NOT NULL,
    updated_at    timestamptz NOT NULL DEFAULT payment_now(),
    CONSTRAINT product_stock_not_negative CHECK (stock >= 0)
) WITH (fillfactor = 50);
COMMENT ON COLUMN product.initial_stock IS 'What it began with; stock = initial_stock + the sum of its movements, always. Left out at insert: the stock.';
COMMENT ON COLUMN product.stock IS 'Pieces on hand. Moved by rows of stock_movement; a direct change leaves one of kind adjusted.';

CREATE TABLE stock_movement (
    movement_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id    text REFERENCES customer_order,
    product_id  text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('sold', 'returned', 'adjusted')),
    change      bigint NOT NULL,
    moved_at    timestamptz NOT NULL DEFAULT payment_now(),
    CONSTRAINT stock_movement_order CHECK ((order_id IS NULL) = (kind = 'adjusted')),
    CONSTRAINT stock_movement_sign CHECK (kind = 'adjusted' OR (kind = 'sold' AND change < 0) OR (kind = 'returned' AND change > 0)),
    CONSTRAINT stock_movement_once UNIQUE (order_id, product_id, kind)
);
COMMENT ON TABLE stock_movement IS 'Each change of a product''s stock, once per order, product and kind; inserting a row changes the stock.';
COMMENT ON COLUMN stock_movement.change IS 'Pieces: below zero when sold, above when returned.';
CREATE INDEX stock_movement_product_idx ON stock_movement (product_id);

CREATE FUNCTION product_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.initial_stock := coalesce(NEW.initial_stock, NEW.stock);
    IF NEW.initial_stock <> NEW.stock THEN
        RAISE EXCEPTION 'product % begins with its initial stock', NEW.product_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'product_begins';
    END IF;
    -- A product that was deleted and made again starts over: what was sold of the former one is not its loss.
    NEW.initial_stock := NEW.stock - coalesce((SELECT sum(change) FROM stock_movement m WHERE m.product_id = NEW.product_id), 0);
    RETURN NEW;
END $$;
CREATE TRIGGER product_begins BEFORE INSERT ON product FOR EACH ROW EXECUTE FUNCTION product_begins();

CREATE FUNCTION stock_movement_applies() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    ordered bigint;
BEGIN
    IF NEW.kind = 'adjusted' THEN
        RETURN NEW;
    END IF;
    SELECT quantity INTO ordered FROM order_line WHERE order_id = NEW.order_id AND product_id = NEW.product_id;
    IF ordered IS NULL OR abs(NEW.change) <> ordered THEN
        RAISE EXCEPTION 'order % has no line of % pieces of product %', NEW.order_id, abs(NEW.change), NEW.product_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'stock_movement_of_a_line';
    END IF;
    UPDATE product SET stock = stock + NEW.change, updated_at = NEW.moved_at WHERE product_id = NEW.product_id;
    IF NOT FOUND AND NEW.kind = 'sold' THEN
        RAISE EXCEPTION 'product % does not exist', NEW.product_id
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'stock_movement_product';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER stock_movement_applies BEFORE INSERT ON stock_movement FOR EACH ROW EXECUTE FUNCTION stock_movement_applies();

CREATE FUNCTION product_adjusted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stock_movement (product_id, kind, change) VALUES (NEW.product_id, 'adjusted', NEW.stock - OLD.stock);
    RETURN NULL;
END $$;
-- At depth 0 somebody changed the product itself; deeper, a movement did.
CREATE TRIGGER product_adjusted AFTER UPDATE OF stock ON product FOR EACH ROW
    WHEN (NEW.stock <> OLD.stock AND pg_trigger_depth() = 0) EXECUTE FUNCTION product_adjusted();

-- Payments --------------------------------------------------------------------------------------------------------------------------------
CREATE TABLE payment (
    payment_id        text PRIMARY KEY CHECK (char_length(payment_id) BETWEEN 1 AND 64),
    order_id          text NOT NULL REFERENCES customer_order,
    provider          text NOT NULL CHECK (provider ~ '^[a-z0-9_-]{1,64}$'),
    reference         text NOT NULL CHECK (char_length(reference) BETWEEN 1 AND 64),
    method            text NOT NULL DEFAULT 'other' CHECK (method IN ('card', 'transfer', 'virtual_account', 'mobile', 'easy_pay', 'other')),
    amount            bigint NOT NULL CHECK (amount > 0),
    currency          text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    state             text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'SUCCESS', 'FAILED', 'REFUNDING', 'REFUNDED')),
    callback_secret   text,
    created_at        timestamptz NOT NULL DEFAULT payment_now(),
    updated_at        timestamptz NOT NULL DEFAULT payment_now(),
    next_check_at     timestamptz,
    hinted_at         timestamptz,
    checks            integer NOT NULL DEFAULT 0,
    failed_checks     integer NOT NULL DEFAULT 0,
    checked_at        timestamptz,
    answered_at       timestamptz,
    last_status       text,
    last_answer       jsonb,
    last_error        text,
    pg_transaction_id text,
    pg_expires_at     timestamptz,
    sweep_until       timestamptz,
    holder            uuid,
    fence             bigint NOT NULL DEFAULT 0,
    lease_until       timestamptz,
    attention         boolean NOT NULL DEFAULT false,
    attention_reason  text,
    attention_since   timestamptz,
    CONSTRAINT payment_reference_once UNIQUE (provider, reference),
    CONSTRAINT payment_attention CHECK (attention = (attention_reason IS NOT NULL) AND attention = (attention_since IS NOT NULL)),
    CONSTRAINT payment_lease CHECK ((holder IS NULL) = (lease_until IS NULL))
) WITH (fillfactor = 70);
COMMENT ON TABLE payment IS 'Attempts to pay an order, one or more an order. Work is chosen by payment.';
COMMENT ON COLUMN payment.provider IS 'The merchant account at a payment gateway (PG), by the name in the settings.';
COMMENT ON COLUMN payment.reference IS 'What the PG knows the payment by: Toss'' order id, Stripe''s payment intent.';
COMMENT ON COLUMN payment.amount IS 'What the attempt was made for, in minor units; the order''s amount decides.';
COMMENT ON COLUMN payment.callback_secret IS 'What a deposit callback of this payment has to carry, where the PG gave one. Secret.';
COMMENT ON COLUMN payment.next_check_at IS 'When to ask the PG next. NULL and PENDING: never asked, due when it is stale. NULL otherwise: nothing to ask.';
COMMENT ON COLUMN payment.hinted_at IS 'A callback or an operator wants it asked now, ahead of what is due; cleared by an ask that began after it.';
COMMENT ON COLUMN payment.checks IS 'Answers of the PG so far in this state; the schedule grows with it.';
COMMENT ON COLUMN payment.failed_checks IS 'Asks in a row that brought no answer.';
COMMENT ON COLUMN payment.checked_at IS 'When it was last asked, answered or not.';
COMMENT ON COLUMN payment.answered_at IS 'When the PG last answered.';
COMMENT ON COLUMN payment.last_status IS 'The PG''s own word for the status, for people.';
COMMENT ON COLUMN payment.last_answer IS 'The last answer as it was understood.';
COMMENT ON COLUMN payment.last_error IS 'Why the last ask or settle failed: a stable code. NULL after a good one.';
COMMENT ON COLUMN payment.pg_expires_at IS 'Until when money may arrive, if the PG says (a deposit''s due date).';
COMMENT ON COLUMN payment.sweep_until IS 'A FAILED payment is asked for late money until here.';
COMMENT ON COLUMN payment.holder IS 'The replica that is asking.';
COMMENT ON COLUMN payment.fence IS 'Rises with each claim; every write of a holder checks it.';
COMMENT ON COLUMN payment.lease_until IS 'When a claim ends by itself, by payment_now().';
COMMENT ON COLUMN payment.attention IS 'An operator should look; asking and settling go on.';
CREATE UNIQUE INDEX payment_one_success_an_order ON payment (order_id) WHERE state = 'SUCCESS';
CREATE INDEX payment_order_idx ON payment (order_id);
CREATE INDEX payment_due_idx ON payment (provider, next_check_at) WHERE next_check_at IS NOT NULL;
CREATE INDEX payment_hinted_idx ON payment (provider, hinted_at) WHERE hinted_at IS NOT NULL;
CREATE INDEX payment_fresh_idx ON payment (provider, created_at) WHERE next_check_at IS NULL AND state = 'PENDING';
CREATE INDEX payment_attention_idx ON payment (attention_since) WHERE attention;
CREATE INDEX payment_refunding_idx ON payment (updated_at) WHERE state = 'REFUNDING';

CREATE TABLE refund (
    refund_id     text PRIMARY KEY CHECK (char_length(refund_id) BETWEEN 1 AND 64),
    payment_id    text NOT NULL REFERENCES payment,
    amount        bigint NOT NULL CHECK (amount > 0),
    currency      text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    reason        text NOT NULL,
    actor         text NOT NULL,
    automatic     boolean NOT NULL,
    restock       boolean NOT NULL DEFAULT false,
    state         text NOT NULL DEFAULT 'REQUESTED' CHECK (state IN ('REQUESTED', 'SENDING', 'ACCEPTED', 'MANUAL', 'CONFIRMED')),
    attempt       integer NOT NULL DEFAULT 1 CHECK (attempt >= 1),
    sends         integer NOT NULL DEFAULT 0,
    sending_since timestamptz,
    pg_refund_id  text,
    held          boolean NOT NULL DEFAULT false,
    held_reason   text,
    held_by       text,
    created_at    timestamptz NOT NULL DEFAULT payment_now(),
    updated_at    timestamptz NOT NULL DEFAULT payment_now(),
    confirmed_at  timestamptz,
    watch_until   timestamptz,
    last_error    text,
    CONSTRAINT refund_one_a_payment UNIQUE (payment_id),
    CONSTRAINT refund_held CHECK (held = (held_reason IS NOT NULL)),
    CONSTRAINT refund_sending CHECK ((state = 'SENDING') = (sending_since IS NOT NULL)),
    CONSTRAINT refund_confirmed CHECK (state <> 'CONFIRMED' OR (confirmed_at IS NOT NULL AND watch_until IS NOT NULL))
);
COMMENT ON TABLE refund IS 'Money to be given back: all that the PG holds of a payment. One a payment; a refund that the PG reverses is opened again. Its work is chosen by its payment''s next_check_at.';
COMMENT ON COLUMN refund.reason IS 'A stable code such as OUT_OF_STOCK.';
COMMENT ON COLUMN refund.actor IS 'Who wanted it: settle, or operator:NAME.';
COMMENT ON COLUMN refund.automatic IS 'No person asked for it; too many of these in a short time are held.';
COMMENT ON COLUMN refund.restock IS 'Put the pieces back when a completed order is cancelled by this refund.';
COMMENT ON COLUMN refund.state IS 'REQUESTED: to be sent. SENDING: committed before the call; whether it was made has to be asked. ACCEPTED: the PG has it, not final. MANUAL: needs the payer''s data or an operator. CONFIRMED: final at the PG.';
COMMENT ON COLUMN refund.attempt IS 'Part of the idempotency key, {refund_id}-{attempt}; rises only when the PG has definitely not done, or definitely ended, the one before.';
COMMENT ON COLUMN refund.sends IS 'Calls of this attempt.';
COMMENT ON COLUMN refund.held IS 'Not sent before an operator releases it. Asking goes on.';
COMMENT ON COLUMN refund.watch_until IS 'A confirmed refund is asked about until here, because some gateways reverse them.';
CREATE INDEX refund_created_idx ON refund (created_at) WHERE automatic;
CREATE INDEX refund_open_idx ON refund (created_at) WHERE state <> 'CONFIRMED';

CREATE TABLE money_entry (
    entry_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payment_id        text NOT NULL REFERENCES payment,
    kind              text NOT NULL CHECK (kind IN ('capture', 'refund', 'reversal')),
    pg_transaction_id text NOT NULL,
    amount            bigint NOT NULL CHECK (amount > 0),
    currency          text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    pg_at             timestamptz,
    actor             text NOT NULL,
    recorded_at       timestamptz NOT NULL DEFAULT payment_now(),
    CONSTRAINT money_entry_once UNIQUE (payment_id, kind, pg_transaction_id)
);
COMMENT ON TABLE money_entry IS 'The accountant''s book: each movement of money at the PG, once, when it was learnt of. Append-only.';
COMMENT ON COLUMN money_entry.kind IS 'capture: from the payer. refund: back to the payer. reversal: a refund that came back.';
COMMENT ON COLUMN money_entry.pg_at IS 'When it happened by the PG''s clock, if the PG says.';
COMMENT ON COLUMN money_entry.actor IS 'Who recorded it: settle, refund-driver, or operator:NAME.';
CREATE INDEX money_entry_recorded_idx ON money_entry (recorded_at);

-- What goes out and what comes in ---------------------------------------------------------------------------------------------------------
CREATE TABLE outbox (
    outbox_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tx           xid8 NOT NULL DEFAULT pg_current_xact_id(),
    event_id     uuid NOT NULL UNIQUE,
    topic        text NOT NULL,
    event_type   text NOT NULL,
    event_key    text NOT NULL,
    payload      jsonb NOT NULL,
    headers      jsonb NOT NULL DEFAULT '{}',
    occurred_at  timestamptz NOT NULL DEFAULT payment_now(),
    published_at timestamptz
);
COMMENT ON TABLE outbox IS 'Events that follow from a change of state, written in its transaction and published behind it, at least once.';
COMMENT ON COLUMN outbox.tx IS 'The writing transaction. Safe to publish, in the order (tx, outbox_id), once tx < pg_snapshot_xmin(pg_current_snapshot()): no earlier one can still appear.';
COMMENT ON COLUMN outbox.topic IS 'The topic''s logical name: payment_outcome.';
COMMENT ON COLUMN outbox.event_type IS 'The full name of the message, such as trueup.payment.v1.OrderCompleted.';
COMMENT ON COLUMN outbox.event_key IS 'The record''s key: the order id, so that an order''s events keep their order.';
COMMENT ON COLUMN outbox.payload IS 'The message in protobuf''s JSON form; the relay encodes it.';
CREATE INDEX outbox_unpublished_idx ON outbox (tx, outbox_id) WHERE published_at IS NULL;

CREATE TABLE payment_callback (
    callback_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider         text NOT NULL,
    event_id         text NOT NULL,
    reference        text NOT NULL,
    payment_id       text REFERENCES payment,
    authenticated    boolean NOT NULL,
    times            integer NOT NULL DEFAULT 1 CHECK (times >= 1),
    received_at      timestamptz NOT NULL DEFAULT payment_now(),
    last_received_at timestamptz NOT NULL DEFAULT payment_now(),
    attention_since  timestamptz,
    CONSTRAINT payment_callback_once UNIQUE (provider, event_id)
);
COMMENT ON TABLE payment_callback IS 'Hints of the PGs, stored once an event; a repeat raises times. They make a payment due and never decide.';
COMMENT ON COLUMN payment_callback.payment_id IS 'NULL: no such payment yet. It waits 7 days for its intake, then an operator is shown it.';
CREATE INDEX payment_callback_orphan_idx ON payment_callback (provider, reference) WHERE payment_id IS NULL;
CREATE INDEX payment_callback_payment_idx ON payment_callback (payment_id);

-- Runs, providers, operators --------------------------------------------------------------------------------------------------------------
CREATE TABLE payment_run (
    run_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    holder      uuid NOT NULL,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    found       bigint NOT NULL,
    asked       bigint NOT NULL,
    settled     bigint NOT NULL,
    failed      bigint NOT NULL,
    waiting     bigint NOT NULL,
    refunded    bigint NOT NULL,
    attention   bigint NOT NULL,
    errors      bigint NOT NULL,
    duration_ms bigint NOT NULL,
    interrupted boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE payment_run IS 'One row a run and replica. found: stale orders at its start, of all replicas. The others count what this replica did.';
CREATE INDEX payment_run_finished_idx ON payment_run (finished_at);

CREATE TABLE provider_state (
    provider       text PRIMARY KEY,
    paused_until   timestamptz,
    pause_reason   text,
    breaker        text NOT NULL DEFAULT 'closed' CHECK (breaker IN ('closed', 'open', 'half_open')),
    breaker_until  timestamptz,
    failures       integer NOT NULL DEFAULT 0,
    failing_since  timestamptz,
    answered_at    timestamptz,
    updated_at     timestamptz NOT NULL DEFAULT payment_now()
) WITH (fillfactor = 50);
COMMENT ON TABLE provider_state IS 'What all replicas know about a PG: pauses it asked for, and the circuit breaker.';
COMMENT ON COLUMN provider_state.paused_until IS 'Nothing is asked before: a 429, its Retry-After, or an operator.';
COMMENT ON COLUMN provider_state.breaker_until IS 'open: nothing is asked before, then one probe at a time.';
COMMENT ON COLUMN provider_state.failures IS 'Asks in a row, of all replicas, that brought no answer.';
COMMENT ON COLUMN provider_state.failing_since IS 'When the first of them ended.';

CREATE TABLE provider_outage (
    provider text NOT NULL,
    began_at timestamptz NOT NULL,
    ended_at timestamptz,
    PRIMARY KEY (provider, began_at),
    CONSTRAINT provider_outage_span CHECK (ended_at >= began_at)
);
COMMENT ON TABLE provider_outage IS 'When a PG could not be asked. A payment does not grow older in this time, as far as the handover to an operator goes.';
CREATE UNIQUE INDEX provider_outage_one_open ON provider_outage (provider) WHERE ended_at IS NULL;

CREATE FUNCTION payment_outage_ms(of_provider text, from_at timestamptz, to_at timestamptz) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(extract(epoch FROM least(coalesce(ended_at, to_at), to_at) - greatest(began_at, from_at)) * 1000), 0)::bigint
    FROM provider_outage
    WHERE provider = of_provider AND began_at < to_at AND coalesce(ended_at, to_at) > from_at
$$;

CREATE TABLE operator_action (
    action_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    actor     text NOT NULL,
    action    text NOT NULL,
    target    text NOT NULL,
    reason    text NOT NULL,
    outcome   text NOT NULL,
    detail    jsonb NOT NULL DEFAULT '{}',
    acted_at  timestamptz NOT NULL DEFAULT payment_now()
);
COMMENT ON TABLE operator_action IS 'Who did what, to which order, payment or refund, why, and what became of it. Append-only.';
CREATE INDEX operator_action_target_idx ON operator_action (target, action_id);
