-- Which nights should have been audited: those that ended after the gateway's audits by night began.
CREATE TABLE audited_gateway (
    provider text PRIMARY KEY,
    since    timestamptz NOT NULL DEFAULT payment_now()
);
COMMENT ON TABLE audited_gateway IS 'Gateways that are audited by night. A day that ended before is nobody''s fault.';
COMMENT ON COLUMN audited_gateway.since IS 'When a replica that audits by night first knew the gateway.';

-- What was found of the last nights is looked for every few seconds.
CREATE INDEX payment_audit_to_idx ON payment_audit (provider, to_at);
