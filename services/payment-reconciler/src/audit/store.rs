//! The book, as the audit and the accountant read it.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::RunQueryDsl;
use domain::payment::PgTransactionKind;
use postgres_io::Db;
use serde::Serialize;

use super::{
    auditor::{AuditReport, Span},
    compare::Entry,
};
use crate::error::LineError;

#[derive(QueryableByName)]
struct EntryRow {
    #[diesel(sql_type = sql_types::BigInt)]
    entry_id: i64,
    #[diesel(sql_type = sql_types::Text)]
    reference: String,
    #[diesel(sql_type = sql_types::Text)]
    kind: String,
    #[diesel(sql_type = sql_types::Text)]
    pg_transaction_id: String,
    #[diesel(sql_type = sql_types::BigInt)]
    amount: i64,
    #[diesel(sql_type = sql_types::Text)]
    currency: String,
    #[diesel(sql_type = sql_types::Bool)]
    inside: bool,
}

/// Entries of a time at a gateway, and all entries of these references, so that a line finds its entry wherever it stands in time.
pub(super) async fn entries(
    db: &Db,
    provider: &str,
    span: Span,
    references: &[String],
    rows_max: i64,
) -> Result<Vec<Entry>, LineError> {
    let mut connection = db.conn().await?;
    let rows: Vec<EntryRow> = sql_query(
        "SELECT m.entry_id, p.reference, m.kind, m.pg_transaction_id, m.amount, m.currency, \
            coalesce(m.pg_at, m.recorded_at) >= $2 AND coalesce(m.pg_at, m.recorded_at) < $3 AS inside \
         FROM money_entry m JOIN payment p ON p.payment_id = m.payment_id \
         WHERE p.provider = $1 AND m.kind <> 'capture_reversed' AND (p.reference = ANY($4) \
            OR (coalesce(m.pg_at, m.recorded_at) >= $2 AND coalesce(m.pg_at, m.recorded_at) < $3)) \
         ORDER BY m.entry_id LIMIT $5",
    )
    .bind::<sql_types::Text, _>(provider)
    .bind::<sql_types::Timestamptz, _>(span.from)
    .bind::<sql_types::Timestamptz, _>(span.to)
    .bind::<sql_types::Array<sql_types::Text>, _>(references)
    .bind::<sql_types::BigInt, _>(rows_max)
    .load(&mut connection)
    .await?;
    let entry = |row: EntryRow| Entry {
        id: row.entry_id,
        reference: row.reference,
        kind: match row.kind.as_str() {
            "capture" => PgTransactionKind::Payment,
            "refund" => PgTransactionKind::Refund,
            _ => PgTransactionKind::RefundReversed,
        },
        transaction_id: row.pg_transaction_id,
        amount: row.amount,
        currency: row.currency,
        inside: row.inside,
    };
    Ok(rows.into_iter().map(entry).collect())
}

#[derive(QueryableByName)]
struct ReferenceRow {
    #[diesel(sql_type = sql_types::Text)]
    reference: String,
}

/// Which of these references are payments of ours.
pub(super) async fn known(db: &Db, provider: &str, references: &[String]) -> Result<BTreeSet<String>, LineError> {
    let mut connection = db.conn().await?;
    let rows: Vec<ReferenceRow> = sql_query("SELECT reference FROM payment WHERE provider = $1 AND reference = ANY($2)")
        .bind::<sql_types::Text, _>(provider)
        .bind::<sql_types::Array<sql_types::Text>, _>(references)
        .load(&mut connection)
        .await?;
    Ok(rows.into_iter().map(|row| row.reference).collect())
}

#[derive(QueryableByName)]
struct BookRow {
    #[diesel(sql_type = sql_types::BigInt)]
    captured: i64,
    #[diesel(sql_type = sql_types::BigInt)]
    refunded: i64,
}

/// What the book says of a payment in all: what came, and what of it is back.
pub(super) async fn book_of(db: &Db, provider: &str, reference: &str, currency: &str) -> Result<(i64, i64), LineError> {
    let mut connection = db.conn().await?;
    let row: BookRow = sql_query(
        "SELECT coalesce(sum(CASE m.kind WHEN 'capture' THEN m.amount WHEN 'capture_reversed' THEN -m.amount END), 0)::bigint AS captured, \
            coalesce(sum(CASE m.kind WHEN 'refund' THEN m.amount WHEN 'reversal' THEN -m.amount END), 0)::bigint AS refunded \
         FROM money_entry m JOIN payment p ON p.payment_id = m.payment_id \
         WHERE p.provider = $1 AND p.reference = $2 AND m.currency = $3",
    )
    .bind::<sql_types::Text, _>(provider)
    .bind::<sql_types::Text, _>(reference)
    .bind::<sql_types::Text, _>(currency)
    .get_result(&mut connection)
    .await?;
    Ok((row.captured, row.refunded))
}

