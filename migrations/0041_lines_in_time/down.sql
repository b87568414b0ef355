CREATE OR REPLACE FUNCTION order_line_in_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM customer_order WHERE order_id = NEW.order_id AND state = 'PENDING') THEN
        PERFORM payment_line_refuse('order_line_in_time', format('order %s is not open for further lines', NEW.order_id));
    END IF;
    RETURN NEW;
END $$;
