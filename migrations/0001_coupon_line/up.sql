-- The coupon line: what the fold of the log decided, and how far it came. The schema is the last guard: whatever the code above it does,
-- issued <= total, one issue a member, one final outcome a request (see docs/decisions/005-the-schema-is-the-last-guard.md).

CREATE TYPE coupon_outcome AS ENUM (
    'issued', 'sold_out', 'duplicate', 'not_open', 'closed', 'paused', 'ended', 'cancelled', 'unprocessable'
);

CREATE TABLE coupon (
    coupon_code     text PRIMARY KEY CHECK (char_length(coupon_code) BETWEEN 1 AND 64),
    name            text NOT NULL,
    admission       text NOT NULL CHECK (admission IN ('reserved', 'queued')),
    partition       integer NOT NULL CHECK (partition >= 0),
    total_quantity  bigint NOT NULL CHECK (total_quantity >= 0),
    issued_quantity bigint NOT NULL DEFAULT 0,
    opens_at        timestamptz,
    closes_at       timestamptz,
    paused          boolean NOT NULL DEFAULT false,
    ended           boolean NOT NULL DEFAULT false,
    status          text NOT NULL GENERATED ALWAYS AS (CASE WHEN ended THEN 'ENDED' WHEN paused THEN 'PAUSED' ELSE 'ACTIVE' END) STORED,
    rules_offset    bigint NOT NULL,
    defined_by      text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT coupon_not_over_issued CHECK (issued_quantity BETWEEN 0 AND total_quantity),
    CONSTRAINT coupon_window CHECK (closes_at > opens_at)
) WITH (fillfactor = 50); -- The row changes with each batch: room for it on its own page keeps the index out of it.
CREATE INDEX coupon_partition_idx ON coupon (partition);

CREATE TABLE coupon_request (
    coupon_code       text NOT NULL,
    request_id        uuid NOT NULL,
    member_id         text,
    partition         integer NOT NULL,
    log_offset        bigint NOT NULL,
    told_offset       bigint NOT NULL,
    appended_at       timestamptz NOT NULL,
    admitted          boolean NOT NULL,
    outcome           coupon_outcome NOT NULL,
    sequence          bigint,
    issued_request_id uuid,
    decided_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (coupon_code, request_id),
    CONSTRAINT coupon_request_sequence CHECK ((outcome = 'issued') = (sequence IS NOT NULL) AND sequence >= 1),
    CONSTRAINT coupon_request_member CHECK (member_id IS NOT NULL OR outcome = 'unprocessable'),
    CONSTRAINT coupon_request_told CHECK (told_offset >= log_offset)
);
COMMENT ON TABLE coupon_request IS 'The ledger: one row for each request, with its final outcome. No foreign key to coupon: a request may name a coupon that never was.';
CREATE UNIQUE INDEX coupon_request_one_issue_a_member ON coupon_request (coupon_code, member_id) WHERE outcome = 'issued';
CREATE UNIQUE INDEX coupon_request_one_sequence ON coupon_request (coupon_code, sequence) WHERE outcome = 'issued';
-- The followers read in this order; a member's status is looked up by the other.
CREATE INDEX coupon_request_told_idx ON coupon_request (partition, told_offset);
CREATE INDEX coupon_request_member_idx ON coupon_request (member_id, coupon_code);

-- One look at the new rows of a statement: sequences are unique and at least 1, so the highest one bounds their number.
CREATE FUNCTION coupon_request_not_over_issued() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    bad record;
BEGIN
    SELECT n.coupon_code, n.highest, c.total_quantity INTO bad
    FROM (SELECT coupon_code, max(sequence) AS highest FROM new_rows WHERE sequence IS NOT NULL GROUP BY coupon_code) n
    LEFT JOIN coupon c ON c.coupon_code = n.coupon_code
    WHERE c.total_quantity IS NULL OR n.highest > c.total_quantity
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'coupon % would be over-issued: sequence % of %', bad.coupon_code, bad.highest, coalesce(bad.total_quantity, 0)
            USING ERRCODE = 'check_violation', CONSTRAINT = 'coupon_request_not_over_issued';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER coupon_request_not_over_issued AFTER INSERT ON coupon_request
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION coupon_request_not_over_issued();

