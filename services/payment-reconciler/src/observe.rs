//! The numbers that alerts watch: how long the oldest work has been waiting, and when each gateway last answered.

use std::time::Duration;

use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::RunQueryDsl;
use postgres_io::Db;
use tokio_util::sync::CancellationToken;

use crate::{
    audit::{AuditSettings, overdue},
    error::LineError,
    line::gateways::with_gateways,
};

/// How often they are looked at.
const EVERY: Duration = Duration::from_secs(5);

/// What is due, and what became stale and was never looked at yet: the first of each gateway, by the index that claims go by.
const WAITING: &str = with_gateways!(
    "SELECT coalesce(extract(epoch FROM payment_now() - least( \
        (SELECT min(o.at) FROM due CROSS JOIN LATERAL (SELECT next_check_at AS at FROM payment p \
            WHERE p.provider = due.provider AND next_check_at <= payment_now() AND state <> 'SUCCESS' ORDER BY next_check_at LIMIT 1) o), \
        (SELECT min(o.at) FROM fresh CROSS JOIN LATERAL (SELECT created_at + $1 * interval '1 millisecond' AS at FROM payment p \
            WHERE p.provider = fresh.provider AND next_check_at IS NULL AND state = 'PENDING' \
            AND created_at <= payment_now() - $1 * interval '1 millisecond' ORDER BY created_at LIMIT 1) o))), 0)::float8 AS oldest_due_s, \
    coalesce((SELECT extract(epoch FROM payment_now() - min(hinted_at)) FROM payment \
        WHERE hinted_at IS NOT NULL AND state <> 'SUCCESS'), 0)::float8 AS oldest_hint_s, \
    coalesce((SELECT extract(epoch FROM payment_now() - min(coalesce(reopened_at, created_at))) FROM refund WHERE state <> 'CONFIRMED'), 0)::float8 AS oldest_refund_s, \
    (SELECT count(*) FROM refund WHERE held AND held_by IS NULL AND state <> 'CONFIRMED')::float8 AS held_by_line, \
    (SELECT count(*) FROM refund WHERE held AND held_by IS NOT NULL AND state <> 'CONFIRMED')::float8 AS held_by_operator, \
    (SELECT count(*) FROM payment WHERE attention)::float8 AS attention, \
    (SELECT count(*) FROM payment WHERE attention AND attention_reason = 'unknown_provider')::float8 AS unconfigured"
);

const ANSWERED: &str = "SELECT g.provider, extract(epoch FROM payment_now() - s.answered_at)::float8 AS answered_s, \
    coalesce(extract(epoch FROM payment_now() - s.failing_since), 0)::float8 AS failing_s \
    FROM unnest($1) AS g (provider) LEFT JOIN provider_state s USING (provider)";

/// The newest audit of each night that counts, and of any time before the first night: a difference of any of them, else what the newest night came to.
/// What counts is the newest night that was audited, and those before it that were made up for since it ended. Every replica says the same, whichever
/// made them.
const AUDITED: &str = "WITH newest AS (SELECT provider, max(to_at) AS to_at FROM payment_audit WHERE actor = 'nightly' AND provider = ANY($1) GROUP BY provider), \
    night AS (SELECT DISTINCT a.provider, a.from_at, a.to_at, a.to_at = n.to_at AS is_newest FROM payment_audit a JOIN newest n USING (provider) \
        WHERE a.actor = 'nightly' AND (a.to_at = n.to_at OR a.finished_at >= n.to_at)), \
    latest AS (SELECT g.provider, coalesce(n.is_newest, true) AS is_newest, l.verdict, l.differences \
        FROM unnest($1) AS g (provider) LEFT JOIN night n USING (provider) \
        CROSS JOIN LATERAL (SELECT a.verdict, jsonb_array_length(a.differences) AS differences FROM payment_audit a WHERE a.provider = g.provider \
            AND (n.provider IS NULL OR (a.from_at <= n.from_at AND a.to_at >= n.to_at AND coalesce(a.settled_by >= n.to_at, true))) \
            ORDER BY a.finished_at DESC, a.audit_id DESC LIMIT 1) l) \
    SELECT provider, CASE WHEN bool_or(verdict = 'difference') THEN 1 WHEN bool_or(is_newest AND verdict = 'cannot_tell') THEN 2 ELSE 0 END::float8 AS verdict, \
        sum(differences)::float8 AS differences \
    FROM latest GROUP BY provider";

