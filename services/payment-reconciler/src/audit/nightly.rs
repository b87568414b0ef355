//! Audits each gateway's yesterday, once a day, in one replica, and makes up for the nights before of which nobody can tell.

use std::{sync::Arc, time::Duration};

use domain::payment::ProviderName;
use tokio_util::sync::CancellationToken;

use super::{
    auditor::{Auditor, Wish},
    nights::{self, Night},
    store,
};
use crate::error::LineError;

/// Who wanted it.
const ACTOR: &str = "nightly";

/// Audits by night.
pub struct Nightly(Arc<Auditor>);

impl Nightly {
    /// Audits what this auditor audits.
    #[must_use]
    pub const fn new(auditor: Arc<Auditor>) -> Self {
        Self(auditor)
    }

    /// Looks again and again until `stop`. An audit that is cut off is made again by whoever looks next.
    pub async fn run(self, stop: CancellationToken, beat: impl Fn() + Send + Sync) {
        let interval = Duration::from_millis(self.0.settings().look_interval_ms);
        loop {
            beat();
            tokio::select! {
                () = stop.cancelled() => return,
                looked = self.look() => if let Err(error) = looked {
                    tracing::warn!(%error, "the nightly audit waits");
                },
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
            }
        }
    }

    /// Audits what is to be audited now; how many audits that were. Each gateway's newest night comes first, then the nights before it that nobody can
    /// tell of, the oldest first, as many as `audit.nights_max` says.
    ///
    /// # Errors
    /// PostgreSQL, after all gateways had their turn.
    pub async fn look(&self) -> Result<usize, LineError> {
        let nights = self.due().await?;
        let Some(newest) = nights.first().copied() else { return Ok(0) };
        let mut done = Done::default();
        for provider in self.0.providers() {
            self.audit(provider, newest, &mut done).await;
        }
        let gateways: Vec<String> = self.0.providers().map(ToString::to_string).collect();
        let untold = nights::untold(self.0.db(), &gateways, &nights).await?;
        for provider in self.0.providers() {
            let older = untold.get(provider.as_str()).into_iter().flatten().filter(|night| **night != newest);
            for night in older {
                // A night that becomes due meanwhile does not wait for those before it.
                if self.due().await?.first() != Some(&newest) {
                    return done.result();
                }
                self.audit(provider, *night, &mut done).await;
            }
        }
        done.result()
    }

    async fn due(&self) -> Result<Vec<Night>, LineError> {
        Ok(nights::due(store::now(self.0.db()).await?, self.0.settings()))
    }

    async fn audit(&self, provider: &ProviderName, night: Night, done: &mut Done) {
        let wish = Wish { span: night.day, settling_minutes: None, actor: ACTOR, once: true };
        match self.0.audit(provider, wish).await {
            Ok(report) => done.audited = done.audited.saturating_add(usize::from(report.is_some())),
            // The others are audited all the same.
            Err(error) => {
                tracing::warn!(%provider, %error, "a night's audit could not be kept");
                done.failed.get_or_insert(error);
            }
        }
    }
}

/// What a look came to.
#[derive(Default)]
struct Done {
    audited: usize,
    failed: Option<LineError>,
}

impl Done {
    fn result(self) -> Result<usize, LineError> {
        self.failed.map_or(Ok(self.audited), Err)
    }
}