CREATE FUNCTION coupon_request_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'request % of coupon % has its final outcome; only told_offset may move, and only forward', OLD.request_id, OLD.coupon_code
        USING ERRCODE = 'check_violation', CONSTRAINT = 'coupon_request_final';
END $$;
CREATE TRIGGER coupon_request_final BEFORE UPDATE ON coupon_request FOR EACH ROW
    WHEN (OLD.told_offset > NEW.told_offset
        OR (OLD.coupon_code, OLD.request_id, OLD.member_id, OLD.partition, OLD.log_offset, OLD.appended_at, OLD.admitted, OLD.outcome, OLD.sequence,
            OLD.issued_request_id) IS DISTINCT FROM
           (NEW.coupon_code, NEW.request_id, NEW.member_id, NEW.partition, NEW.log_offset, NEW.appended_at, NEW.admitted, NEW.outcome, NEW.sequence,
            NEW.issued_request_id))
    EXECUTE FUNCTION coupon_request_final();

CREATE FUNCTION coupon_total_covers_issues() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    highest bigint;
BEGIN
    SELECT max(sequence) INTO highest FROM coupon_request WHERE coupon_code = NEW.coupon_code AND outcome = 'issued';
    IF highest > NEW.total_quantity THEN
        RAISE EXCEPTION 'coupon % has % issues; its total cannot be %', NEW.coupon_code, highest, NEW.total_quantity
            USING ERRCODE = 'check_violation', CONSTRAINT = 'coupon_total_covers_issues';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER coupon_total_covers_issues BEFORE UPDATE OF total_quantity ON coupon FOR EACH ROW
    WHEN (NEW.total_quantity < OLD.total_quantity) EXECUTE FUNCTION coupon_total_covers_issues();

CREATE TABLE coupon_command (
    command_id  uuid PRIMARY KEY,
    coupon_code text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('define', 'change', 'cancel')),
    actor       text NOT NULL,
    partition   integer NOT NULL,
    log_offset  bigint NOT NULL,
    appended_at timestamptz NOT NULL,
    outcome     text NOT NULL,
    payload     jsonb NOT NULL,
    decided_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE coupon_command IS 'Who did what, when, and what became of it.';
CREATE INDEX coupon_command_coupon_idx ON coupon_command (coupon_code, log_offset);

CREATE TABLE dead_letter (
    partition   integer NOT NULL,
    log_offset  bigint NOT NULL,
    coupon_code text,
    request_id  uuid,
    cause       text NOT NULL,
    detail      text NOT NULL,
    dlt_partition integer NOT NULL,
    dlt_offset  bigint NOT NULL,
    noted_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition, log_offset)
);
COMMENT ON TABLE dead_letter IS 'Records of the log that could not be used, by where they stand; the bytes are in the dead letter topic.';

CREATE TABLE consumer_position (
    topic       text NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    cluster_id  text NOT NULL,
    topic_id    text NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE consumer_position IS 'The decided position: the next record of the partition to decide. Moved first in each batch, by compare-and-set.';

CREATE TABLE publisher_position (
    topic       text NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE publisher_position IS 'Outcomes below this told offset have been acknowledged by Kafka.';

CREATE TABLE reconciliation_report (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    coupon_code text NOT NULL,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    report      jsonb NOT NULL
);
CREATE INDEX reconciliation_report_coupon_idx ON reconciliation_report (coupon_code, id);
CREATE INDEX reconciliation_report_age_idx ON reconciliation_report (finished_at);

CREATE VIEW coupon_issue AS
    SELECT coupon_code, member_id, request_id, sequence, decided_at AS issued_at FROM coupon_request WHERE outcome = 'issued';

CREATE VIEW failed_coupon_issue AS
    SELECT coupon_code, member_id, request_id, outcome::text AS reason, decided_at AS failed_at FROM coupon_request WHERE outcome <> 'issued';
