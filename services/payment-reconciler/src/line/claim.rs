//! Claims: a payment is taken for one replica by a lease with a fencing token, for as long as it is asked about and settled.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use domain::payment::{OrderId, PaymentId, PaymentState, PgReference, Policy, ProviderName};
use tokio_postgres::Row;
use tracing::Instrument;

use super::{Line, operator::OnBehalf, outcome::Outcome, rows::parsed, run::Scope, trace, unanswered::Fallen};
use crate::{error::LineError, pg};

/// A payment that this replica holds.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The payment.
    pub payment: PaymentId,
    /// Its order.
    pub order: OrderId,
    /// Its gateway.
    pub provider: ProviderName,
    /// What the gateway knows it by.
    pub reference: PgReference,
    /// Where it was when it was claimed.
    pub state: PaymentState,
    /// The fencing token: nobody else has this number.
    pub fence: i64,
    /// The hint that was there when it was claimed; a later one asks for another look.
    pub hinted_at: Option<DateTime<Utc>>,
    /// Asks in a row that brought no answer.
    pub failed_checks: u32,
    /// When the run began that claimed it. What the run does is due again later than that, whatever the clock does meanwhile.
    pub run_began_at: DateTime<Utc>,
    /// Until when nobody else can have taken it, by this process' own clock, which goes on while the process is stopped. No call to
    /// the gateway begins that could go on after it.
    pub held_until: Instant,
    /// The operator who wants it looked after now; none: the line itself.
    pub on_behalf: Option<Arc<OnBehalf>>,
}

/// What a claim brought.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Payments to be looked after.
    pub readable: Vec<Claimed>,
    /// Rows that cannot be read. They are noted already.
    pub unreadable: i64,
}

impl Claimed {
    /// Whether it lasts for a call that takes so long: nobody else can begin one meanwhile.
    #[must_use]
    pub fn lasts(&self, time: Duration) -> bool {
        Instant::now() + time < self.held_until
    }

    /// Who is written down for what follows: the operator who wants it, or `otherwise`.
    pub(super) fn actor(&self, otherwise: &'static str) -> &str {
        self.on_behalf.as_deref().map_or(otherwise, |by| by.actor.as_str())
    }
}

/// Takes what is hinted at first, then what is due, then what has become stale; only what nobody holds, and what was so when the run began:
/// a run ends, however many hints come. `next_check_at` moves to the lease's end, so that a claim of a replica that died is due again by
/// itself. A lease that ends in a future which no lease can reach was written before the clock stepped back: it does not count, and a hint
/// of the future counts as an old one. Nothing is taken of a gateway that pauses or whose breaker is open, unless to try it; a pause that is longer than any comes from before a
/// step back, too. What was picked is an array: joined to it, the whole table was read for each claim, since the planner takes a limit that it
/// cannot know for a tenth of all rows.
const CLAIM: &str = "WITH gate AS (SELECT $7 OR NOT EXISTS (SELECT FROM provider_state s WHERE s.provider = $1 \
        AND (s.breaker <> 'closed' OR (s.paused_until > payment_now() \
            AND s.paused_until <= payment_now() + 2 * $9::bigint * interval '1 millisecond'))) AS open), \
    hinted AS ( \
        SELECT payment_id FROM payment WHERE provider = $1 AND (hinted_at <= $3::timestamptz OR hinted_at > payment_now()) AND state <> 'SUCCESS' \
        AND (lease_until IS NULL OR lease_until <= payment_now() OR lease_until > payment_now() + 2 * $6::bigint * interval '1 millisecond') \
        AND (SELECT open FROM gate) ORDER BY hinted_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED), \
    due AS ( \
        SELECT payment_id FROM payment WHERE provider = $1 AND next_check_at <= $3::timestamptz AND state <> 'SUCCESS' \
        AND (lease_until IS NULL OR lease_until <= payment_now() OR lease_until > payment_now() + 2 * $6::bigint * interval '1 millisecond') \
        AND (SELECT open FROM gate) ORDER BY next_check_at LIMIT greatest(0, $2 - (SELECT count(*) FROM hinted)) FOR NO KEY UPDATE SKIP LOCKED), \
    fresh AS ( \
        SELECT payment_id FROM payment WHERE provider = $1 AND next_check_at IS NULL AND state = 'PENDING' \
        AND created_at <= $3::timestamptz - $4::bigint * interval '1 millisecond' \
        AND $8 AND (SELECT open FROM gate) ORDER BY created_at LIMIT greatest(0, $2 - (SELECT count(*) FROM hinted) - (SELECT count(*) FROM due)) FOR NO KEY UPDATE SKIP LOCKED), \
    picked AS (SELECT payment_id FROM hinted UNION SELECT payment_id FROM due UNION SELECT payment_id FROM fresh) \
    UPDATE payment p SET holder = $5, fence = p.fence + 1, lease_until = payment_now() + $6::bigint * interval '1 millisecond', \
        next_check_at = payment_now() + $6::bigint * interval '1 millisecond' \
    WHERE p.payment_id = ANY (ARRAY(SELECT payment_id FROM picked)) \
    RETURNING p.payment_id, p.order_id, p.provider, p.reference, p.state, p.fence, p.hinted_at, p.failed_checks";

