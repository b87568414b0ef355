-- The two state tables of the payment line, and what has to hold at the commit of each move.

-- A state never goes where its table does not say.
CREATE FUNCTION payment_line_refuse(rule text, message text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', message USING ERRCODE = 'check_violation', CONSTRAINT = rule;
END $$;

CREATE FUNCTION payment_line_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM payment_line_refuse('payment_line_stays', format('rows of %s are never deleted', TG_TABLE_NAME));
    RETURN NULL;
END $$;
CREATE TRIGGER customer_order_stays BEFORE DELETE OR TRUNCATE ON customer_order FOR EACH STATEMENT EXECUTE FUNCTION payment_line_stays();
CREATE TRIGGER order_line_stays BEFORE DELETE OR TRUNCATE ON order_line FOR EACH STATEMENT EXECUTE FUNCTION payment_line_stays();
CREATE TRIGGER payment_stays BEFORE DELETE OR TRUNCATE ON payment FOR EACH STATEMENT EXECUTE FUNCTION payment_line_stays();
CREATE TRIGGER refund_stays BEFORE DELETE OR TRUNCATE ON refund FOR EACH STATEMENT EXECUTE FUNCTION payment_line_stays();

CREATE FUNCTION payment_line_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM payment_line_refuse('payment_line_append_only', format('rows of %s are written once and stay', TG_TABLE_NAME));
    RETURN NULL;
END $$;
CREATE TRIGGER money_entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON money_entry
    FOR EACH STATEMENT EXECUTE FUNCTION payment_line_append_only();
CREATE TRIGGER stock_movement_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON stock_movement
    FOR EACH STATEMENT EXECUTE FUNCTION payment_line_append_only();
CREATE TRIGGER operator_action_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON operator_action
    FOR EACH STATEMENT EXECUTE FUNCTION payment_line_append_only();
CREATE TRIGGER order_line_append_only BEFORE UPDATE ON order_line FOR EACH STATEMENT EXECUTE FUNCTION payment_line_append_only();

-- Orders ----------------------------------------------------------------------------------------------------------------------------------
CREATE FUNCTION order_line_in_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM customer_order WHERE order_id = NEW.order_id AND state = 'PENDING') THEN
        PERFORM payment_line_refuse('order_line_in_time', format('order %s is not open for further lines', NEW.order_id));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER order_line_in_time BEFORE INSERT ON order_line FOR EACH ROW EXECUTE FUNCTION order_line_in_time();

CREATE FUNCTION customer_order_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'PENDING' THEN
            PERFORM payment_line_refuse('customer_order_moves', format('order %s cannot begin as %s', NEW.order_id, NEW.state));
        END IF;
        RETURN NEW;
    END IF;
    IF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN
        (('PENDING', 'COMPLETED'), ('PENDING', 'FAILED'), ('PENDING', 'CANCELLED'), ('COMPLETED', 'CANCELLED')) THEN
        PERFORM payment_line_refuse('customer_order_moves', format('order %s cannot go from %s to %s', OLD.order_id, OLD.state, NEW.state));
    END IF;
    IF (NEW.order_id, NEW.amount, NEW.currency, NEW.content_digest, NEW.created_at, NEW.received_at) IS DISTINCT FROM
       (OLD.order_id, OLD.amount, OLD.currency, OLD.content_digest, OLD.created_at, OLD.received_at) THEN
        PERFORM payment_line_refuse('customer_order_fixed', format('what order %s was placed with never changes', OLD.order_id));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER customer_order_moves BEFORE INSERT OR UPDATE ON customer_order FOR EACH ROW EXECUTE FUNCTION customer_order_moves();

CREATE FUNCTION customer_order_holds() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state = 'COMPLETED' THEN
        IF NOT EXISTS (SELECT FROM payment WHERE order_id = NEW.order_id AND state = 'SUCCESS') THEN
            PERFORM payment_line_refuse('customer_order_holds', format('order %s is completed without a successful payment', NEW.order_id));
        END IF;
        IF EXISTS (SELECT FROM order_line l WHERE l.order_id = NEW.order_id AND NOT EXISTS
            (SELECT FROM stock_movement m WHERE m.order_id = l.order_id AND m.product_id = l.product_id AND m.kind = 'sold')) THEN
            PERFORM payment_line_refuse('customer_order_holds', format('order %s is completed, but its stock has not moved', NEW.order_id));
        END IF;
    ELSIF NEW.state = 'FAILED' THEN
        IF EXISTS (SELECT FROM payment WHERE order_id = NEW.order_id AND state IN ('PENDING', 'SUCCESS', 'REFUNDING')) THEN
            PERFORM payment_line_refuse('customer_order_holds', format('order %s is failed, but an attempt to pay it is not over', NEW.order_id));
        END IF;
    ELSIF NEW.state = 'CANCELLED' AND OLD.state = 'COMPLETED' THEN
        IF EXISTS (SELECT FROM payment WHERE order_id = NEW.order_id AND state = 'SUCCESS')
            OR NOT EXISTS (SELECT FROM payment WHERE order_id = NEW.order_id AND state = 'REFUNDED') THEN
            PERFORM payment_line_refuse('customer_order_holds', format('completed order %s is cancelled, but its money is not back', NEW.order_id));
        END IF;
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER customer_order_holds AFTER UPDATE ON customer_order DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.state <> OLD.state) EXECUTE FUNCTION customer_order_holds();

