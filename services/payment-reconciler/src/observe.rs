//! The numbers that alerts watch: how long the oldest work has been waiting, and when each gateway last answered.

use std::time::Duration;

use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::RunQueryDsl;
use postgres_io::Db;
use tokio_util::sync::CancellationToken;

use crate::error::LineError;

/// How often they are looked at.
const EVERY: Duration = Duration::from_secs(10);

const WAITING: &str = "SELECT \
    coalesce((SELECT extract(epoch FROM payment_now() - min(next_check_at)) FROM payment \
        WHERE next_check_at <= payment_now() AND state <> 'SUCCESS'), 0)::float8 AS oldest_due_s, \
    coalesce((SELECT extract(epoch FROM payment_now() - min(hinted_at)) FROM payment \
        WHERE hinted_at IS NOT NULL AND state <> 'SUCCESS'), 0)::float8 AS oldest_hint_s, \
    coalesce((SELECT extract(epoch FROM payment_now() - min(created_at)) FROM refund WHERE state <> 'CONFIRMED'), 0)::float8 AS oldest_refund_s, \
    (SELECT count(*) FROM refund WHERE held)::float8 AS held, \
    (SELECT count(*) FROM payment WHERE attention)::float8 AS attention";

const ANSWERED: &str = "SELECT provider, extract(epoch FROM payment_now() - answered_at)::float8 AS ago_s \
    FROM provider_state WHERE answered_at IS NOT NULL";

#[derive(QueryableByName)]
struct Waiting {
    #[diesel(sql_type = sql_types::Double)]
    oldest_due_s: f64,
    #[diesel(sql_type = sql_types::Double)]
    oldest_hint_s: f64,
    #[diesel(sql_type = sql_types::Double)]
    oldest_refund_s: f64,
    #[diesel(sql_type = sql_types::Double)]
    held: f64,
    #[diesel(sql_type = sql_types::Double)]
    attention: f64,
}

#[derive(QueryableByName)]
struct Answered {
    #[diesel(sql_type = sql_types::Text)]
    provider: String,
    #[diesel(sql_type = sql_types::Double)]
    ago_s: f64,
}

/// Looks until `stop`.
pub async fn run(db: Db, stop: CancellationToken, beat: impl Fn() + Send + Sync) {
    loop {
        beat();
        if let Err(error) = look(&db).await {
            tracing::debug!(%error, "the ages of waiting work are not known now");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Looks once. Ages are 0 where nothing waits.
///
/// # Errors
/// PostgreSQL; the numbers then stay as they were.
pub async fn look(db: &Db) -> Result<(), LineError> {
    let mut connection = db.conn().await?;
    let waiting: Waiting = sql_query(WAITING).get_result(&mut connection).await?;
    metrics::gauge!("trueup_payment_oldest_due_seconds").set(waiting.oldest_due_s.max(0.0));
    metrics::gauge!("trueup_payment_oldest_hint_seconds").set(waiting.oldest_hint_s.max(0.0));
    metrics::gauge!("trueup_payment_oldest_open_refund_seconds").set(waiting.oldest_refund_s.max(0.0));
    metrics::gauge!("trueup_payment_refunds_held").set(waiting.held);
    metrics::gauge!("trueup_payment_attention").set(waiting.attention);
    let answered: Vec<Answered> = sql_query(ANSWERED).load(&mut connection).await?;
    for row in answered {
        metrics::gauge!("trueup_payment_last_answer_seconds", "provider" => row.provider).set(row.ago_s.max(0.0));
    }
    Ok(())
}
