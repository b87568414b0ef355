-- Ids are opaque, but the code refuses some texts as ids: with spaces, control or invisible characters. The schema refuses them, too, so that
-- whoever writes these tables learns of it at once. By a trigger on rows that are new: a CHECK would also refuse every update of a bad row that
-- is there already, and nobody could look after that one any more.

CREATE FUNCTION is_opaque_id(id text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT char_length(id) BETWEEN 1 AND 64
        AND id !~ '[\u0001-\u0020\u007F-\u00A0\u00AD\u1680\u2000-\u200F\u2028-\u202F\u205F-\u206F\u3000\uFEFF\U000E0000-\U000E0FFF]'
$$;
COMMENT ON FUNCTION is_opaque_id IS 'Whether a text may be an id: 1 to 64 characters, none of them a space, a control or an invisible character. The same rule as in the code.';

CREATE FUNCTION payment_line_opaque_ids() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    field text;
BEGIN
    FOREACH field IN ARRAY TG_ARGV LOOP
        IF NOT is_opaque_id(to_jsonb(NEW) ->> field) THEN
            PERFORM payment_line_refuse('payment_line_opaque_ids',
                format('%s.%s %L is no id: give 1 to 64 characters, without spaces, control or invisible ones', TG_TABLE_NAME, field, to_jsonb(NEW) ->> field));
        END IF;
    END LOOP;
    RETURN NEW;
END $$;
CREATE TRIGGER customer_order_ids BEFORE INSERT ON customer_order FOR EACH ROW EXECUTE FUNCTION payment_line_opaque_ids('order_id');
CREATE TRIGGER order_line_ids BEFORE INSERT ON order_line FOR EACH ROW EXECUTE FUNCTION payment_line_opaque_ids('product_id');
CREATE TRIGGER payment_ids BEFORE INSERT ON payment FOR EACH ROW EXECUTE FUNCTION payment_line_opaque_ids('payment_id', 'reference');
