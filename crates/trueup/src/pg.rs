//! The operator's questions to the database, in SQL of their own: an audit that asked through the services' code could share their mistakes.

use anyhow::Context;
use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, QueryableByName, sql_query,
    sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::settings::Settings;

/// A connection of the pool.
pub type Connection = postgres_io::Connection;

/// Takes a connection.
///
/// # Errors
/// The database cannot be reached; the message says what to set.
pub async fn connection(db: &postgres_io::Db, settings: &Settings) -> anyhow::Result<Connection> {
    db.conn().await.with_context(|| settings.postgres_hint())
}

/// A row of `coupon`.
#[derive(Debug, Clone, QueryableByName)]
#[diesel(check_for_backend(diesel::pg::Pg))]
pub struct CouponRow {
    /// A name for people.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// `reserved` or `queued`.
    #[diesel(sql_type = Text)]
    pub admission: String,
    /// The partition of its log.
    #[diesel(sql_type = Integer)]
    pub partition: i32,
    /// Seats in all.
    #[diesel(sql_type = BigInt)]
    pub total_quantity: i64,
    /// Seats given.
    #[diesel(sql_type = BigInt)]
    pub issued_quantity: i64,
    /// Opening time.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub opens_at: Option<DateTime<Utc>>,
    /// Closing time.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub closes_at: Option<DateTime<Utc>>,
    /// Paused.
    #[diesel(sql_type = Bool)]
    pub paused: bool,
    /// Ended.
    #[diesel(sql_type = Bool)]
    pub ended: bool,
    /// The last command that changed the rules.
    #[diesel(sql_type = BigInt)]
    pub rules_offset: i64,
    /// Who defined it.
    #[diesel(sql_type = Text)]
    pub defined_by: String,
}

/// A row of `coupon_request`.
#[derive(Debug, Clone, QueryableByName)]
#[diesel(check_for_backend(diesel::pg::Pg))]
pub struct LedgerRow {
    /// The coupon.
    #[diesel(sql_type = Text)]
    pub coupon_code: String,
    /// The request.
    #[diesel(sql_type = SqlUuid)]
    pub request_id: Uuid,
    /// Who asked.
    #[diesel(sql_type = Nullable<Text>)]
    pub member_id: Option<String>,
    /// The partition of its log.
    #[diesel(sql_type = Integer)]
    pub partition: i32,
    /// Where it was decided.
    #[diesel(sql_type = BigInt)]
    pub log_offset: i64,
    /// Where it is told.
    #[diesel(sql_type = BigInt)]
    pub told_offset: i64,
    /// When the broker appended it.
    #[diesel(sql_type = Timestamptz)]
    pub appended_at: DateTime<Utc>,
    /// Signed as admitted.
    #[diesel(sql_type = Bool)]
    pub admitted: bool,
    /// The outcome's name.
    #[diesel(sql_type = Text)]
    pub outcome: String,
    /// The number.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub sequence: Option<i64>,
    /// What a duplicate names.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub issued_request_id: Option<Uuid>,
    /// When the row was written.
    #[diesel(sql_type = Timestamptz)]
    pub decided_at: DateTime<Utc>,
}

const LEDGER_COLUMNS: &str = "r.coupon_code, r.request_id, r.member_id, r.partition, r.log_offset, r.told_offset, r.appended_at, r.admitted, \
                              r.outcome::text AS outcome, r.sequence, r.issued_request_id, r.decided_at";

/// A row of `coupon_command`.
#[derive(Debug, Clone, QueryableByName)]
#[diesel(check_for_backend(diesel::pg::Pg))]
pub struct CommandRow {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub command_id: Uuid,
    /// Its kind.
    #[diesel(sql_type = Text)]
    pub kind: String,
    /// Who gave it.
    #[diesel(sql_type = Text)]
    pub actor: String,
    /// The partition of its log.
    #[diesel(sql_type = Integer)]
    pub partition: i32,
    /// Where it was decided.
    #[diesel(sql_type = BigInt)]
    pub log_offset: i64,
    /// What became of it.
    #[diesel(sql_type = Text)]
    pub outcome: String,
}