-- Stock -----------------------------------------------------------------------------------------------------------------------------------
CREATE FUNCTION stock_movement_holds() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    at_commit text;
BEGIN
    SELECT state INTO at_commit FROM customer_order WHERE order_id = NEW.order_id;
    IF NEW.kind = 'sold' AND at_commit <> 'COMPLETED' THEN
        PERFORM payment_line_refuse('stock_movement_holds', format('stock is sold to order %s, which is %s', NEW.order_id, at_commit));
    ELSIF NEW.kind = 'returned' AND (at_commit <> 'CANCELLED' OR NOT EXISTS
        (SELECT FROM stock_movement WHERE order_id = NEW.order_id AND product_id = NEW.product_id AND kind = 'sold')) THEN
        PERFORM payment_line_refuse('stock_movement_holds', format('order %s gives back what it does not have', NEW.order_id));
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER stock_movement_holds AFTER INSERT ON stock_movement DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.kind <> 'adjusted') EXECUTE FUNCTION stock_movement_holds();

-- Payments --------------------------------------------------------------------------------------------------------------------------------
CREATE FUNCTION payment_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'PENDING' THEN
            PERFORM payment_line_refuse('payment_moves', format('payment %s cannot begin as %s', NEW.payment_id, NEW.state));
        END IF;
        RETURN NEW;
    END IF;
    IF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN
        (('PENDING', 'SUCCESS'), ('PENDING', 'FAILED'), ('PENDING', 'REFUNDING'), ('PENDING', 'REFUNDED'), ('FAILED', 'REFUNDING'),
         ('FAILED', 'REFUNDED'), ('SUCCESS', 'REFUNDING'), ('REFUNDING', 'REFUNDED'), ('REFUNDED', 'REFUNDING')) THEN
        PERFORM payment_line_refuse('payment_moves', format('payment %s cannot go from %s to %s', OLD.payment_id, OLD.state, NEW.state));
    END IF;
    IF (NEW.payment_id, NEW.order_id, NEW.provider, NEW.reference, NEW.method, NEW.amount, NEW.currency, NEW.created_at) IS DISTINCT FROM
       (OLD.payment_id, OLD.order_id, OLD.provider, OLD.reference, OLD.method, OLD.amount, OLD.currency, OLD.created_at) THEN
        PERFORM payment_line_refuse('payment_fixed', format('what payment %s was made with never changes', OLD.payment_id));
    END IF;
    IF NEW.fence < OLD.fence THEN
        PERFORM payment_line_refuse('payment_fence', format('the fence of payment %s never falls', OLD.payment_id));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER payment_moves BEFORE INSERT OR UPDATE ON payment FOR EACH ROW EXECUTE FUNCTION payment_moves();

CREATE FUNCTION payment_net(of_payment text, in_currency text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(CASE WHEN kind = 'refund' THEN -amount ELSE amount END), 0)::bigint
    FROM money_entry WHERE payment_id = of_payment AND currency = in_currency
$$;
COMMENT ON FUNCTION payment_net IS 'What the book says is held of a payment in a currency: captures and reversals less refunds.';

CREATE FUNCTION payment_holds() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    at_commit text;
    placed record;
