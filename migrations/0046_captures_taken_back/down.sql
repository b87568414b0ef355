CREATE OR REPLACE FUNCTION payment_holds() RETURNS trigger LANGUAGE plpgsql AS $$
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

CREATE OR REPLACE FUNCTION order_money_is_back(of_order text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM payment WHERE order_id = of_order AND paid_order AND state = 'REFUNDED')
        AND NOT EXISTS (SELECT FROM payment p JOIN money_entry e USING (payment_id) WHERE p.order_id = of_order
            GROUP BY e.payment_id, e.currency HAVING sum(CASE WHEN e.kind = 'refund' THEN -e.amount ELSE e.amount END) <> 0)
$$;

CREATE OR REPLACE FUNCTION payment_net(of_payment text, in_currency text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(CASE WHEN kind = 'refund' THEN -amount ELSE amount END), 0)::bigint
    FROM money_entry WHERE payment_id = of_payment AND currency = in_currency
$$;
COMMENT ON FUNCTION payment_net IS 'What the book says is held of a payment in a currency: captures and reversals less refunds.';

DROP FUNCTION money_entry_signed;

-- Refused while there are entries of the kind that goes away: the book is not rewritten.
ALTER TABLE money_entry DROP CONSTRAINT money_entry_kind_check;
ALTER TABLE money_entry ADD CONSTRAINT money_entry_kind_check CHECK (kind IN ('capture', 'refund', 'reversal'));
COMMENT ON COLUMN money_entry.kind IS 'capture: from the payer. refund: back to the payer. reversal: a refund that came back.';
