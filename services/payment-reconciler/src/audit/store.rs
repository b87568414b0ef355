//! Reports of audits, kept.

use chrono::{DateTime, Utc};
use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::RunQueryDsl;
use postgres_io::Db;

use super::auditor::{AuditReport, Span};
use crate::error::LineError;

/// Keeps a report.
pub(super) async fn keep(db: &Db, report: &AuditReport) -> Result<(), LineError> {
    let differences = serde_json::to_value(&report.differences).map_err(|error| LineError::Row(error.to_string()))?;
    let mut connection = db.conn().await?;
    sql_query(
        "INSERT INTO payment_audit (provider, from_at, to_at, verdict, compared, differences, actor, started_at, reason, confirmed, left_out, \
            settled_by, finished_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, payment_now())",
    )
    .bind::<sql_types::Text, _>(&report.provider)
    .bind::<sql_types::Timestamptz, _>(report.from)
    .bind::<sql_types::Timestamptz, _>(report.to)
    .bind::<sql_types::Text, _>(report.verdict)
    .bind::<sql_types::BigInt, _>(count(report.compared))
    .bind::<sql_types::Jsonb, _>(differences)
    .bind::<sql_types::Text, _>(&report.actor)
    .bind::<sql_types::Timestamptz, _>(report.started_at)
    .bind::<sql_types::Nullable<sql_types::Text>, _>(report.reason.as_deref())
    .bind::<sql_types::BigInt, _>(count(report.confirmed))
    .bind::<sql_types::BigInt, _>(count(report.left_out))
    .bind::<sql_types::Timestamptz, _>(report.settled_by)
    .execute(&mut connection)
    .await?;
    Ok(())
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
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

/// Whether this time was audited to an end already, by itself or as a part of a longer one, with nothing left out of it because it was too young, or tried in vain less than `retry_after_minutes` ago.
pub(super) async fn is_made(db: &Db, provider: &str, span: Span, retry_after_minutes: u32) -> Result<bool, LineError> {
    let mut connection = db.conn().await?;
    let row: MadeRow = sql_query(
        "SELECT EXISTS (SELECT FROM payment_audit WHERE provider = $1 AND from_at <= $2 AND to_at >= $3 AND coalesce(settled_by >= $3, true) \
         AND (verdict <> 'cannot_tell' OR (from_at = $2 AND to_at = $3 AND finished_at > payment_now() - $4 * interval '1 minute'))) AS made",
    )
    .bind::<sql_types::Text, _>(provider)
    .bind::<sql_types::Timestamptz, _>(span.from)
    .bind::<sql_types::Timestamptz, _>(span.to)
    .bind::<sql_types::BigInt, _>(i64::from(retry_after_minutes))
    .get_result(&mut connection)
    .await?;
    Ok(row.made)
}
