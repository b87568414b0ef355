//! What time does with callbacks: waiting hints get their turn, unknown payments arrive or an operator is told, old rows go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::{AsyncConnection, RunQueryDsl};
use postgres_io::Db;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{CallbackSettings, hint::hint};
use crate::{error::LineError, task_lease::TaskLease, waiting::Retry};

/// The task's name among the leases.
const TASK: &str = "callbacks";
/// How long a replica that falls silent keeps the others from sweeping.
const LEASE: Duration = Duration::from_secs(30);

/// What one sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Callbacks whose payment has arrived.
    pub found: usize,
    /// Payments that waiting hints made due.
    pub hinted: usize,
    /// Callbacks that an operator is shown from now on.
    pub overdue: usize,
    /// Old rows that are gone.
    pub deleted: usize,
}

/// Sweeps, one replica at a time.
pub struct Sweeper {
    db: Db,
    lease: TaskLease,
    settings: CallbackSettings,
    unknown_waiting: Arc<AtomicU32>,
    /// Behind which callback the next look for arrived payments begins.
    looked: AtomicI64,
}

/// Looks at callbacks without a payment from a place in the order of their ids on.
const FIND: &str = "WITH looked AS ( \
        SELECT callback_id, provider, reference FROM payment_callback WHERE payment_id IS NULL AND callback_id > $1 \
        ORDER BY callback_id LIMIT $2), \
    found AS (SELECT l.callback_id, p.payment_id FROM looked l JOIN payment p ON p.provider = l.provider AND p.reference = l.reference), \
    linked AS (UPDATE payment_callback c SET payment_id = found.payment_id, hint_at = payment_now() \
        FROM found WHERE c.callback_id = found.callback_id RETURNING c.callback_id) \
    SELECT (SELECT count(*) FROM linked) AS found, (SELECT count(*) FROM looked) AS looked, \
        coalesce((SELECT max(callback_id) FROM looked), 0) AS last";

/// Statements of that kind that one sweep makes; the next sweep goes on from there. So a sweep takes no longer, however many callbacks are about
/// nothing that is known here.
const FIND_PIECES_MAX: usize = 10;

/// One that waits for longer than any gap was written before the clock stepped back.
const DUE: &str = "SELECT callback_id, payment_id FROM payment_callback \
    WHERE (hint_at <= payment_now() OR hint_at > payment_now() + $2 * interval '1 millisecond') AND payment_id IS NOT NULL ORDER BY hint_at LIMIT $1 FOR UPDATE SKIP LOCKED";

const DONE: &str = "UPDATE payment_callback SET hint_at = NULL WHERE callback_id = ANY($1)";

/// Signed and unsigned ones apart, as only the former are worth an alert. What is picked is an array here and below: joined to it, the whole
/// table is read for each statement.
const OVERDUE: &str = "UPDATE payment_callback SET attention_since = payment_now() WHERE callback_id = ANY \
    (ARRAY(SELECT callback_id FROM payment_callback WHERE payment_id IS NULL AND attention_since IS NULL AND authenticated = $3 \
     AND received_at <= payment_now() - $1 * interval '1 hour' ORDER BY received_at LIMIT $2))";

const DELETE: &str = "DELETE FROM payment_callback WHERE callback_id = ANY \
    (ARRAY(SELECT callback_id FROM payment_callback WHERE last_received_at <= payment_now() - $1 * interval '1 day' \
     ORDER BY last_received_at LIMIT $2))";

/// Each kind by itself and up to a bound, so that none hides another.
const COUNT: &str = "SELECT \
    (SELECT count(*) FROM (SELECT FROM payment_callback WHERE payment_id IS NULL AND attention_since IS NULL AND NOT authenticated LIMIT $1) a) AS unsigned_waiting, \
    (SELECT count(*) FROM (SELECT FROM payment_callback WHERE payment_id IS NULL AND attention_since IS NULL AND authenticated LIMIT $1) b) AS signed_waiting, \
    (SELECT count(*) FROM (SELECT FROM payment_callback WHERE payment_id IS NULL AND attention_since IS NOT NULL AND NOT authenticated LIMIT $1) c) AS unsigned_overdue, \
    (SELECT count(*) FROM (SELECT FROM payment_callback WHERE payment_id IS NULL AND attention_since IS NOT NULL AND authenticated LIMIT $1) d) AS signed_overdue";

#[derive(QueryableByName)]
struct FoundRow {
    #[diesel(sql_type = sql_types::BigInt)]
    found: i64,
    #[diesel(sql_type = sql_types::BigInt)]
    looked: i64,
    #[diesel(sql_type = sql_types::BigInt)]
    last: i64,
}

#[derive(QueryableByName)]
struct DueRow {
    #[diesel(sql_type = sql_types::BigInt)]
    callback_id: i64,
    #[diesel(sql_type = sql_types::Text)]
    payment_id: String,
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = sql_types::BigInt)]
    unsigned_waiting: i64,
    #[diesel(sql_type = sql_types::BigInt)]
    signed_waiting: i64,
    #[diesel(sql_type = sql_types::BigInt)]
    unsigned_overdue: i64,
    #[diesel(sql_type = sql_types::BigInt)]
    signed_overdue: i64,
}

impl Sweeper {
    /// Sweeps in the name of `holder`, and tells the desk by `unknown_waiting` how many unsigned callbacks wait.
    #[must_use]
    pub fn new(db: Db, holder: Uuid, settings: CallbackSettings, unknown_waiting: Arc<AtomicU32>) -> Self {
        let lease = TaskLease::new(db.clone(), holder);
        Self { db, lease, settings, unknown_waiting, looked: AtomicI64::new(0) }
    }