/// A row of `dead_letter`.
#[derive(Debug, Clone, QueryableByName)]
#[diesel(check_for_backend(diesel::pg::Pg))]
pub struct DeadLetterRow {
    /// The partition of the log.
    #[diesel(sql_type = Integer)]
    pub partition: i32,
    /// The offset in it.
    #[diesel(sql_type = BigInt)]
    pub log_offset: i64,
    /// The coupon, where it could be read.
    #[diesel(sql_type = Nullable<Text>)]
    pub coupon_code: Option<String>,
    /// The request, where it could be read.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub request_id: Option<Uuid>,
    /// Why.
    #[diesel(sql_type = Text)]
    pub cause: String,
    /// Why, in words.
    #[diesel(sql_type = Text)]
    pub detail: String,
    /// Where it is in the dead letter topic.
    #[diesel(sql_type = Integer)]
    pub dlt_partition: i32,
    /// The offset there.
    #[diesel(sql_type = BigInt)]
    pub dlt_offset: i64,
    /// When it was noted.
    #[diesel(sql_type = Timestamptz)]
    pub noted_at: DateTime<Utc>,
}

const DEAD_LETTER_COLUMNS: &str =
    "partition, log_offset, coupon_code, request_id, cause, detail, dlt_partition, dlt_offset, noted_at";

/// A row of `consumer_position`.
#[derive(Debug, Clone, QueryableByName)]
#[diesel(check_for_backend(diesel::pg::Pg))]
pub struct PositionRow {
    /// The partition.
    #[diesel(sql_type = Integer)]
    pub partition: i32,
    /// The next record to decide.
    #[diesel(sql_type = BigInt)]
    pub next_offset: i64,
    /// The cluster's id.
    #[diesel(sql_type = Text)]
    pub cluster_id: String,
    /// The topic's id.
    #[diesel(sql_type = Text)]
    pub topic_id: String,
}

#[derive(QueryableByName)]
#[diesel(check_for_backend(diesel::pg::Pg))]
struct OffsetRow {
    #[diesel(sql_type = BigInt)]
    next_offset: i64,
}

#[derive(QueryableByName)]
#[diesel(check_for_backend(diesel::pg::Pg))]
struct MemberRow {
    #[diesel(sql_type = Text)]
    member_id: String,
}

/// Begins a transaction that sees one snapshot until its connection is closed or [`end_snapshot`] is called. It may be idle for long, while
/// the log is read: it holds no locks.
///
/// # Errors
/// The database does not answer.
pub async fn begin_snapshot(connection: &mut AsyncPgConnection) -> anyhow::Result<()> {
    for statement in [
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        "SET LOCAL idle_in_transaction_session_timeout = 0",
        "SET LOCAL statement_timeout = '5min'",
    ] {
        sql_query(statement).execute(connection).await.context("cannot begin a snapshot")?;
    }
    Ok(())
}

/// Ends the snapshot.
///
/// # Errors
/// The database does not answer.
pub async fn end_snapshot(connection: &mut AsyncPgConnection) -> anyhow::Result<()> {
    sql_query("COMMIT").execute(connection).await.context("cannot end the snapshot")?;
    Ok(())
}

/// The decided positions of a topic.
///
/// # Errors
/// The database does not answer, or its schema is another one.
pub async fn positions(connection: &mut AsyncPgConnection, topic: &str) -> anyhow::Result<Vec<PositionRow>> {
    sql_query("SELECT partition, next_offset, cluster_id, topic_id FROM consumer_position WHERE topic = $1 ORDER BY partition")
        .bind::<Text, _>(topic)
        .load(connection)
        .await
        .context("cannot read consumer_position; has `trueup migrate` been run?")
}

