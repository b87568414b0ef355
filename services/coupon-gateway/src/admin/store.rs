//! What the operators' interface reads from PostgreSQL.

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Integer, Nullable, Text, Timestamptz, Uuid},
};
use diesel_async::RunQueryDsl;
use domain::{
    clock::Timestamp,
    coupon::CommandOutcome,
    ids::{CommandId, CouponCode},
};
use serde::Serialize;

use crate::{coupons::CouponView, error::ApiError, state::AppState, store::load_coupons};

const COMMAND: &str = "SELECT command_id, coupon_code, kind, actor, partition, log_offset, appended_at, decided_at, outcome, payload::text AS payload \
    FROM coupon_command";

#[derive(QueryableByName)]
struct OutcomeRow {
    #[diesel(sql_type = Text)]
    outcome: String,
}

#[derive(QueryableByName)]
struct CodeRow {
    #[diesel(sql_type = Text)]
    coupon_code: String,
}

#[derive(QueryableByName)]
struct CommandRow {
    #[diesel(sql_type = Uuid)]
    command_id: uuid::Uuid,
    #[diesel(sql_type = Text)]
    coupon_code: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    actor: String,
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = BigInt)]
    log_offset: i64,
    #[diesel(sql_type = Timestamptz)]
    appended_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    decided_at: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    outcome: String,
    #[diesel(sql_type = Nullable<Text>)]
    payload: Option<String>,
}

/// A command as operators see it: who did what, when, and what became of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Command {
    command_id: uuid::Uuid,
    code: String,
    kind: String,
    actor: String,
    status: &'static str,
    outcome: String,
    partition: i32,
    /// Its place in the log, by which pages go on.
    pub offset: i64,
    appended_at: String,
    decided_at: String,
    payload: serde_json::Value,
}

impl From<CommandRow> for Command {
    fn from(row: CommandRow) -> Self {
        let time = |at: DateTime<Utc>| Timestamp::from(at).to_string();
        Self {
            command_id: row.command_id,
            code: row.coupon_code,
            kind: row.kind,
            actor: row.actor,
            status: if row.outcome == CommandOutcome::Accepted.as_str() { "accepted" } else { "refused" },
            outcome: row.outcome,
            partition: row.partition,
            offset: row.log_offset,
            appended_at: time(row.appended_at),
            decided_at: time(row.decided_at),
            payload: row.payload.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
        }
    }
}

fn failed(error: &dyn std::fmt::Display) -> ApiError {
    tracing::warn!(%error, "PostgreSQL gave no answer to an operator's call");
    ApiError::DatabaseUnavailable
}

/// The coupon as it is now, past the cache.
///
/// # Errors
/// No answer.
pub async fn coupon(app: &AppState, code: &CouponCode) -> Result<Option<CouponView>, ApiError> {
    Ok(load_coupons(app, std::slice::from_ref(code)).await?.into_iter().next())
}

/// What became of a command, if it is decided.
///
/// # Errors
/// No answer.
pub async fn command_outcome(app: &AppState, id: CommandId) -> Result<Option<CommandOutcome>, ApiError> {
    let mut conn = app.db.conn().await.map_err(|error| failed(&error))?;
    let rows: Vec<OutcomeRow> = sql_query("SELECT outcome FROM coupon_command WHERE command_id = $1")
        .bind::<Uuid, _>(id.uuid())
        .load(&mut conn)
        .await
        .map_err(|error| failed(&error))?;
    rows.into_iter().next().map(|row| row.outcome.parse().map_err(|error: String| failed(&error))).transpose()
}

#[derive(QueryableByName)]
struct PositionRow {
    #[diesel(sql_type = BigInt)]
    next_offset: i64,
}

/// The next record of a partition to be decided; 0 before the first.
///
/// # Errors
/// No answer.
pub async fn next_offset(app: &AppState, partition: i32) -> Result<i64, ApiError> {
    let mut conn = app.db.conn().await.map_err(|error| failed(&error))?;
    let rows: Vec<PositionRow> = sql_query("SELECT next_offset FROM consumer_position WHERE topic = $1 AND partition = $2")
        .bind::<Text, _>(&app.settings.kafka.topics.created)
        .bind::<Integer, _>(partition)
        .load(&mut conn)
        .await
        .map_err(|error| failed(&error))?;
    Ok(rows.into_iter().next().map_or(0, |row| row.next_offset))
}

/// A decided command.
///
/// # Errors
/// No answer.
pub async fn command(app: &AppState, id: CommandId) -> Result<Option<Command>, ApiError> {
    let mut conn = app.db.conn().await.map_err(|error| failed(&error))?;
    let rows: Vec<CommandRow> = sql_query(format!("{COMMAND} WHERE command_id = $1"))
        .bind::<Uuid, _>(id.uuid())
        .load(&mut conn)
        .await
        .map_err(|error| failed(&error))?;
    Ok(rows.into_iter().next().map(Command::from))
}

/// A page of a coupon's commands, in log order, behind the offset `after`.
///
/// # Errors
/// No answer.
pub async fn commands(app: &AppState, code: &CouponCode, after: i64, limit: i64) -> Result<Vec<Command>, ApiError> {
    let mut conn = app.db.conn().await.map_err(|error| failed(&error))?;
    let rows: Vec<CommandRow> =
        sql_query(format!("{COMMAND} WHERE coupon_code = $1 AND log_offset > $2 ORDER BY log_offset LIMIT $3"))
            .bind::<Text, _>(code.as_str())
            .bind::<BigInt, _>(after)
            .bind::<BigInt, _>(limit)
            .load(&mut conn)
            .await
            .map_err(|error| failed(&error))?;
    Ok(rows.into_iter().map(Command::from).collect())
}

/// A page of coupons by code, behind the code `after`.
///
/// # Errors
/// No answer.
pub async fn coupons(app: &AppState, after: &str, limit: i64) -> Result<Vec<CouponView>, ApiError> {
    let mut conn = app.db.conn().await.map_err(|error| failed(&error))?;
    let rows: Vec<CodeRow> = sql_query("SELECT coupon_code FROM coupon WHERE coupon_code > $1 ORDER BY coupon_code LIMIT $2")
        .bind::<Text, _>(after)
        .bind::<BigInt, _>(limit)
        .load(&mut conn)
        .await
        .map_err(|error| failed(&error))?;
    drop(conn);
    let codes = rows.iter().map(|row| CouponCode::new(&row.coupon_code)).collect::<Result<Vec<_>, _>>();
    let codes = codes.map_err(|error| failed(&error))?;
    let mut views = load_coupons(app, &codes).await?;
    views.sort_by(|a, b| a.coupon.code.cmp(&b.coupon.code));
    Ok(views)
}