    /// Sweeps until `stop`.
    pub async fn run(self, stop: CancellationToken, beat: impl Fn() + Send + Sync) {
        let interval = Duration::from_millis(self.settings.sweep_interval_ms);
        let mut retry = Retry::new();
        while !stop.is_cancelled() {
            beat();
            match self.run_once().await {
                Ok(_) => {
                    retry = Retry::new();
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(interval) => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "sweeping callbacks waits");
                    retry.wait(&stop).await;
                }
            }
        }
        if let Err(error) = self.lease.give_back(TASK, false).await {
            tracing::debug!(%error, "the lease of the callbacks ends by itself");
        }
    }

    /// One sweep; none when another replica does it. The count is taken in any case, because each replica has a desk.
    ///
    /// # Errors
    /// PostgreSQL; what was done is committed step by step.
    pub async fn run_once(&self) -> Result<Option<Swept>, LineError> {
        self.count().await?;
        if !self.lease.acquire(TASK, LEASE, Duration::ZERO).await? {
            return Ok(None);
        }
        let rows_max = i64::from(self.settings.sweep_rows_max);
        let found = self.find(rows_max).await?;
        let hinted = self.make_due(rows_max).await?;
        let signed = self.show_overdue(rows_max, true).await?;
        let unsigned = self.show_overdue(rows_max, false).await?;
        if signed > 0 {
            tracing::error!(signed, "callbacks about payments that never came in: an operator should look");
        }
        if unsigned > 0 {
            tracing::info!(unsigned, "unsigned callbacks about payments that never came in");
        }
        let mut connection = self.db.conn().await?;
        let deleted = sql_query(DELETE)
            .bind::<sql_types::BigInt, _>(i64::from(self.settings.retention_days))
            .bind::<sql_types::BigInt, _>(rows_max)
            .execute(&mut connection)
            .await?;
        Ok(Some(Swept { found, hinted, overdue: signed.saturating_add(unsigned), deleted }))
    }

    /// Callbacks whose payments have come in meanwhile; their hints' time is now.
    async fn find(&self, rows_max: i64) -> Result<usize, LineError> {
        let mut connection = self.db.conn().await?;
        let mut found = 0_i64;
        for _ in 0..FIND_PIECES_MAX {
            let piece: FoundRow = sql_query(FIND)
                .bind::<sql_types::BigInt, _>(AtomicI64::load(&self.looked, Ordering::Relaxed))
                .bind::<sql_types::BigInt, _>(rows_max)
                .get_result(&mut connection)
                .await?;
            found = found.saturating_add(piece.found);
            let is_last = piece.looked < rows_max;
            AtomicI64::store(&self.looked, if is_last { 0 } else { piece.last }, Ordering::Relaxed);
            if is_last {
                break;
            }
        }
        Ok(usize::try_from(found).unwrap_or(usize::MAX))
    }

    /// Callbacks that have waited too long, and that an operator is shown from now on.
    async fn show_overdue(&self, rows_max: i64, authenticated: bool) -> Result<usize, LineError> {
        let mut connection = self.db.conn().await?;
        Ok(sql_query(OVERDUE)
            .bind::<sql_types::BigInt, _>(i64::from(self.settings.unknown_hours))
            .bind::<sql_types::BigInt, _>(rows_max)
            .bind::<sql_types::Bool, _>(authenticated)
            .execute(&mut connection)
            .await?)
    }

    /// Makes payments due whose hints have waited long enough.
    async fn make_due(&self, rows_max: i64) -> Result<usize, LineError> {
        let db = self.db.clone();
        let gap_max = i64::from(self.settings.signed_gap_ms.max(self.settings.unsigned_gap_ms));
        // A task of its own: a future that is dropped in a transaction would leave its rows locked.
        let hinted = tokio::spawn(async move {
            let mut connection = db.conn().await?;
            connection
                .transaction(async |connection| {
                    let due: Vec<DueRow> = sql_query(DUE)
                        .bind::<sql_types::BigInt, _>(rows_max)
                        .bind::<sql_types::BigInt, _>(gap_max)
                        .load(connection)
                        .await?;
                    if due.is_empty() {
                        return Ok(0);
                    }
                    let payments: Vec<&str> = due.iter().map(|row| row.payment_id.as_str()).collect();
                    let callbacks: Vec<i64> = due.iter().map(|row| row.callback_id).collect();
                    let hinted = hint(connection, &payments, None).await?;
                    sql_query(DONE).bind::<sql_types::Array<sql_types::BigInt>, _>(callbacks).execute(connection).await?;
                    Ok::<_, LineError>(hinted)
                })
                .await
        });
        hinted.await.map_err(|_| LineError::TaskLost)?
    }

    async fn count(&self) -> Result<(), LineError> {
        let mut connection = self.db.conn().await?;
        // Twice the bound is enough to know that it is reached, and bounds what is counted.
        let enough = i64::from(self.settings.unknown_waiting_max).saturating_mul(2).max(1);
        let row: CountRow = sql_query(COUNT).bind::<sql_types::BigInt, _>(enough).get_result(&mut connection).await?;
        let kinds = [
            ("no", "no", row.unsigned_waiting),
            ("no", "yes", row.signed_waiting),
            ("yes", "no", row.unsigned_overdue),
            ("yes", "yes", row.signed_overdue),
        ];
        for (overdue, authenticated, number) in kinds {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let labels = [("overdue", overdue), ("authenticated", authenticated)];
            metrics::gauge!("trueup_payment_callbacks_unknown", &labels).set(f64::from(number));
        }
        let waiting = u32::try_from(row.unsigned_waiting).unwrap_or(u32::MAX);
        AtomicU32::store(&self.unknown_waiting, waiting, Ordering::Relaxed);
        Ok(())
    }
}
