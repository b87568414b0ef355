//! Lists and single rows, put together by PostgreSQL as JSON.

use diesel::{OptionalExtension, QueryableByName, sql_query, sql_types};
use diesel_async::RunQueryDsl;
use postgres_io::Db;
use serde_json::Value;

use crate::error::LineError;

#[derive(QueryableByName)]
struct Json {
    #[diesel(sql_type = sql_types::Jsonb)]
    json: Value,
}

/// A payment as operators see it; no secret is in it.
const PAYMENT: &str = "jsonb_build_object('paymentId', p.payment_id, 'provider', p.provider, 'reference', p.reference, 'method', p.method, \
    'state', p.state, 'nextCheckAt', p.next_check_at, 'hintedAt', p.hinted_at, 'checks', p.checks, 'failedChecks', p.failed_checks, \
    'checkedAt', p.checked_at, 'answeredAt', p.answered_at, 'lastStatus', p.last_status, 'lastError', p.last_error, \
    'expiresAt', p.pg_expires_at, 'sweepUntil', p.sweep_until, 'attention', p.attention_reason, 'attentionSince', p.attention_since)";

const ORDER: &str = "'orderId', o.order_id, 'state', o.state, 'reason', o.reason, 'amount', o.amount, 'currency', o.currency, \
    'createdAt', o.created_at, 'receivedAt', o.received_at, 'updatedAt', o.updated_at";

const REFUND: &str = "jsonb_build_object('refundId', r.refund_id, 'paymentId', r.payment_id, 'orderId', p.order_id, 'provider', p.provider, \
    'amount', r.amount, 'currency', r.currency, 'reason', r.reason, 'actor', r.actor, 'automatic', r.automatic, 'restock', r.restock, \
    'state', r.state, 'attempt', r.attempt, 'sends', r.sends, 'gatewayRefundId', r.pg_refund_id, 'held', r.held, 'heldReason', r.held_reason, \
    'heldBy', r.held_by, 'createdAt', r.created_at, 'confirmedAt', r.confirmed_at, 'lastError', r.last_error, 'attention', p.attention_reason)";

/// Which refunds a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refunds {
    /// Not confirmed.
    Open,
    /// Held.
    Held,
    /// Those that need a person.
    Manual,
    /// All.
    All,
}

impl Refunds {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "open" => Some(Self::Open),
            "held" => Some(Self::Held),
            "manual" => Some(Self::Manual),
            "all" => Some(Self::All),
            _ => None,
        }
    }

    const fn condition(self) -> &'static str {
        match self {
            Self::Open => "r.state <> 'CONFIRMED'",
            // What is confirmed is held no more; said so, the few open ones are all that is looked at.
            Self::Held => "r.held AND r.state <> 'CONFIRMED'",
            Self::Manual => "r.state = 'MANUAL'",
            Self::All => "true",
        }
    }
}

/// Orders that stand still: PENDING for too long, or with a payment that an operator should look at. The oldest first.
pub(super) async fn stale(db: &Db, stale_s: u32, after: &str, rows_max: i64) -> Result<Vec<Value>, LineError> {
    // The cursor is the last row's id; its time is looked up, so that nobody has to know how the list is sorted. What is open and what needs a person are
    // found by an index each: orders that came to rest, which are nearly all, are not looked at.
    let query = format!(
        "WITH after AS MATERIALIZED (SELECT CASE WHEN $2 = '' THEN '-infinity' ELSE (SELECT created_at FROM customer_order WHERE order_id = $2) END AS at), \
         pending AS (SELECT o.created_at, o.order_id FROM customer_order o \
            WHERE o.state = 'PENDING' AND o.created_at <= payment_now() - $1 * interval '1 second' \
            AND o.created_at >= (SELECT at FROM after) AND (o.created_at, o.order_id) > ((SELECT at FROM after), $2) \
            ORDER BY o.created_at, o.order_id LIMIT $3), \
         attention AS (SELECT DISTINCT o.created_at, o.order_id FROM payment p \
            CROSS JOIN LATERAL (SELECT created_at, order_id FROM customer_order WHERE order_id = p.order_id LIMIT 1) o \
            WHERE p.attention AND (o.created_at, o.order_id) > ((SELECT at FROM after), $2) \
            ORDER BY o.created_at, o.order_id LIMIT $3), \
         page AS (SELECT * FROM pending UNION SELECT * FROM attention ORDER BY created_at, order_id LIMIT $3) \
         SELECT jsonb_build_object({ORDER}, 'payments', \
            (SELECT coalesce(jsonb_agg({PAYMENT} ORDER BY p.created_at, p.payment_id), '[]') FROM payment p WHERE p.order_id = o.order_id)) AS json \
         FROM page CROSS JOIN LATERAL (SELECT * FROM customer_order WHERE order_id = page.order_id LIMIT 1) o \
         ORDER BY o.created_at, o.order_id"
    );
    let mut connection = db.conn().await?;
    let rows: Vec<Json> = sql_query(query)
        .bind::<sql_types::BigInt, _>(i64::from(stale_s))
        .bind::<sql_types::Text, _>(after)
        .bind::<sql_types::BigInt, _>(rows_max)
        .load(&mut connection)
        .await?;
    Ok(rows.into_iter().map(|row| row.json).collect())
}