/// The publisher's position in a partition; none before its first step.
///
/// # Errors
/// The database does not answer, or its schema is another one.
pub async fn publisher_position(connection: &mut AsyncPgConnection, topic: &str, partition: i32) -> anyhow::Result<Option<i64>> {
    let row: Option<OffsetRow> = sql_query("SELECT next_offset FROM publisher_position WHERE topic = $1 AND partition = $2")
        .bind::<Text, _>(topic)
        .bind::<Integer, _>(partition)
        .get_result(connection)
        .await
        .optional()
        .context("cannot read publisher_position")?;
    Ok(row.map(|row| row.next_offset))
}

/// A coupon.
///
/// # Errors
/// The database does not answer, or its schema is another one.
pub async fn coupon(connection: &mut AsyncPgConnection, code: &str) -> anyhow::Result<Option<CouponRow>> {
    sql_query(
        "SELECT name, admission::text AS admission, partition, total_quantity, issued_quantity, opens_at, closes_at, paused, ended, \
         rules_offset, defined_by FROM coupon WHERE coupon_code = $1",
    )
    .bind::<Text, _>(code)
    .get_result(connection)
    .await
    .optional()
    .context("cannot read coupon; has `trueup migrate` been run?")
}

/// A coupon's commands.
///
/// # Errors
/// The database does not answer, or its schema is another one.
pub async fn commands(connection: &mut AsyncPgConnection, code: &str) -> anyhow::Result<Vec<CommandRow>> {
    sql_query(
        "SELECT command_id, kind::text AS kind, actor, partition, log_offset, outcome::text AS outcome FROM coupon_command \
         WHERE coupon_code = $1 ORDER BY partition, log_offset",
    )
    .bind::<Text, _>(code)
    .load(connection)
    .await
    .context("cannot read coupon_command")
}

/// A page of a coupon's ledger, in the order of request ids.
///
/// # Errors
/// The database does not answer, or its schema is another one.
pub async fn ledger_page(
    connection: &mut AsyncPgConnection,
    code: &str,
    after: Option<Uuid>,
    limit: i64,
) -> anyhow::Result<Vec<LedgerRow>> {
    sql_query(format!(
        "SELECT {LEDGER_COLUMNS} FROM coupon_request r WHERE r.coupon_code = $1 AND ($2::uuid IS NULL OR r.request_id > $2) \
         ORDER BY r.request_id LIMIT $3"
    ))
    .bind::<Text, _>(code)
    .bind::<Nullable<SqlUuid>, _>(after)
    .bind::<BigInt, _>(limit)
    .load(connection)
    .await
    .context("cannot read coupon_request")
}

/// Ledger rows by coupon and request.
///
/// # Errors
/// The database does not answer, or its schema is another one.
pub async fn ledger_by_ids(connection: &mut AsyncPgConnection, codes: &[String], ids: &[Uuid]) -> anyhow::Result<Vec<LedgerRow>> {
    sql_query(format!(
        "SELECT {LEDGER_COLUMNS} FROM unnest($1::text[], $2::uuid[]) AS k(code, id) \
         JOIN coupon_request r ON r.coupon_code = k.code AND r.request_id = k.id"
    ))
    .bind::<Array<Text>, _>(codes)
    .bind::<Array<SqlUuid>, _>(ids)
    .load(connection)
    .await
    .context("cannot read coupon_request")
}

/// A request's rows, of one coupon or of any. Ids are unique per coupon, so the coupons are asked one by one.
///
/// # Errors
/// The database does not answer, or its schema is another one.
pub async fn ledger_of_request(
    connection: &mut AsyncPgConnection,
    request: Uuid,
    code: Option<&str>,
) -> anyhow::Result<Vec<LedgerRow>> {
    sql_query(format!(
        "SELECT {LEDGER_COLUMNS} FROM coupon c CROSS JOIN LATERAL \
         (SELECT * FROM coupon_request q WHERE q.coupon_code = c.coupon_code AND q.request_id = $1) r WHERE $2::text IS NULL OR c.coupon_code = $2"
    ))
    .bind::<SqlUuid, _>(request)
    .bind::<Nullable<Text>, _>(code)
    .load(connection)
    .await
    .context("cannot read coupon_request")
}

