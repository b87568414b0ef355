-- A line may be added to an order that is PENDING; and it has to be so until the line is committed. Else an order could be completed beside a line
-- that nobody sees yet, and that is never sold. A settle locks the order FOR NO KEY UPDATE: FOR SHARE is the weakest lock that does not go with
-- it (the foreign key's FOR KEY SHARE does). So the settle waits for the line and sells it, or the line waits for the settle and is refused.
CREATE OR REPLACE FUNCTION order_line_in_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM customer_order WHERE order_id = NEW.order_id AND state = 'PENDING' FOR SHARE;
    IF NOT FOUND THEN
        PERFORM payment_line_refuse('order_line_in_time', format('order %s is not open for further lines', NEW.order_id));
    END IF;
    RETURN NEW;
END $$;
