-- A completed order is cancelled when the attempt that paid for it is back, and nothing of any other attempt is held: another attempt's refund
-- alone is no reason. Which attempt paid for an order is kept from here on, because its state says so only until it is given back.

ALTER TABLE payment ADD COLUMN paid_order boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN payment.paid_order IS 'It was a SUCCESS once: this attempt paid for its order. Kept by the schema, once and for good; nobody else can write it.';

-- Only a success is given back for an operator.
UPDATE payment p SET paid_order = true WHERE p.state = 'SUCCESS' OR (p.state IN ('REFUNDING', 'REFUNDED')
    AND EXISTS (SELECT FROM refund r WHERE r.payment_id = p.payment_id AND r.reason = 'OPERATOR'));

-- An order is completed once, so it is paid for once: also when the attempt that did is no success any more.
DROP INDEX payment_one_success_an_order;
CREATE UNIQUE INDEX payment_one_success_an_order ON payment (order_id) WHERE paid_order;

CREATE FUNCTION payment_paid_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.paid_order := NEW.state = 'SUCCESS' OR (TG_OP = 'UPDATE' AND OLD.paid_order);
    RETURN NEW;
END $$;
CREATE TRIGGER payment_paid_order BEFORE INSERT OR UPDATE OF state, paid_order ON payment FOR EACH ROW EXECUTE FUNCTION payment_paid_order();

CREATE FUNCTION order_money_is_back(of_order text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM payment WHERE order_id = of_order AND paid_order AND state = 'REFUNDED')
        AND NOT EXISTS (SELECT FROM payment p JOIN money_entry e USING (payment_id) WHERE p.order_id = of_order
            GROUP BY e.payment_id, e.currency HAVING sum(CASE WHEN e.kind = 'refund' THEN -e.amount ELSE e.amount END) <> 0)
$$;
COMMENT ON FUNCTION order_money_is_back IS 'Whether a completed order may be cancelled: the attempt that paid for it is REFUNDED, and the book holds nothing of any other.';

CREATE OR REPLACE FUNCTION customer_order_holds() RETURNS trigger LANGUAGE plpgsql AS $$
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
        IF NOT order_money_is_back(NEW.order_id) THEN
            PERFORM payment_line_refuse('customer_order_holds', format('completed order %s is cancelled, but its money is not back', NEW.order_id));
        END IF;
    END IF;
    RETURN NULL;
END $$;
