//! The outbox table.

use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::RunQueryDsl;
use postgres_io::Db;
use serde_json::Value;
use uuid::Uuid;

use crate::error::LineError;

/// A row that was not told yet.
#[derive(Debug, QueryableByName)]
pub(super) struct Waiting {
    #[diesel(sql_type = sql_types::BigInt)]
    pub outbox_id: i64,
    #[diesel(sql_type = sql_types::Uuid)]
    pub event_id: Uuid,
    #[diesel(sql_type = sql_types::Text)]
    pub event_type: String,
    #[diesel(sql_type = sql_types::Text)]
    pub event_key: String,
    #[diesel(sql_type = sql_types::Jsonb)]
    pub payload: Value,
    #[diesel(sql_type = sql_types::Jsonb)]
    pub headers: Value,
    #[diesel(sql_type = sql_types::Double)]
    pub age_s: f64,
}

/// The next rows, lowest ids first, but not the `passed` ones.
pub(super) async fn waiting(db: &Db, passed: &[i64], rows_max: u32) -> Result<Vec<Waiting>, LineError> {
    let mut connection = db.conn().await?;
    Ok(sql_query(
        "SELECT outbox_id, event_id, event_type, event_key, payload, headers, \
         extract(epoch FROM payment_now() - occurred_at)::float8 AS age_s \
         FROM outbox WHERE published_at IS NULL AND outbox_id <> ALL($1) ORDER BY outbox_id LIMIT $2",
    )
    .bind::<sql_types::Array<sql_types::BigInt>, _>(passed)
    .bind::<sql_types::BigInt, _>(i64::from(rows_max))
    .load(&mut connection)
    .await?)
}

/// Marks rows as told.
pub(super) async fn mark(db: &Db, told: &[i64]) -> Result<(), LineError> {
    let mut connection = db.conn().await?;
    sql_query("UPDATE outbox SET published_at = payment_now() WHERE outbox_id = ANY($1) AND published_at IS NULL")
        .bind::<sql_types::Array<sql_types::BigInt>, _>(told)
        .execute(&mut connection)
        .await?;
    Ok(())
}

/// Deletes up to `rows_max` rows that were told more than `hours` ago; how many. They are picked as an array: joined to them, the whole table is
/// read for each statement.
pub(super) async fn delete_old(db: &Db, hours: u32, rows_max: u32) -> Result<usize, LineError> {
    let mut connection = db.conn().await?;
    Ok(sql_query(
        "DELETE FROM outbox WHERE outbox_id = ANY (ARRAY(SELECT outbox_id FROM outbox \
         WHERE published_at < payment_now() - $1 * interval '1 hour' ORDER BY published_at LIMIT $2))",
    )
    .bind::<sql_types::BigInt, _>(i64::from(hours))
    .bind::<sql_types::BigInt, _>(i64::from(rows_max))
    .execute(&mut connection)
    .await?)
}
