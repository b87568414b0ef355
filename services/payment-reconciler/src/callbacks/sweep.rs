//! What time does with callbacks: waiting hints get their turn, unknown payments arrive or an operator is told, old rows go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::{AsyncConnection, RunQueryDsl};
use postgres_io::Db;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::CallbackSettings;
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
}

/// Locks come in the order of ids, so that two sweeps cannot wait for each other.
const FIND: &str = "WITH found AS ( \
        SELECT c.callback_id, p.payment_id FROM payment_callback c \
        JOIN payment p ON p.provider = c.provider AND p.reference = c.reference \
        WHERE c.payment_id IS NULL ORDER BY c.callback_id LIMIT $1) \
    UPDATE payment_callback c SET payment_id = found.payment_id, hint_at = payment_now() \
    FROM found WHERE c.callback_id = found.callback_id";

const DUE: &str = "SELECT callback_id, payment_id FROM payment_callback \
    WHERE hint_at <= payment_now() AND payment_id IS NOT NULL ORDER BY hint_at LIMIT $1 FOR UPDATE SKIP LOCKED";

const HINT: &str = "UPDATE payment SET hinted_at = payment_now() WHERE payment_id IN \
    (SELECT payment_id FROM payment WHERE payment_id = ANY($1) AND state <> 'SUCCESS' AND hinted_at IS NULL \
     ORDER BY payment_id FOR NO KEY UPDATE)";

const DONE: &str = "UPDATE payment_callback SET hint_at = NULL WHERE callback_id = ANY($1)";

const OVERDUE: &str = "UPDATE payment_callback SET attention_since = payment_now() WHERE callback_id IN \
    (SELECT callback_id FROM payment_callback WHERE payment_id IS NULL AND attention_since IS NULL \
     AND received_at <= payment_now() - $1 * interval '1 hour' ORDER BY callback_id LIMIT $2)";

const DELETE: &str = "DELETE FROM payment_callback WHERE callback_id IN \
    (SELECT callback_id FROM payment_callback WHERE last_received_at <= payment_now() - $1 * interval '1 day' \
     ORDER BY last_received_at LIMIT $2)";

const COUNT: &str = "SELECT count(*) FILTER (WHERE NOT authenticated AND attention_since IS NULL) AS waiting, \
    count(attention_since) AS overdue FROM (SELECT authenticated, attention_since FROM payment_callback \
    WHERE payment_id IS NULL LIMIT $1) c";

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
    waiting: i64,
    #[diesel(sql_type = sql_types::BigInt)]
    overdue: i64,
}

impl Sweeper {
    /// Sweeps in the name of `holder`, and tells the desk by `unknown_waiting` how many unsigned callbacks wait.
    #[must_use]
    pub fn new(db: Db, holder: Uuid, settings: CallbackSettings, unknown_waiting: Arc<AtomicU32>) -> Self {
        let lease = TaskLease::new(db.clone(), holder);
        Self { db, lease, settings, unknown_waiting }
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
        let mut connection = self.db.conn().await?;
        let found = sql_query(FIND).bind::<sql_types::BigInt, _>(rows_max).execute(&mut connection).await?;
        drop(connection);
        let hinted = self.hint(rows_max).await?;
        let mut connection = self.db.conn().await?;
        let overdue = sql_query(OVERDUE)
            .bind::<sql_types::BigInt, _>(i64::from(self.settings.unknown_hours))
            .bind::<sql_types::BigInt, _>(rows_max)
            .execute(&mut connection)
            .await?;
        if overdue > 0 {
            tracing::error!(overdue, "callbacks about payments that never came in: an operator should look");
        }
        let deleted = sql_query(DELETE)
            .bind::<sql_types::BigInt, _>(i64::from(self.settings.retention_days))
            .bind::<sql_types::BigInt, _>(rows_max)
            .execute(&mut connection)
            .await?;
        Ok(Some(Swept { found, hinted, overdue, deleted }))
    }

    /// Makes payments due whose hints have waited long enough.
    async fn hint(&self, rows_max: i64) -> Result<usize, LineError> {
        let db = self.db.clone();
        // A task of its own: a future that is dropped in a transaction would leave its rows locked.
        let hinted = tokio::spawn(async move {
            let mut connection = db.conn().await?;
            connection
                .transaction(async |connection| {
                    let due: Vec<DueRow> = sql_query(DUE).bind::<sql_types::BigInt, _>(rows_max).load(connection).await?;
                    if due.is_empty() {
                        return Ok(0);
                    }
                    let payments: Vec<&str> = due.iter().map(|row| row.payment_id.as_str()).collect();
                    let callbacks: Vec<i64> = due.iter().map(|row| row.callback_id).collect();
                    let hinted =
                        sql_query(HINT).bind::<sql_types::Array<sql_types::Text>, _>(payments).execute(connection).await?;
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
        let waiting = u32::try_from(row.waiting).unwrap_or(u32::MAX);
        AtomicU32::store(&self.unknown_waiting, waiting, Ordering::Relaxed);
        metrics::gauge!("trueup_payment_callbacks_unknown", "overdue" => "no").set(f64::from(waiting));
        let overdue = u32::try_from(row.overdue).unwrap_or(u32::MAX);
        metrics::gauge!("trueup_payment_callbacks_unknown", "overdue" => "yes").set(f64::from(overdue));
        Ok(())
    }
}