/// A member's rows, the latest first.
///
/// # Errors
/// The database does not answer, or its schema is another one.
pub async fn ledger_of_member(
    connection: &mut AsyncPgConnection,
    member: &str,
    code: Option<&str>,
    limit: i64,
) -> anyhow::Result<Vec<LedgerRow>> {
    sql_query(format!(
        "SELECT {LEDGER_COLUMNS} FROM coupon_request r WHERE r.member_id = $1 AND ($2::text IS NULL OR r.coupon_code = $2) \
         ORDER BY r.appended_at DESC LIMIT $3"
    ))
    .bind::<Text, _>(member)
    .bind::<Nullable<Text>, _>(code)
    .bind::<BigInt, _>(limit)
    .load(connection)
    .await
    .context("cannot read coupon_request")
}

/// The members who hold an issue, after `after` in the database's order of texts.
///
/// # Errors
/// The database does not answer, or its schema is another one.
pub async fn issued_members_page(
    connection: &mut AsyncPgConnection,
    code: &str,
    after: &str,
    limit: i64,
) -> anyhow::Result<Vec<String>> {
    let rows: Vec<MemberRow> = sql_query(
        "SELECT member_id FROM coupon_request WHERE coupon_code = $1 AND outcome = 'issued' AND member_id > $2 ORDER BY member_id LIMIT $3",
    )
    .bind::<Text, _>(code)
    .bind::<Text, _>(after)
    .bind::<BigInt, _>(limit)
    .load(connection)
    .await
    .context("cannot read coupon_request")?;
    Ok(rows.into_iter().map(|row| row.member_id).collect())
}

/// Dead letters of a coupon, and those that name none.
///
/// # Errors
/// The database does not answer, or its schema is another one.
pub async fn dead_letters_of(connection: &mut AsyncPgConnection, code: &str) -> anyhow::Result<Vec<DeadLetterRow>> {
    sql_query(format!("SELECT {DEAD_LETTER_COLUMNS} FROM dead_letter WHERE coupon_code = $1 OR coupon_code IS NULL"))
        .bind::<Text, _>(code)
        .load(connection)
        .await
        .context("cannot read dead_letter")
}

/// Dead letters, the newest first.
///
/// # Errors
/// The database does not answer, or its schema is another one.
pub async fn dead_letters(
    connection: &mut AsyncPgConnection,
    code: Option<&str>,
    cause: Option<&str>,
    limit: i64,
) -> anyhow::Result<Vec<DeadLetterRow>> {
    sql_query(format!(
        "SELECT {DEAD_LETTER_COLUMNS} FROM dead_letter WHERE ($1::text IS NULL OR coupon_code = $1) AND ($2::text IS NULL OR cause = $2) \
         ORDER BY noted_at DESC, partition, log_offset DESC LIMIT $3"
    ))
    .bind::<Nullable<Text>, _>(code)
    .bind::<Nullable<Text>, _>(cause)
    .bind::<BigInt, _>(limit)
    .load(connection)
    .await
    .context("cannot read dead_letter")
}

/// One dead letter.
///
/// # Errors
/// The database does not answer, or its schema is another one.
pub async fn dead_letter(
    connection: &mut AsyncPgConnection,
    partition: i32,
    offset: i64,
) -> anyhow::Result<Option<DeadLetterRow>> {
    sql_query(format!("SELECT {DEAD_LETTER_COLUMNS} FROM dead_letter WHERE partition = $1 AND log_offset = $2"))
        .bind::<Integer, _>(partition)
        .bind::<BigInt, _>(offset)
        .get_result(connection)
        .await
        .optional()
        .context("cannot read dead_letter")
}