/// Keeps a report.
pub(super) async fn keep(db: &Db, report: &AuditReport) -> Result<(), LineError> {
    let differences = serde_json::to_value(&report.differences).map_err(|error| LineError::Row(error.to_string()))?;
    let mut connection = db.conn().await?;
    sql_query(
        "INSERT INTO payment_audit (provider, from_at, to_at, verdict, compared, differences, actor, started_at, finished_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, payment_now())",
    )
    .bind::<sql_types::Text, _>(&report.provider)
    .bind::<sql_types::Timestamptz, _>(report.from)
    .bind::<sql_types::Timestamptz, _>(report.to)
    .bind::<sql_types::Text, _>(report.verdict)
    .bind::<sql_types::BigInt, _>(i64::try_from(report.compared).unwrap_or(i64::MAX))
    .bind::<sql_types::Jsonb, _>(differences)
    .bind::<sql_types::Text, _>(&report.actor)
    .bind::<sql_types::Timestamptz, _>(report.started_at)
    .execute(&mut connection)
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct NowRow {
    #[diesel(sql_type = sql_types::Timestamptz)]
    now: DateTime<Utc>,
}

/// The line's time.
pub(super) async fn now(db: &Db) -> Result<DateTime<Utc>, LineError> {
    let mut connection = db.conn().await?;
    let row: NowRow = sql_query("SELECT payment_now() AS now").get_result(&mut connection).await?;
    Ok(row.now)
}

#[derive(QueryableByName)]
struct MadeRow {
    #[diesel(sql_type = sql_types::Bool)]
    made: bool,
}

/// Whether this time was audited to an end already, or tried in vain too short ago.
pub(super) async fn is_made(db: &Db, provider: &str, span: Span) -> Result<bool, LineError> {
    let mut connection = db.conn().await?;
    let row: MadeRow = sql_query(
        "SELECT EXISTS (SELECT FROM payment_audit WHERE provider = $1 AND from_at = $2 AND to_at = $3 \
         AND (verdict <> 'cannot_tell' OR finished_at > payment_now() - interval '30 minutes')) AS made",
    )
    .bind::<sql_types::Text, _>(provider)
    .bind::<sql_types::Timestamptz, _>(span.from)
    .bind::<sql_types::Timestamptz, _>(span.to)
    .get_result(&mut connection)
    .await?;
    Ok(row.made)
}

/// What moved in a time, by gateway and currency; amounts in minor units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, QueryableByName)]
#[serde(rename_all = "camelCase")]
pub struct DayTotal {
    /// The gateway.
    #[diesel(sql_type = sql_types::Text)]
    pub provider: String,
    /// Of what.
    #[diesel(sql_type = sql_types::Text)]
    pub currency: String,
    /// How many captures.
    #[diesel(sql_type = sql_types::BigInt)]
    pub captures: i64,
    /// Their sum, less captures that were taken back.
    #[diesel(sql_type = sql_types::Text)]
    pub captured: String,
    /// How many refunds.
    #[diesel(sql_type = sql_types::BigInt)]
    pub refunds: i64,
    /// Their sum.
    #[diesel(sql_type = sql_types::Text)]
    pub refunded: String,
    /// How many refunds came back.
    #[diesel(sql_type = sql_types::BigInt)]
    pub reversals: i64,
    /// Their sum.
    #[diesel(sql_type = sql_types::Text)]
    pub reversed: String,
    /// Captures and reversals less refunds.
    #[diesel(sql_type = sql_types::Text)]
    pub net: String,
}

/// What moved in a time, by the gateways' clocks where they say when, else by when it was learnt of. Sums are texts: they may be
/// longer than what JSON's readers count exactly.
///
/// # Errors
/// PostgreSQL.
pub async fn totals(db: &Db, span: Span) -> Result<Vec<DayTotal>, LineError> {
    let mut connection = db.conn().await?;
    Ok(sql_query(
        "SELECT p.provider, m.currency, \
            count(*) FILTER (WHERE m.kind = 'capture') AS captures, \
            coalesce(sum(CASE m.kind WHEN 'capture' THEN m.amount WHEN 'capture_reversed' THEN -m.amount END), 0)::text AS captured, \
            count(*) FILTER (WHERE m.kind = 'refund') AS refunds, coalesce(sum(m.amount) FILTER (WHERE m.kind = 'refund'), 0)::text AS refunded, \
            count(*) FILTER (WHERE m.kind = 'reversal') AS reversals, coalesce(sum(m.amount) FILTER (WHERE m.kind = 'reversal'), 0)::text AS reversed, \
            sum(money_entry_signed(m.kind, m.amount))::text AS net \
         FROM money_entry m JOIN payment p ON p.payment_id = m.payment_id \
         WHERE coalesce(m.pg_at, m.recorded_at) >= $1 AND coalesce(m.pg_at, m.recorded_at) < $2 \
         GROUP BY p.provider, m.currency ORDER BY p.provider, m.currency",
    )
    .bind::<sql_types::Timestamptz, _>(span.from)
    .bind::<sql_types::Timestamptz, _>(span.to)
    .load(&mut connection)
    .await?)
}
