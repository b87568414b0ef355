-- Which replica of the reconciler looks after which coupon. Times are the database's; a lease that is not renewed ends by itself.
CREATE TABLE coupon_lease (
    coupon_code text NOT NULL,
    task text NOT NULL CHECK (task IN ('pending', 'gate', 'run')),
    holder uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    -- When the task was last finished by anybody; keeps several replicas from doing a periodic run several times.
    done_at timestamptz,
    PRIMARY KEY (coupon_code, task)
);
COMMENT ON TABLE coupon_lease IS 'Leases of the reconciler. No reference to coupon: its check would take a lock on the row that the consumer updates.';