/// An order with everything around it.
pub(super) async fn order(db: &Db, id: &str) -> Result<Option<Value>, LineError> {
    let query = format!(
        "SELECT jsonb_build_object({ORDER}, \
            'lines', (SELECT coalesce(jsonb_agg(jsonb_build_object('productId', l.product_id, 'quantity', l.quantity, 'stock', d.stock) \
                ORDER BY l.product_id), '[]') FROM order_line l LEFT JOIN product d ON d.product_id = l.product_id WHERE l.order_id = o.order_id), \
            'payments', (SELECT coalesce(jsonb_agg({PAYMENT} ORDER BY p.created_at, p.payment_id), '[]') FROM payment p WHERE p.order_id = o.order_id), \
            'refunds', (SELECT coalesce(jsonb_agg({REFUND} ORDER BY r.created_at, r.refund_id), '[]') \
                FROM refund r JOIN payment p ON p.payment_id = r.payment_id WHERE p.order_id = o.order_id), \
            'money', (SELECT coalesce(jsonb_agg(jsonb_build_object('paymentId', m.payment_id, 'kind', m.kind, 'transactionId', m.pg_transaction_id, \
                'amount', m.amount, 'currency', m.currency, 'at', m.pg_at, 'recordedAt', m.recorded_at, 'actor', m.actor) ORDER BY m.entry_id), '[]') \
                FROM money_entry m JOIN payment p ON p.payment_id = m.payment_id WHERE p.order_id = o.order_id), \
            'callbacks', (SELECT count(*) FROM payment_callback c JOIN payment p ON p.payment_id = c.payment_id WHERE p.order_id = o.order_id), \
            'actions', (SELECT coalesce(jsonb_agg(jsonb_build_object('actor', a.actor, 'action', a.action, 'target', a.target, 'reason', a.reason, \
                'outcome', a.outcome, 'at', a.acted_at) ORDER BY a.action_id), '[]') FROM operator_action a WHERE a.target = o.order_id \
                OR a.target IN (SELECT r.refund_id FROM refund r JOIN payment p ON p.payment_id = r.payment_id WHERE p.order_id = o.order_id))) AS json \
         FROM customer_order o WHERE o.order_id = $1"
    );
    let mut connection = db.conn().await?;
    let row: Option<Json> = sql_query(query).bind::<sql_types::Text, _>(id).get_result(&mut connection).await.optional()?;
    Ok(row.map(|row| row.json))
}