/// One payment, due or not, as an operator wants it.
const CLAIM_ONE: &str = "UPDATE payment p SET holder = $2, fence = p.fence + 1, lease_until = payment_now() + $3::bigint * interval '1 millisecond', \
        next_check_at = payment_now() + $3::bigint * interval '1 millisecond' \
    WHERE p.payment_id = $1 AND p.state <> 'SUCCESS' \
    AND (p.lease_until IS NULL OR p.lease_until <= payment_now() OR p.lease_until > payment_now() + 2 * $3::bigint * interval '1 millisecond') \
    RETURNING p.payment_id, p.order_id, p.provider, p.reference, p.state, p.fence, p.hinted_at, p.failed_checks";

const GIVE_BACK: &str = "UPDATE payment SET holder = NULL, lease_until = NULL, next_check_at = payment_now() WHERE payment_id = $1 AND fence = $2 AND holder = $3";

impl Line {
    /// The database's time, for the beginning of a run.
    ///
    /// # Errors
    /// PostgreSQL.
    pub async fn now(&self) -> Result<DateTime<Utc>, LineError> {
        let session = pg::session(&self.pool).await?;
        Ok(session.row("SELECT payment_now()", &[]).await?.try_get(0)?)
    }

    /// How many orders are PENDING and older than the settings' age, at this moment.
    ///
    /// # Errors
    /// PostgreSQL.
    pub async fn stale_orders(&self, at: DateTime<Utc>) -> Result<i64, LineError> {
        let session = pg::session(&self.pool).await?;
        let sql = "SELECT count(*) FROM customer_order WHERE state = 'PENDING' AND created_at <= $1::timestamptz - $2::bigint * interval '1 millisecond'";
        Ok(session.row(sql, &[&at, &self.settings.run.stale_after_ms]).await?.try_get(0)?)
    }

    /// Claims up to `slots` payments of a gateway that were due or hinted at when the run began. `probing`: to try a gateway
    /// whose breaker is open.
    ///
    /// # Errors
    /// PostgreSQL; nothing is claimed then, or what was is due again when its lease ends.
    pub async fn claim(
        &self,
        provider: &ProviderName,
        scope: Scope,
        slots: usize,
        run_began_at: DateTime<Utc>,
        probing: bool,
    ) -> Result<Vec<Claimed>, LineError> {
        Ok(Box::pin(self.claims(provider, scope, slots, run_began_at, probing)).await?.readable)
    }

    /// The same, with the number of rows that cannot be read. Those are noted and given back; they keep nobody else from a turn.
    pub(super) async fn claims(
        &self,
        provider: &ProviderName,
        scope: Scope,
        slots: usize,
        run_began_at: DateTime<Utc>,
        probing: bool,
    ) -> Result<Claims, LineError> {
        let held_until = self.held_from_now();
        let session = pg::session(&self.pool).await?;
        let slots = i64::try_from(slots).unwrap_or(i64::MAX);
        let run = &self.settings.run;
        let with_fresh = scope != Scope::Due;
        let rows = session
            .rows(
                CLAIM,
                &[
                    &provider.as_str(),
                    &slots,
                    &run_began_at,
                    &run.stale_after_ms,
                    &self.holder,
                    &run.lease_ms,
                    &probing,
                    &with_fresh,
                    &self.settings.breaker.pause_ms_max,
                ],
            )
            .await?;
        let mut claims = Claims::default();
        for row in &rows {
            match claimed(row, run_began_at, held_until) {
                Ok(claimed) => claims.readable.push(claimed),
                Err(error) => {
                    claims.unreadable = claims.unreadable.saturating_add(1);
                    self.note_unreadable(row, self.policy(provider), run_began_at, &error).await?;
                }
            }
        }
        Ok(claims)
    }