#[derive(QueryableByName)]
struct Waiting {
    #[diesel(sql_type = sql_types::Double)]
    oldest_due_s: f64,
    #[diesel(sql_type = sql_types::Double)]
    oldest_hint_s: f64,
    #[diesel(sql_type = sql_types::Double)]
    oldest_refund_s: f64,
    #[diesel(sql_type = sql_types::Double)]
    held_by_line: f64,
    #[diesel(sql_type = sql_types::Double)]
    held_by_operator: f64,
    #[diesel(sql_type = sql_types::Double)]
    attention: f64,
    #[diesel(sql_type = sql_types::Double)]
    unconfigured: f64,
}

#[derive(QueryableByName)]
struct Answered {
    #[diesel(sql_type = sql_types::Text)]
    provider: String,
    #[diesel(sql_type = sql_types::Nullable<sql_types::Double>)]
    answered_s: Option<f64>,
    #[diesel(sql_type = sql_types::Double)]
    failing_s: f64,
}

#[derive(QueryableByName)]
struct Audited {
    #[diesel(sql_type = sql_types::Text)]
    provider: String,
    #[diesel(sql_type = sql_types::Double)]
    verdict: f64,
    #[diesel(sql_type = sql_types::Double)]
    differences: f64,
}

/// What is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The gateways that the settings name.
    pub gateways: Vec<String>,
    /// The age at which an order is stale, in milliseconds: then its payments are due.
    pub stale_after_ms: i64,
    /// How gateways are audited; None: not by night, so no night is missed.
    pub nightly: Option<AuditSettings>,
}

/// Looks until `stop`. Of gateways that the settings do not name nothing is said: nobody asks them any more.
pub async fn run(db: Db, watch: Watch, stop: CancellationToken, beat: impl Fn() + Send + Sync) {
    loop {
        beat();
        if let Err(error) = look(&db, &watch).await {
            tracing::debug!(%error, "the ages of waiting work are not known now");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Looks once. Ages are 0 where nothing waits. All of it is in PostgreSQL: each replica says the same, also after a restart.
///
/// # Errors
/// PostgreSQL; the numbers then stay as they were.
pub async fn look(db: &Db, watch: &Watch) -> Result<(), LineError> {
    let mut connection = db.conn().await?;
    let waiting: Waiting =
        sql_query(WAITING).bind::<sql_types::BigInt, _>(watch.stale_after_ms).get_result(&mut connection).await?;
    metrics::gauge!("trueup_payment_oldest_due_seconds").set(waiting.oldest_due_s.max(0.0));
    metrics::gauge!("trueup_payment_oldest_hint_seconds").set(waiting.oldest_hint_s.max(0.0));
    metrics::gauge!("trueup_payment_oldest_open_refund_seconds").set(waiting.oldest_refund_s.max(0.0));
    metrics::gauge!("trueup_payment_refunds_held", "by" => "line").set(waiting.held_by_line);
    metrics::gauge!("trueup_payment_refunds_held", "by" => "operator").set(waiting.held_by_operator);
    metrics::gauge!("trueup_payment_attention").set(waiting.attention);
    metrics::gauge!("trueup_payment_unknown_provider").set(waiting.unconfigured);
    let answered: Vec<Answered> =
        sql_query(ANSWERED).bind::<sql_types::Array<sql_types::Text>, _>(&watch.gateways).load(&mut connection).await?;
    for row in answered {
        metrics::gauge!("trueup_payment_unanswered_seconds", "provider" => row.provider.clone()).set(row.failing_s.max(0.0));
        if let Some(ago_s) = row.answered_s {
            metrics::gauge!("trueup_payment_last_answer_seconds", "provider" => row.provider).set(ago_s.max(0.0));
        }
    }
    let audited: Vec<Audited> =
        sql_query(AUDITED).bind::<sql_types::Array<sql_types::Text>, _>(&watch.gateways).load(&mut connection).await?;
    for row in audited {
        metrics::gauge!("trueup_payment_audit_differences", "provider" => row.provider.clone()).set(row.differences);
        metrics::gauge!("trueup_payment_audit_verdict", "provider" => row.provider).set(row.verdict);
    }
    drop(connection);
    if let Some(settings) = &watch.nightly {
        for (provider, overdue_s) in overdue(db, &watch.gateways, settings).await? {
            metrics::gauge!("trueup_payment_audit_overdue_seconds", "provider" => provider).set(overdue_s);
        }
    }
    Ok(())
}