/// Refunds, the oldest first.
pub(super) async fn refunds(db: &Db, which: Refunds, after: &str, rows_max: i64) -> Result<Vec<Value>, LineError> {
    let condition = which.condition();
    // As in the list of orders: a page by an index, then whose they are, for the page alone.
    let query = format!(
        "WITH after AS MATERIALIZED (SELECT CASE WHEN $1 = '' THEN '-infinity' ELSE (SELECT created_at FROM refund WHERE refund_id = $1) END AS at), \
         page AS (SELECT r.* FROM refund r WHERE {condition} AND r.created_at >= (SELECT at FROM after) \
            AND (r.created_at, r.refund_id) > ((SELECT at FROM after), $1) ORDER BY r.created_at, r.refund_id LIMIT $2) \
         SELECT {REFUND} AS json FROM page r CROSS JOIN LATERAL (SELECT * FROM payment WHERE payment_id = r.payment_id LIMIT 1) p \
         ORDER BY r.created_at, r.refund_id"
    );
    let mut connection = db.conn().await?;
    let rows: Vec<Json> =
        sql_query(query).bind::<sql_types::Text, _>(after).bind::<sql_types::BigInt, _>(rows_max).load(&mut connection).await?;
    Ok(rows.into_iter().map(|row| row.json).collect())
}

/// One refund.
pub(super) async fn refund(db: &Db, id: &str) -> Result<Option<Value>, LineError> {
    let query =
        format!("SELECT {REFUND} AS json FROM refund r JOIN payment p ON p.payment_id = r.payment_id WHERE r.refund_id = $1");
    let mut connection = db.conn().await?;
    let row: Option<Json> = sql_query(query).bind::<sql_types::Text, _>(id).get_result(&mut connection).await.optional()?;
    Ok(row.map(|row| row.json))
}

/// The newest reports of runs.
pub(super) async fn runs(db: &Db, rows_max: i64) -> Result<Vec<Value>, LineError> {
    let query = "SELECT jsonb_build_object('runId', run_id, 'startedAt', started_at, 'finishedAt', finished_at, 'found', found, 'asked', asked, 'looked', looked, \
        'settled', settled, 'failed', failed, 'waiting', waiting, 'refunded', refunded, 'attention', attention, 'errors', errors, \
        'durationMs', duration_ms, 'interrupted', interrupted) AS json FROM payment_run ORDER BY run_id DESC LIMIT $1";
    newest(db, query, rows_max).await
}

/// The newest audits, of one gateway and with one verdict where these are given.
pub(super) async fn audits(
    db: &Db,
    provider: Option<&str>,
    verdict: Option<&str>,
    rows_max: i64,
) -> Result<Vec<Value>, LineError> {
    let query = "SELECT jsonb_build_object('auditId', audit_id, 'provider', provider, 'from', from_at, 'to', to_at, 'verdict', verdict, \
        'reason', reason, 'compared', compared, 'confirmed', confirmed, 'leftOut', left_out, 'settledBy', settled_by, 'differences', differences, \
        'actor', actor, 'startedAt', started_at, 'finishedAt', finished_at) AS json \
        FROM payment_audit WHERE ($1 IS NULL OR provider = $1) AND ($2 IS NULL OR verdict = $2) ORDER BY audit_id DESC LIMIT $3";
    let mut connection = db.conn().await?;
    let rows: Vec<Json> = sql_query(query)
        .bind::<sql_types::Nullable<sql_types::Text>, _>(provider)
        .bind::<sql_types::Nullable<sql_types::Text>, _>(verdict)
        .bind::<sql_types::BigInt, _>(rows_max)
        .load(&mut connection)
        .await?;
    Ok(rows.into_iter().map(|row| row.json).collect())
}

/// Callbacks about payments that never came in: those of which an operator should know first, signed ones before what may be anybody's.
pub(super) async fn unknown_callbacks(db: &Db, rows_max: i64) -> Result<Vec<Value>, LineError> {
    let query = "SELECT jsonb_build_object('provider', provider, 'reference', reference, 'eventId', event_id, 'authenticated', authenticated, \
        'times', times, 'receivedAt', received_at, 'lastReceivedAt', last_received_at, 'attentionSince', attention_since) AS json \
        FROM payment_callback WHERE payment_id IS NULL ORDER BY attention_since IS NULL, authenticated DESC, attention_since, callback_id LIMIT $1";
    newest(db, query, rows_max).await
}

async fn newest(db: &Db, query: &str, rows_max: i64) -> Result<Vec<Value>, LineError> {
    let mut connection = db.conn().await?;
    let rows: Vec<Json> = sql_query(query).bind::<sql_types::BigInt, _>(rows_max).load(&mut connection).await?;
    Ok(rows.into_iter().map(|row| row.json).collect())
}
