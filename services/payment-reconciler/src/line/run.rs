//! A run: everything that was due when it began, each payment on its own, as many at a time as there are slots.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use domain::payment::ProviderName;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use super::report::Report;
use super::{
    Line,
    claim::{Claimed, Claims},
    gateway::Slot,
    outcome::Outcome,
    tally::Outcomes,
};
use crate::error::LineError;

/// How often a run that waits for a slot looks whether there is one. Whoever gives one back tells; the limit grows by operators' answers, too, which tells
/// nobody. It costs no statement.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a run takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Stale orders, and whatever else is due.
    Run,
    /// What is due or hinted at.
    Due,
    /// The same and stale orders, beside a run that goes on although the next one's time has come: it waits for slow payments, and what has
    /// become stale meanwhile does not wait with it.
    Late,
}

/// How often each outcome came out, and what kept the rest of the work from being claimed, if something did.
#[derive(Debug, Default)]
pub(super) struct Drained {
    pub outcomes: Outcomes,
    pub failed: Option<LineError>,
}

impl Line {
    /// One run: what was due when it began. Whoever else works meanwhile, in this replica or another one, shares its work by claims.
    ///
    /// # Errors
    /// PostgreSQL cannot say what is due, or take the report. What is claimed then is due again when its lease ends.
    pub async fn run_once(self: &Arc<Self>, scope: Scope, stop: &CancellationToken) -> Result<Report, LineError> {
        let began = Instant::now();
        let began_at = self.now().await?;
        let mut report = Report::default();
        if scope == Scope::Run {
            report.found = self.stale_orders(began_at).await?;
            tracing::info!("Found {} stale orders to reconcile", report.found);
            self.gateways.values().for_each(|gateway| gateway.seed(report.found));
        }
        let mut providers = JoinSet::new();
        for name in self.gateways.keys() {
            let (line, stop, name) = (Arc::clone(self), stop.clone(), name.clone());
            providers.spawn(async move { line.drain(&name, scope, began_at, &stop, None).await });
        }
        let mut failed = None;
        while let Some(drained) = providers.join_next().await {
            let lost = |_| Drained { failed: Some(LineError::TaskLost), ..Drained::default() };
            let drained = drained.unwrap_or_else(lost);
            drained.outcomes.into_iter().for_each(|(outcome, count)| report.add(outcome, count));
            report.broken = report.broken.saturating_add(i64::from(drained.failed.is_some()));
            failed = drained.failed.or(failed);
        }
        if scope == Scope::Run {
            match Box::pin(self.note_unconfigured(began_at)).await {
                Ok(noted) => report.add(Outcome::Error, noted),
                Err(error) => {
                    report.broken = report.broken.saturating_add(1);
                    failed = Some(error);
                }
            }
        }
        report.duration = began.elapsed();
        report.interrupted = stop.is_cancelled();
        if scope == Scope::Run {
            report.looked = self.looked.take();
            Box::pin(self.write_report(&report, began_at)).await?;
        }
        failed.map_or(Ok(report), Err)
    }

    /// Works off what was due of one gateway at `began_at`: claims for free slots only, without a barrier, until nothing is left. Several of
    /// these may work on a gateway at the same time; they share its slots. `claiming` is dropped when there is nothing left to claim and only
    /// answers are waited for.
    pub(super) async fn drain(
        self: &Arc<Self>,
        name: &ProviderName,
        scope: Scope,
        began_at: DateTime<Utc>,
        stop: &CancellationToken,
        mut claiming: Option<DropGuard>,
    ) -> Drained {
        let gateway = match self.gateway(name) {
            Ok(gateway) => Arc::clone(gateway),
            Err(error) => return Drained { failed: Some(error), ..Drained::default() },
        };
        let mut report = Report::default();
        let mut jobs: JoinSet<Outcome> = JoinSet::new();
        let mut failed = None;
        let mut is_more = true;
        // Whether what is under way is to try a gateway whose breaker is open: its answer says whether there is more to claim.
        let mut is_probe = false;
        loop {
            // All that have ended, each time: one at a time would be fewer than are begun, and what has ended takes memory until it is joined.
            while let Some(ended) = jobs.try_join_next() {
                self.ended(scope, &mut report, ended);
            }
            is_more = is_more && !stop.is_cancelled();
            let may_claim = is_more && (!is_probe || jobs.is_empty());
            let slots = if may_claim { gateway.take_free() } else { Vec::new() };
            if !slots.is_empty() {
                match self.next_claims(name, scope, slots.len(), began_at, jobs.is_empty()).await {
                    Ok((claims, probe)) => {
                        self.progressed(scope);
                        is_more = !claims.readable.is_empty() || claims.unreadable > 0;
                        is_probe = probe;
                        self.count(scope, &mut report, Outcome::Error, claims.unreadable);
                        claims
                            .readable
                            .into_iter()
                            .zip(slots)
                            .for_each(|(claimed, slot)| self.spawn(&mut jobs, claimed, slot, stop));
                    }
                    Err(error) => {
                        is_more = false;
                        failed = Some(error);
                    }
                }
            }
            if !is_more {
                drop(claiming.take());
                if jobs.is_empty() {
                    break;
                }
            }
            tokio::select! {
                Some(ended) = jobs.join_next() => self.ended(scope, &mut report, ended),
                () = gateway.freed(), if may_claim => self.progressed(scope),
                () = tokio::time::sleep(LOOK_AGAIN), if is_more => {}
            }
        }
        Drained { outcomes: report.outcomes, failed }
    }

    /// Counts a job that has ended. One that panicked keeps its lease; its payment is due again when that ends.
    fn ended(&self, scope: Scope, report: &mut Report, ended: Result<Outcome, JoinError>) {
        self.progressed(scope);
        self.count(scope, report, ended.unwrap_or(Outcome::Error), 1);
    }

    /// What looks do is told by the next run's report.
    fn count(&self, scope: Scope, report: &mut Report, outcome: Outcome, more: i64) {
        report.add(outcome, more);
        if scope != Scope::Run {
            self.looked.add(outcome, more);
        }
    }

    /// Claims for `free` slots, and whether the one claim is to try a gateway whose breaker is open.
    async fn next_claims(
        &self,
        name: &ProviderName,
        scope: Scope,
        free: usize,
        began_at: DateTime<Utc>,
        idle: bool,
    ) -> Result<(Claims, bool), LineError> {
        let claims = self.claims(name, scope, free, began_at, false).await?;
        // Nothing at all may mean that the breaker is open; then one payment tries the gateway.
        if claims.readable.is_empty() && claims.unreadable == 0 && idle && self.may_probe(name).await? {
            let probe = self.claims(name, scope, 1, began_at, true).await?;
            if probe.readable.is_empty() {
                self.not_probed(name).await?;
            }
            return Ok((probe, true));
        }
        Ok((claims, false))
    }

    fn spawn(self: &Arc<Self>, jobs: &mut JoinSet<Outcome>, claimed: Claimed, slot: Slot, stop: &CancellationToken) {
        let (line, stop) = (Arc::clone(self), stop.clone());
        jobs.spawn(async move {
            let outcome = line.look_after(&claimed, &stop).await;
            drop(slot);
            outcome
        });
    }
}
