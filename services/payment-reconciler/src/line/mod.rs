//! The line itself: claim a payment, ask its gateway with no transaction open, settle in one transaction, drive its refund.
//!
//! Each phase is a method of its own, so that whoever asks on behalf of an operator, and every test, goes through the same ones.

pub mod ask;
pub mod claim;
pub mod foresight;
pub mod gateway;
pub(crate) mod gateways;
pub mod health;
pub mod job;
pub mod operator;
pub mod outcome;
mod reading;
mod refunds;
mod report;
mod rows;
pub mod run;
mod schedule;
pub mod settle;
mod tally;
mod trace;
pub(crate) mod turn;
mod unanswered;
mod unconfigured;
mod write;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock},
    time::Instant,
};

use domain::payment::{Policy, ProviderName};
use payment_providers::port::PaymentProvider;
use postgres_io::PostgresSettings;
use uuid::Uuid;

use self::gateway::Gateway;
use crate::{
    config::LineSettings,
    error::LineError,
    pg::{self, Pool},
};

/// Who wrote an entry of the book or a refund without being asked by a person.
const ACTOR_SETTLE: &str = "settle";
/// The refund driver, as the writer of an entry.
const ACTOR_REFUND_DRIVER: &str = "refund-driver";
/// What stands for a gateway's status where it does not know the payment.
const NOT_FOUND: &str = "NOT_FOUND";
/// Why an order failed whose money came and went before we looked.
const RETURNED: &str = "PAYMENT_RETURNED";

/// The payment line of one replica.
pub struct Line {
    pool: Pool,
    gateways: BTreeMap<ProviderName, Arc<Gateway>>,
    policies: BTreeMap<ProviderName, Policy>,
    otherwise: Policy,
    holder: Uuid,
    settings: LineSettings,
    beat: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// When the run began that is under way, by this process' own clock.
    run_began: Mutex<Option<Instant>>,
    looked: tally::Tally,
}

impl Line {
    /// A line over these gateways. `holder` is an id of this replica. It connects at first use.
    ///
    /// # Errors
    /// The pool cannot be made.
    pub fn new(
        postgres: &PostgresSettings,
        providers: Vec<Arc<dyn PaymentProvider>>,
        holder: Uuid,
        settings: LineSettings,
    ) -> Result<Arc<Self>, LineError> {
        let pool = pg::pool(postgres)?;
        let policies = settings.policies.clone();
        let named = |provider: Arc<dyn PaymentProvider>| {
            let name = provider.name().clone();
            (name, Arc::new(Gateway::new(provider, &settings.asking)))
        };
        let gateways = providers.into_iter().map(named).collect();
        Ok(Arc::new(Self {
            pool,
            gateways,
            policies,
            otherwise: settings.policy.clone(),
            holder,
            settings,
            beat: OnceLock::new(),
            run_began: Mutex::default(),
            looked: tally::Tally::default(),
        }))
    }

    /// Calls `beat` whenever the runs make progress: something is claimed, some payment's turn is over, or there is nothing to do. Once.
    pub fn on_progress(&self, beat: impl Fn() + Send + Sync + 'static) {
        if self.beat.set(Box::new(beat)).is_err() {
            tracing::error!("somebody else listens to the line's progress already");
        }
    }

    /// The runs made progress. Looks between them do not count: they would hide a run that stands still.
    fn progressed(&self, scope: run::Scope) {
        if scope == run::Scope::Run
            && let Some(beat) = self.beat.get()
        {
            beat();
        }
    }

    /// What verdicts about this gateway's payments go by.
    #[must_use]
    pub fn policy(&self, provider: &ProviderName) -> &Policy {
        self.policies.get(provider).unwrap_or(&self.otherwise)
    }

    /// The gateway of a payment.
    ///
    /// # Errors
    /// [`LineError::UnknownProvider`].
    pub fn gateway(&self, provider: &ProviderName) -> Result<&Arc<Gateway>, LineError> {
        self.gateways.get(provider).ok_or_else(|| LineError::UnknownProvider(provider.to_string()))
    }

    /// Up to a tenth more or less, so that what fell due together does not stay together.
    fn jittered(delay_ms: i64) -> i64 {
        let spread = delay_ms / 10;
        if spread < 1 {
            return delay_ms;
        }
        // The hasher of a new map is seeded at random: enough to spread, and nothing that anybody relies on.
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), delay_ms);
        let random = i64::try_from(random >> 1).unwrap_or(0);
        delay_ms.saturating_sub(spread).saturating_add(random.rem_euclid(spread.saturating_mul(2)))
    }
}
