//! What moved in a time, for the accountant.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::RunQueryDsl;
use postgres_io::Db;
use serde::Serialize;

use super::auditor::Span;
use crate::error::LineError;

/// Entries that one statement adds up.
const PAGE: i64 = 20_000;

/// The sums of a page of entries in the order of time, behind an entry, with where it ends. Whose they are is looked up for the page alone.
const SUMS: &str = "WITH page AS MATERIALIZED (SELECT entry_id, payment_id, coalesce(pg_at, recorded_at) AS moved_at, kind, amount, currency \
        FROM money_entry WHERE (coalesce(pg_at, recorded_at), entry_id) > ($1, $2) AND coalesce(pg_at, recorded_at) < $3 \
        ORDER BY coalesce(pg_at, recorded_at), entry_id LIMIT $4), \
    whole AS (SELECT count(*) AS entries FROM page), \
    last AS (SELECT moved_at, entry_id FROM page ORDER BY moved_at DESC, entry_id DESC LIMIT 1) \
    SELECT p.provider, m.currency, m.kind, count(*) AS movements, sum(m.amount)::text AS amount, w.entries, l.moved_at, l.entry_id \
    FROM page m CROSS JOIN LATERAL (SELECT provider FROM payment WHERE payment_id = m.payment_id LIMIT 1) p CROSS JOIN whole w CROSS JOIN last l \
    GROUP BY p.provider, m.currency, m.kind, w.entries, l.moved_at, l.entry_id";

#[derive(QueryableByName)]
struct Sum {
    #[diesel(sql_type = sql_types::Text)]
    provider: String,
    #[diesel(sql_type = sql_types::Text)]
    currency: String,
    #[diesel(sql_type = sql_types::Text)]
    kind: String,
    #[diesel(sql_type = sql_types::BigInt)]
    movements: i64,
    #[diesel(sql_type = sql_types::Text)]
    amount: String,
    #[diesel(sql_type = sql_types::BigInt)]
    entries: i64,
    #[diesel(sql_type = sql_types::Timestamptz)]
    moved_at: DateTime<Utc>,
    #[diesel(sql_type = sql_types::BigInt)]
    entry_id: i64,
}

/// What moved in a time, by gateway and currency; amounts in minor units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DayTotal {
    /// The gateway.
    pub provider: String,
    /// Of what.
    pub currency: String,
    /// How many captures.
    pub captures: i64,
    /// Their sum, less captures that were taken back.
    pub captured: String,
    /// How many refunds.
    pub refunds: i64,
    /// Their sum.
    pub refunded: String,
    /// How many refunds came back.
    pub reversals: i64,
    /// Their sum.
    pub reversed: String,
    /// Captures and reversals less refunds.
    pub net: String,
}

/// Movements of one kind.
#[derive(Debug, Clone, Copy, Default)]
struct Moved {
    count: i64,
    amount: i128,
}

/// Captures, refunds and reversals.
type Kinds = [Moved; 3];

/// What moved in a time, by the gateways' clocks where they say when, else by when it was learnt of. Sums are texts: they may be
/// longer than what JSON's readers count exactly.
///
/// # Errors
/// PostgreSQL, or a sum beyond all bounds.
pub async fn totals(db: &Db, span: Span) -> Result<Vec<DayTotal>, LineError> {
    let mut connection = db.conn().await?;
    let mut all: BTreeMap<(String, String), Kinds> = BTreeMap::new();
    let (mut at, mut id) = (span.from, i64::MIN);
    loop {
        let sums: Vec<Sum> = sql_query(SUMS)
            .bind::<sql_types::Timestamptz, _>(at)
            .bind::<sql_types::BigInt, _>(id)
            .bind::<sql_types::Timestamptz, _>(span.to)
            .bind::<sql_types::BigInt, _>(PAGE)
            .load(&mut connection)
            .await?;
        let Some(first) = sums.as_slice().first() else { break };
        let is_last = first.entries < PAGE;
        (at, id) = (first.moved_at, first.entry_id);
        for sum in sums {
            add(&mut all, sum)?;
        }
        if is_last {
            break;
        }
    }
    all.into_iter().map(total).collect()
}

fn too_large() -> LineError {
    LineError::Row("a sum of the book is beyond all bounds".to_owned())
}

fn add(all: &mut BTreeMap<(String, String), Kinds>, sum: Sum) -> Result<(), LineError> {
    let [captures, refunds, reversals] = all.entry((sum.provider, sum.currency)).or_default();
    let amount: i128 = sum.amount.parse().map_err(|_| too_large())?;
    let (moved, count, amount) = match sum.kind.as_str() {
        "capture" => (captures, sum.movements, amount),
        "capture_reversed" => (captures, 0, -amount),
        "refund" => (refunds, sum.movements, amount),
        _ => (reversals, sum.movements, amount),
    };
    moved.count = moved.count.saturating_add(count);
    moved.amount = moved.amount.checked_add(amount).ok_or_else(too_large)?;
    Ok(())
}

fn total(((provider, currency), [captures, refunds, reversals]): ((String, String), Kinds)) -> Result<DayTotal, LineError> {
    let net = captures.amount.checked_add(reversals.amount).and_then(|came| came.checked_sub(refunds.amount));
    Ok(DayTotal {
        provider,
        currency,
        captures: captures.count,
        captured: captures.amount.to_string(),
        refunds: refunds.count,
        refunded: refunds.amount.to_string(),
        reversals: reversals.count,
        reversed: reversals.amount.to_string(),
        net: net.ok_or_else(too_large)?.to_string(),
    })
}