    /// Claims one payment, due or not; none if somebody holds it, or if it is a success, which nobody asks about.
    ///
    /// # Errors
    /// PostgreSQL.
    pub async fn claim_one(&self, payment: &PaymentId) -> Result<Option<Claimed>, LineError> {
        let began = self.now().await?;
        let held_until = self.held_from_now();
        let session = pg::session(&self.pool).await?;
        let rows = session.rows(CLAIM_ONE, &[&payment.as_str(), &self.holder, &self.settings.run.lease_ms]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        match claimed(row, began, held_until) {
            Ok(claimed) => Ok(Some(claimed)),
            Err(error) => {
                self.note_unreadable(row, &self.otherwise, began, &error).await?;
                Err(error)
            }
        }
    }

    /// A row whose ids are none, which somebody wrote past the rules: it is shown to an operator and has its next turn like any payment that
    /// could not be looked after.
    async fn note_unreadable(
        &self,
        row: &Row,
        policy: &Policy,
        run_began_at: DateTime<Utc>,
        error: &LineError,
    ) -> Result<(), LineError> {
        let (payment, order): (&str, &str) = (row.try_get("payment_id")?, row.try_get("order_id")?);
        tracing::error!(orderId = ?order, paymentId = ?payment, %error, "Failed to reconcile order: its row cannot be read");
        let fallen = Fallen {
            payment,
            order,
            policy,
            fence: row.try_get("fence")?,
            hinted_at: row.try_get("hinted_at")?,
            failed_checks: failed_checks(row)?,
            run_began_at,
        };
        let provider: String = row.try_get("provider")?;
        // What cannot be noted is due again when its claim ends; the others go on.
        if let Err(error) = Box::pin(self.note(&fallen, error)).instrument(trace::turn(order, payment, &provider)).await {
            tracing::warn!(paymentId = ?payment, %error, "a failure could not be noted; the claim ends by itself");
        }
        metrics::counter!("trueup_payment_outcomes_total", "provider" => provider, "outcome" => Outcome::Error.as_str())
            .increment(1);
        Ok(())
    }

    /// The end of a lease that is written behind this moment, at the earliest.
    pub(super) fn held_from_now(&self) -> Instant {
        Instant::now() + Duration::from_millis(u64::try_from(self.settings.run.lease_ms).unwrap_or(0))
    }

    /// Gives a claim back; somebody else may take it at once.
    ///
    /// # Errors
    /// PostgreSQL; the lease then ends by itself.
    pub async fn give_back(&self, claimed: &Claimed) -> Result<(), LineError> {
        let session = pg::session(&self.pool).await?;
        session.run(GIVE_BACK, &[&claimed.payment.as_str(), &claimed.fence, &self.holder]).await?;
        Ok(())
    }
}

fn claimed(row: &Row, run_began_at: DateTime<Utc>, held_until: Instant) -> Result<Claimed, LineError> {
    Ok(Claimed {
        payment: parsed(row, "payment_id")?,
        order: parsed(row, "order_id")?,
        provider: parsed(row, "provider")?,
        reference: parsed(row, "reference")?,
        state: parsed(row, "state")?,
        fence: row.try_get("fence")?,
        hinted_at: row.try_get("hinted_at")?,
        failed_checks: failed_checks(row)?,
        run_began_at,
        held_until,
        on_behalf: None,
    })
}

fn failed_checks(row: &Row) -> Result<u32, LineError> {
    Ok(u32::try_from(row.try_get::<_, i32>("failed_checks")?).unwrap_or(0))
}