BEGIN
    SELECT state INTO at_commit FROM payment WHERE payment_id = NEW.payment_id;
    IF at_commit <> NEW.state THEN
        RETURN NULL; -- A later move of the same transaction is looked at instead.
    END IF;
    IF NEW.state = 'SUCCESS' THEN
        SELECT state, amount, currency INTO placed FROM customer_order WHERE order_id = NEW.order_id;
        IF placed.state <> 'COMPLETED' THEN
            PERFORM payment_line_refuse('payment_holds', format('payment %s succeeds, but its order is %s', NEW.payment_id, placed.state));
        ELSIF payment_net(NEW.payment_id, placed.currency) <> placed.amount
            OR EXISTS (SELECT FROM money_entry WHERE payment_id = NEW.payment_id AND currency <> placed.currency) THEN
            PERFORM payment_line_refuse('payment_holds', format('payment %s succeeds, but the book does not hold its order''s amount', NEW.payment_id));
        END IF;
    ELSIF NEW.state = 'REFUNDING' THEN
        IF NOT EXISTS (SELECT FROM refund WHERE payment_id = NEW.payment_id AND state <> 'CONFIRMED') THEN
            PERFORM payment_line_refuse('payment_holds', format('payment %s is being refunded without an open refund', NEW.payment_id));
        END IF;
    ELSIF NEW.state IN ('REFUNDED', 'FAILED') THEN
        IF EXISTS (SELECT FROM refund WHERE payment_id = NEW.payment_id AND state <> 'CONFIRMED') THEN
            PERFORM payment_line_refuse('payment_holds', format('payment %s is %s with an open refund', NEW.payment_id, NEW.state));
        ELSIF EXISTS (SELECT FROM money_entry WHERE payment_id = NEW.payment_id GROUP BY currency
            HAVING sum(CASE WHEN kind = 'refund' THEN -amount ELSE amount END) <> 0) THEN
            PERFORM payment_line_refuse('payment_holds', format('payment %s is %s, but the book still holds money', NEW.payment_id, NEW.state));
        END IF;
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER payment_holds AFTER UPDATE ON payment DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.state <> OLD.state) EXECUTE FUNCTION payment_holds();

-- Refunds ---------------------------------------------------------------------------------------------------------------------------------
CREATE FUNCTION refund_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state NOT IN ('REQUESTED', 'MANUAL') OR NEW.attempt <> 1 OR NEW.sends <> 0 THEN
            PERFORM payment_line_refuse('refund_moves', format('refund %s cannot begin as %s', NEW.refund_id, NEW.state));
        END IF;
        RETURN NEW;
    END IF;
    IF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN
        (('REQUESTED', 'SENDING'), ('REQUESTED', 'ACCEPTED'), ('REQUESTED', 'MANUAL'), ('REQUESTED', 'CONFIRMED'),
         ('SENDING', 'REQUESTED'), ('SENDING', 'ACCEPTED'), ('SENDING', 'MANUAL'), ('SENDING', 'CONFIRMED'),
         ('ACCEPTED', 'REQUESTED'), ('ACCEPTED', 'MANUAL'), ('ACCEPTED', 'CONFIRMED'),
         ('MANUAL', 'REQUESTED'), ('MANUAL', 'ACCEPTED'), ('MANUAL', 'CONFIRMED'),
         ('CONFIRMED', 'REQUESTED'), ('CONFIRMED', 'MANUAL')) THEN
        PERFORM payment_line_refuse('refund_moves', format('refund %s cannot go from %s to %s', OLD.refund_id, OLD.state, NEW.state));
    END IF;
    IF (NEW.refund_id, NEW.payment_id, NEW.currency, NEW.actor, NEW.automatic, NEW.created_at) IS DISTINCT FROM
       (OLD.refund_id, OLD.payment_id, OLD.currency, OLD.actor, OLD.automatic, OLD.created_at) THEN
        PERFORM payment_line_refuse('refund_fixed', format('what refund %s was made with never changes', OLD.refund_id));
    END IF;
    -- One key means one amount: a call that is repeated with its key has to be the same call.
    IF NEW.attempt NOT IN (OLD.attempt, OLD.attempt + 1) OR (NEW.attempt = OLD.attempt AND OLD.sends > 0 AND NEW.amount <> OLD.amount) THEN
        PERFORM payment_line_refuse('refund_attempt', format('attempt %s of refund %s cannot be changed so', OLD.attempt, OLD.refund_id));
    END IF;
    -- What may have been sent is never begun anew under another key, and nothing is sent a first time while it is held.
    IF NEW.attempt > OLD.attempt AND NEW.state = 'SENDING' THEN
        PERFORM payment_line_refuse('refund_attempt', format('refund %s begins a new attempt before it is sent', OLD.refund_id));
    END IF;
    IF NEW.held AND NEW.state = 'SENDING' AND OLD.state <> 'SENDING' THEN
        PERFORM payment_line_refuse('refund_held_is_not_sent', format('refund %s is held', OLD.refund_id));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refund_moves BEFORE INSERT OR UPDATE ON refund FOR EACH ROW EXECUTE FUNCTION refund_moves();

CREATE FUNCTION refund_holds() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    at_commit text;
    paid text;
BEGIN
    SELECT r.state, p.state INTO at_commit, paid FROM refund r JOIN payment p ON p.payment_id = r.payment_id WHERE r.refund_id = NEW.refund_id;
    IF (at_commit = 'CONFIRMED' AND paid <> 'REFUNDED') OR (at_commit <> 'CONFIRMED' AND paid <> 'REFUNDING') THEN
        PERFORM payment_line_refuse('refund_holds', format('refund %s is %s, but its payment is %s', NEW.refund_id, at_commit, paid));
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER refund_holds AFTER INSERT OR UPDATE ON refund DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION refund_holds();
