//! Which replica does a task that one at a time should do: leases in PostgreSQL, by the database's own clock.
//!
//! A lease that ends too early is no danger: each task is harmless when two replicas do it. It only keeps them from doing the same work.

use std::time::Duration;

use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::RunQueryDsl;
use postgres_io::Db;
use uuid::Uuid;

use crate::error::LineError;

#[derive(QueryableByName)]
struct Taken {
    #[allow(dead_code, reason = "only whether there is a row counts")]
    #[diesel(sql_type = sql_types::Text)]
    task: String,
}

/// The leases of one replica.
#[derive(Clone)]
pub struct TaskLease {
    db: Db,
    holder: Uuid,
}

impl TaskLease {
    /// Leases in the name of `holder`, an id of this process.
    #[must_use]
    pub const fn new(db: Db, holder: Uuid) -> Self {
        Self { db, holder }
    }

    /// Takes the task for `ttl`, or renews one's own. False when another replica has it, or when anybody finished it within `gap`. What stands
    /// there from before a step back of the clock does not count.
    ///
    /// # Errors
    /// PostgreSQL.
    pub async fn acquire(&self, task: &str, ttl: Duration, gap: Duration) -> Result<bool, LineError> {
        let mut connection = self.db.conn().await?;
        let rows: Vec<Taken> = sql_query(
            "INSERT INTO payment_task AS t (task, holder, expires_at) VALUES ($1, $2, now() + $3 * interval '1 millisecond') \
             ON CONFLICT (task) DO UPDATE SET holder = EXCLUDED.holder, expires_at = EXCLUDED.expires_at \
             WHERE (t.holder = EXCLUDED.holder OR t.expires_at <= now() OR t.expires_at > now() + 2 * $3 * interval '1 millisecond') \
             AND (t.done_at IS NULL OR t.done_at <= now() - $4 * interval '1 millisecond' OR t.done_at > now()) \
             RETURNING task",
        )
        .bind::<sql_types::Text, _>(task)
        .bind::<sql_types::Uuid, _>(self.holder)
        .bind::<sql_types::BigInt, _>(ms(ttl))
        .bind::<sql_types::BigInt, _>(ms(gap))
        .load(&mut connection)
        .await?;
        Ok(!rows.is_empty())
    }

    /// Gives the task back; `done` also notes when it was finished.
    ///
    /// # Errors
    /// PostgreSQL; the lease then ends by itself.
    pub async fn give_back(&self, task: &str, done: bool) -> Result<(), LineError> {
        let mut connection = self.db.conn().await?;
        sql_query(
            "UPDATE payment_task SET expires_at = now(), done_at = CASE WHEN $3 THEN now() ELSE done_at END \
             WHERE task = $1 AND holder = $2",
        )
        .bind::<sql_types::Text, _>(task)
        .bind::<sql_types::Uuid, _>(self.holder)
        .bind::<sql_types::Bool, _>(done)
        .execute(&mut connection)
        .await?;
        Ok(())
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
