//! The operators' interface: what stands still and why, what would be done about it, and doing it. Who did what, when and why is kept.
//!
//! It moves nothing by itself: a retry makes payments due, a resolve asks the gateway first and then triggers a move of the tables of states,
//! a hold keeps a refund from being sent.

mod actions;
mod body;
mod handlers;
mod hands;
mod listing;
mod orders;
mod refunds;
mod retry;
mod settings;
mod token;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use domain::payment::{OrderId, PaymentId, PgAnswer, PgReference, ProviderName, RefundId};
use payment_providers::port::PaymentProvider;
use postgres_io::Db;

pub use handlers::configure;
pub use hands::LineHands;
pub use settings::AdminSettings;
pub use token::Operators;

use crate::{
    audit::Auditor,
    error::LineError,
    line::operator::{OnBehalf, Told},
};

/// What the operators' interface asks of the line.
#[async_trait]
pub trait Hands: Send + Sync {
    /// Asks about a payment and applies what the gateway says, as a run does; who wanted it is kept in the same transaction.
    ///
    /// # Errors
    /// PostgreSQL or the gateway.
    async fn settle_now(&self, payment: &PaymentId, by: OnBehalf) -> Result<Told, LineError>;

    /// Asks once what became of a payment, and changes nothing.
    ///
    /// # Errors
    /// There was no turn at the gateway, or it gave no answer.
    async fn ask(&self, provider: &ProviderName, reference: &PgReference) -> Result<PgAnswer, LineError>;

    /// What the line would do with this answer, in words. Nothing is changed.
    ///
    /// # Errors
    /// PostgreSQL.
    async fn foresee(&self, order: &OrderId, payment: &PaymentId, answer: &PgAnswer) -> Result<String, LineError>;

    /// How old an open refund of this gateway's is, in milliseconds, when an operator is shown it and may have it begun anew.
    fn refund_overdue_ms(&self, provider: &ProviderName) -> i64;

    /// The id of a payment's refund: the same whenever it is asked for.
    fn refund_id(&self, payment: &PaymentId) -> RefundId;
}

/// What the operators' addresses need.
pub struct Admin {
    pub(crate) operators: Operators,
    pub(crate) db: Db,
    pub(crate) providers: BTreeMap<ProviderName, Arc<dyn PaymentProvider>>,
    pub(crate) hands: Arc<dyn Hands>,
    pub(crate) auditor: Arc<Auditor>,
    pub(crate) settings: AdminSettings,
}

impl Admin {
    /// The operators' interface over these gateways.
    #[must_use]
    pub fn new(
        settings: AdminSettings,
        db: Db,
        providers: impl IntoIterator<Item = Arc<dyn PaymentProvider>>,
        hands: Arc<dyn Hands>,
        auditor: Arc<Auditor>,
    ) -> Self {
        let providers = providers.into_iter().map(|provider| (provider.name().clone(), provider)).collect();
        Self { operators: Operators::new(&settings), db, providers, hands, auditor, settings }
    }
}
