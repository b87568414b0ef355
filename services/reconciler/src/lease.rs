//! Which replica looks after which coupon: leases in PostgreSQL, by the database's clock.
//!
//! Not advisory locks: the session kind leaks through pools, and the transaction kind would hold a transaction open for as long
//! as a gate drains. A lease that ends too early is no danger, because each task is fenced by itself: loads by their token in
//! Redis, hand-outs by the script that takes them, counts by the coupon's row lock. The lease only keeps two replicas from
//! doing the same work, or from taking each other's token away for ever: work that may take longer than its lease renews it.

use std::time::Duration;

use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::RunQueryDsl;
use domain::ids::CouponCode;

use crate::{error::TaskError, store::Store};

/// A lease is renewed so many times in its time, so that one lost renewal costs nothing.
const RENEWALS: u32 = 3;

/// The work that a lease is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// Publishing old reservations again.
    Pending,
    /// Loading and opening a cold gate.
    Gate,
    /// The run over counts and sizes.
    Run,
    /// The full comparison.
    Compare,
}

impl Task {
    /// The value of `coupon_lease.task`, and the label in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Gate => "gate",
            Self::Run => "run",
            Self::Compare => "compare",
        }
    }
}

impl Store {
    /// Takes the lease of a coupon's task for `ttl`, or renews one's own. False when another replica has it, or when the task was
    /// finished by anybody within `gap`.
    ///
    /// # Errors
    /// PostgreSQL.
    pub async fn acquire(&self, code: &CouponCode, task: Task, ttl: Duration, gap: Duration) -> Result<bool, TaskError> {
        #[derive(QueryableByName)]
        struct Row {
            #[allow(dead_code, reason = "only whether there is a row counts")]
            #[diesel(sql_type = sql_types::Text)]
            coupon_code: String,
        }
        let mut connection = self.connection().await?;
        let rows: Vec<Row> = sql_query(
            "INSERT INTO coupon_lease AS l (coupon_code, task, holder, expires_at) \
             VALUES ($1, $2, $3, now() + $4 * interval '1 millisecond') \
             ON CONFLICT (coupon_code, task) DO UPDATE SET holder = EXCLUDED.holder, expires_at = EXCLUDED.expires_at \
             WHERE (l.holder = EXCLUDED.holder OR l.expires_at <= now()) \
             AND (l.done_at IS NULL OR l.done_at <= now() - $5 * interval '1 millisecond') \
             RETURNING coupon_code",
        )
        .bind::<sql_types::Text, _>(code.as_str())
        .bind::<sql_types::Text, _>(task.as_str())
        .bind::<sql_types::Uuid, _>(self.holder)
        .bind::<sql_types::BigInt, _>(ms(ttl))
        .bind::<sql_types::BigInt, _>(ms(gap))
        .load(&mut connection)
        .await?;
        Ok(!rows.is_empty())
    }

    /// Renews a lease that this replica has, again and again; ends when another replica has it. A renewal that fails is no loss by itself:
    /// the next one comes soon, and whoever takes the lease meanwhile fences this one out.
    pub async fn renew_until_lost(&self, code: &CouponCode, task: Task, ttl: Duration) {
        loop {
            tokio::time::sleep(ttl / RENEWALS).await;
            match self.acquire(code, task, ttl, Duration::ZERO).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(couponCode = %code, task = task.as_str(), %error, "[RECONCILIATION] a lease could not be renewed");
                }
            }
        }
    }

    /// Gives a lease back; `done` also notes when the task was finished.
    ///
    /// # Errors
    /// PostgreSQL; the lease then ends by itself.
    pub async fn give_back(&self, code: &CouponCode, task: Task, done: bool) -> Result<(), TaskError> {
        let mut connection = self.connection().await?;
        sql_query(
            "UPDATE coupon_lease SET expires_at = now(), done_at = CASE WHEN $4 THEN now() ELSE done_at END \
             WHERE coupon_code = $1 AND task = $2 AND holder = $3",
        )
        .bind::<sql_types::Text, _>(code.as_str())
        .bind::<sql_types::Text, _>(task.as_str())
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
