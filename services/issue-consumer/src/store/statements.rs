//! The statements of a deciding transaction, prepared once for each connection.

use postgres_io::COUPON_COLUMNS;
use tokio_postgres::{Client, Error, Statement};

use crate::copy_rows::COPY_LEDGER;

const MOVE_POSITION: &str = "UPDATE consumer_position SET next_offset = $1, updated_at = now() \
     WHERE topic = $2 AND partition = $3 AND next_offset = $4 AND cluster_id = $5 AND topic_id = $6";

const POSITION: &str =
    "SELECT next_offset FROM consumer_position WHERE topic = $1 AND partition = $2 AND cluster_id = $3 AND topic_id = $4";

const INSERT_COUPONS: &str = "INSERT INTO coupon (coupon_code, name, admission, partition, total_quantity, issued_quantity, opens_at, \
     closes_at, paused, ended, rules_offset, defined_by, created_at, updated_at) \
     SELECT code, name, admission, partition, total, issued, to_timestamp(opens_ms / 1000.0), to_timestamp(closes_ms / 1000.0), \
     paused, ended, rules_offset, actor, to_timestamp(at_ms / 1000.0), now() \
     FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bool[], \
     $10::bool[], $11::bigint[], $12::text[], $13::bigint[]) \
     AS n (code, name, admission, partition, total, issued, opens_ms, closes_ms, paused, ended, rules_offset, actor, at_ms)";

const UPDATE_COUPONS: &str = "UPDATE coupon SET name = n.name, total_quantity = n.total, issued_quantity = n.issued, \
     opens_at = to_timestamp(n.opens_ms / 1000.0), closes_at = to_timestamp(n.closes_ms / 1000.0), paused = n.paused, \
     ended = n.ended, rules_offset = n.rules_offset, updated_at = now() \
     FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bool[], $8::bool[], $9::bigint[]) \
     AS n (code, name, total, issued, opens_ms, closes_ms, paused, ended, rules_offset) WHERE coupon_code = n.code";

const MOVE_TOLD: &str = "UPDATE coupon_request r SET told_offset = n.told \
     FROM unnest($1::text[], $2::uuid[], $3::bigint[]) AS n (code, request, told) \
     WHERE r.coupon_code = n.code AND r.request_id = n.request AND r.told_offset < n.told";

const INSERT_COMMANDS: &str = "INSERT INTO coupon_command (command_id, coupon_code, kind, actor, partition, log_offset, appended_at, \
     outcome, payload) SELECT id, code, kind, actor, $5::int, log_offset, to_timestamp(at_ms / 1000.0), outcome, payload::jsonb \
     FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $6::bigint[], $7::bigint[], $8::text[], $9::text[]) \
     AS n (id, code, kind, actor, log_offset, at_ms, outcome, payload)";

const INSERT_DEAD_LETTERS: &str = "INSERT INTO dead_letter (partition, log_offset, coupon_code, request_id, cause, detail, dlt_partition, \
     dlt_offset) SELECT $1::int, log_offset, code, request, cause, detail, dlt_partition, dlt_offset \
     FROM unnest($2::bigint[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::int[], $8::bigint[]) \
     AS n (log_offset, code, request, cause, detail, dlt_partition, dlt_offset) ON CONFLICT DO NOTHING";

// LIMIT keeps the planner from reading the whole table to join it, which it does as long as it has no statistics of a table that grew by
// hundreds of thousands of rows: 20 times slower.
const HOLDERS: &str = "SELECT n.code, n.member, r.request_id FROM unnest($1::text[], $2::text[]) AS n (code, member) \
     CROSS JOIN LATERAL (SELECT q.request_id FROM coupon_request q WHERE q.coupon_code = n.code AND q.member_id = n.member \
     AND q.outcome = 'issued' LIMIT 1) r";

const DECIDED: &str = "SELECT n.code, n.request FROM unnest($1::text[], $2::uuid[]) AS n (code, request) \
     CROSS JOIN LATERAL (SELECT 1 FROM coupon_request q WHERE q.coupon_code = n.code AND q.request_id = n.request LIMIT 1) r";

const COMMANDS: &str = "SELECT command_id FROM coupon_command WHERE command_id = ANY($1)";

const MEMBERS: &str = "SELECT member_id FROM coupon_request WHERE coupon_code = $1 AND outcome = 'issued'";

/// Prepared statements of one connection.
pub(super) struct Statements {
    pub move_position: Statement,
    pub position: Statement,
    pub lock_coupons: Statement,
    pub other_coupons: Statement,
    pub insert_coupons: Statement,
    pub update_coupons: Statement,
    pub move_told: Statement,
    pub insert_commands: Statement,
    pub insert_dead_letters: Statement,
    pub holders: Statement,
    pub decided: Statement,
    pub commands: Statement,
    pub members: Statement,
    pub copy_ledger: Statement,
}

impl Statements {
    /// Prepares all of them in one round trip.
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        // Only rows of this partition are locked: two workers that lock each other's coupons would deadlock.
        let lock = format!(
            "SELECT {COUPON_COLUMNS} FROM coupon c WHERE coupon_code = ANY($1) AND partition = $2 ORDER BY coupon_code FOR UPDATE"
        );
        let other = format!("SELECT {COUPON_COLUMNS} FROM coupon c WHERE coupon_code = ANY($1) AND partition <> $2");
        futures::try_join!(
            client.prepare(MOVE_POSITION),
            client.prepare(POSITION),
            client.prepare(&lock),
            client.prepare(&other),
            client.prepare(INSERT_COUPONS),
            client.prepare(UPDATE_COUPONS),
            client.prepare(MOVE_TOLD),
            client.prepare(INSERT_COMMANDS),
            client.prepare(INSERT_DEAD_LETTERS),
            client.prepare(HOLDERS),
            client.prepare(DECIDED),
            client.prepare(COMMANDS),
            client.prepare(MEMBERS),
            client.prepare(COPY_LEDGER),
        )
        .map(|all| Self {
            move_position: all.0,
            position: all.1,
            lock_coupons: all.2,
            other_coupons: all.3,
            insert_coupons: all.4,
            update_coupons: all.5,
            move_told: all.6,
            insert_commands: all.7,
            insert_dead_letters: all.8,
            holders: all.9,
            decided: all.10,
            commands: all.11,
            members: all.12,
            copy_ledger: all.13,
        })
    }
}
