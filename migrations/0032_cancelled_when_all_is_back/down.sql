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
        IF EXISTS (SELECT FROM payment WHERE order_id = NEW.order_id AND state = 'SUCCESS')
            OR NOT EXISTS (SELECT FROM payment WHERE order_id = NEW.order_id AND state = 'REFUNDED') THEN
            PERFORM payment_line_refuse('customer_order_holds', format('completed order %s is cancelled, but its money is not back', NEW.order_id));
        END IF;
    END IF;
    RETURN NULL;
END $$;
DROP FUNCTION order_money_is_back;
DROP TRIGGER payment_paid_order ON payment;
DROP FUNCTION payment_paid_order;
DROP INDEX payment_one_success_an_order;
CREATE UNIQUE INDEX payment_one_success_an_order ON payment (order_id) WHERE state = 'SUCCESS';
ALTER TABLE payment DROP COLUMN paid_order;
