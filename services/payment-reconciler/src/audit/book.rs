//! The book as an audit reads it: by time and by payment, each by an index and a page at a time, so that its cost grows with the piece that is
//! audited and not with the book.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::RunQueryDsl;
use domain::payment::PgTransactionKind;
use postgres_io::Db;

use super::{auditor::Span, compare::Entry};
use crate::error::LineError;

/// Entries of a page.
const PAGE: i64 = 5_000;
/// References that one statement looks for.
const REFERENCES_AT_ONCE: usize = 500;

/// A page of all gateways' entries of a time, in its order, behind an entry. Whose they are is looked up for the page alone: the join must never
/// be with all payments.
const BY_TIME: &str = "SELECT m.entry_id, m.moved_at, p.provider = $1 AND m.kind <> 'capture_reversed' AS is_ours, p.reference, m.kind, m.pg_transaction_id, m.amount, m.currency, \
        true AS inside \
    FROM (SELECT entry_id, payment_id, coalesce(pg_at, recorded_at) AS moved_at, kind, pg_transaction_id, amount, currency FROM money_entry \
        WHERE (coalesce(pg_at, recorded_at), entry_id) > ($2, $3) AND coalesce(pg_at, recorded_at) < $4 \
        ORDER BY coalesce(pg_at, recorded_at), entry_id LIMIT $5) m \
    CROSS JOIN LATERAL (SELECT provider, reference FROM payment WHERE payment_id = m.payment_id LIMIT 1) p \
    ORDER BY m.moved_at, m.entry_id";

/// The entries of these payments, whenever they moved.
const BY_REFERENCE: &str = "SELECT m.entry_id, coalesce(m.pg_at, m.recorded_at) AS moved_at, true AS is_ours, p.reference, m.kind, \
        m.pg_transaction_id, m.amount, m.currency, \
        coalesce(m.pg_at, m.recorded_at) >= $3 AND coalesce(m.pg_at, m.recorded_at) < $4 AS inside \
    FROM payment p JOIN money_entry m ON m.payment_id = p.payment_id WHERE p.provider = $1 AND p.reference = ANY($2) AND m.kind <> 'capture_reversed' LIMIT $5";

#[derive(QueryableByName)]
struct EntryRow {
    #[diesel(sql_type = sql_types::BigInt)]
    entry_id: i64,
    #[diesel(sql_type = sql_types::Timestamptz)]
    moved_at: DateTime<Utc>,
    #[diesel(sql_type = sql_types::Bool)]
    is_ours: bool,
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

impl From<EntryRow> for Entry {
    fn from(row: EntryRow) -> Self {
        Self {
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
        }
    }
}

/// Entries of a time at a gateway, and all entries of these references, so that a line finds its entry wherever it stands in time. With
/// `rows_max` of them it stops: there may be more.
pub(super) async fn entries(
    db: &Db,
    provider: &str,
    span: Span,
    references: &[String],
    rows_max: usize,
) -> Result<Vec<Entry>, LineError> {
    let mut connection = db.conn().await?;
    let mut entries: BTreeMap<i64, Entry> = BTreeMap::new();
    // No entry has such a number: the first page begins with the time.
    let (mut at, mut id) = (span.from, i64::MIN);
    loop {
        let page: Vec<EntryRow> = sql_query(BY_TIME)
            .bind::<sql_types::Text, _>(provider)
            .bind::<sql_types::Timestamptz, _>(at)
            .bind::<sql_types::BigInt, _>(id)
            .bind::<sql_types::Timestamptz, _>(span.to)
            .bind::<sql_types::BigInt, _>(PAGE)
            .load(&mut connection)
            .await?;
        let is_last = i64::try_from(page.len()).is_ok_and(|rows| rows < PAGE);
        let Some(last) = page.last() else { break };
        (at, id) = (last.moved_at, last.entry_id);
        entries.extend(page.into_iter().filter(|row| row.is_ours).map(|row| (row.entry_id, row.into())));
        if is_last || entries.len() >= rows_max {
            break;
        }
    }
    for some in references.chunks(REFERENCES_AT_ONCE) {
        let room = rows_max.saturating_sub(entries.len());
        if room == 0 {
            break;
        }
        let rows: Vec<EntryRow> = sql_query(BY_REFERENCE)
            .bind::<sql_types::Text, _>(provider)
            .bind::<sql_types::Array<sql_types::Text>, _>(some)
            .bind::<sql_types::Timestamptz, _>(span.from)
            .bind::<sql_types::Timestamptz, _>(span.to)
            .bind::<sql_types::BigInt, _>(i64::try_from(rows_max).unwrap_or(i64::MAX))
            .load(&mut connection)
            .await?;
        entries.extend(rows.into_iter().map(|row| (row.entry_id, row.into())));
    }
    Ok(entries.into_values().collect())
}

#[derive(QueryableByName)]
struct ReferenceRow {
    #[diesel(sql_type = sql_types::Text)]
    reference: String,
}

/// Which of these references are payments of ours.
pub(super) async fn known(db: &Db, provider: &str, references: &[String]) -> Result<BTreeSet<String>, LineError> {
    let mut connection = db.conn().await?;
    let mut known = BTreeSet::new();
    for some in references.chunks(REFERENCES_AT_ONCE) {
        let rows: Vec<ReferenceRow> = sql_query("SELECT reference FROM payment WHERE provider = $1 AND reference = ANY($2)")
            .bind::<sql_types::Text, _>(provider)
            .bind::<sql_types::Array<sql_types::Text>, _>(some)
            .load(&mut connection)
            .await?;
        known.extend(rows.into_iter().map(|row| row.reference));
    }
    Ok(known)
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
