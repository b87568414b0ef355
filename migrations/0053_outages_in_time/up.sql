-- Outages are kept for good, and each settle asks how long a payment's gateway was away. Those of a gateway follow one another, so that of all that
-- began before the payment only the last one can reach into its life: what is read grows with the payment's age, not with the gateway's.
CREATE OR REPLACE FUNCTION payment_outage_ms(of_provider text, from_at timestamptz, to_at timestamptz) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(extract(epoch FROM least(coalesce(ended_at, to_at), to_at) - greatest(began_at, from_at)) * 1000), 0)::bigint
    FROM provider_outage
    WHERE provider = of_provider AND began_at < to_at AND coalesce(ended_at, to_at) > from_at
    AND began_at >= coalesce((SELECT max(began_at) FROM provider_outage WHERE provider = of_provider AND began_at <= from_at), '-infinity')
$$;
