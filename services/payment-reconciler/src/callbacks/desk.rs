//! Takes one callback: reads it by its gateway's adapter, stores it, makes its payment due; one transaction.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use diesel::{OptionalExtension, QueryableByName, sql_query, sql_types};
use diesel_async::RunQueryDsl;
use domain::{clock::Clock, payment::ProviderName, secret::Secret};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use hmac::{Hmac, Mac};
use payment_providers::port::{Callback, CallbackError, CallbackHint, PaymentProvider};
use postgres_io::Db;
use sha2::Sha256;

use super::{CallbackSettings, note::Note};
use crate::error::LineError;

/// What became of a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is stored, and its payment is due now or when its bound allows.
    Stored,
    /// It is stored; its payment is not known (yet).
    Waiting {
        /// Whether the gateway sent it, as far as can be known.
        authenticated: bool,
    },
    /// It was stored before.
    Repeated,
    /// It is about nothing that is looked after here.
    Ignored,
}

impl Taken {
    /// The word in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Waiting { .. } => "waiting",
            Self::Repeated => "repeated",
            Self::Ignored => "ignored",
        }
    }

    /// The word in answers: whoever does not sign is not told which payments exist.
    #[must_use]
    pub const fn told(self) -> &'static str {
        match self {
            Self::Waiting { authenticated: false } => Self::Stored.as_str(),
            taken => taken.as_str(),
        }
    }
}

/// Why a callback is not taken.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// No gateway has this name here.
    #[error("no payment gateway has this name")]
    UnknownProvider,
    /// The signature or the secret is wrong.
    #[error("the callback's signature is {0}")]
    Signature(&'static str),
    /// Not the gateway's format.
    #[error("the callback cannot be read: {0}")]
    Malformed(String),
    /// Too many unsigned ones.
    #[error("too many unsigned callbacks")]
    TooMany,
    /// It could not be stored; the gateway sends it again.
    #[error(transparent)]
    Store(#[from] LineError),
}

/// One gateway's adapter and the bounds of its unsigned callbacks.
struct Counter {
    provider: Arc<dyn PaymentProvider>,
    unsigned: DefaultDirectRateLimiter,
    unknown: DefaultDirectRateLimiter,
}

/// Takes callbacks.
pub struct Desk {
    db: Db,
    clock: Arc<dyn Clock>,
    settings: CallbackSettings,
    counters: BTreeMap<ProviderName, Counter>,
    unknown_waiting: Arc<AtomicU32>,
}

#[derive(QueryableByName)]
struct PaymentRow {
    #[diesel(sql_type = sql_types::Text)]
    payment_id: String,
    #[diesel(sql_type = sql_types::Nullable<sql_types::Text>)]
    callback_secret: Option<String>,
}

impl Desk {
    /// Takes callbacks of these gateways. `unknown_waiting` is how many unsigned ones wait for their intake, as the sweep counts them.
    #[must_use]
    pub fn new(
        db: Db,
        clock: Arc<dyn Clock>,
        settings: CallbackSettings,
        providers: impl IntoIterator<Item = Arc<dyn PaymentProvider>>,
        unknown_waiting: Arc<AtomicU32>,
    ) -> Self {
        let limiter = |per_s, burst| RateLimiter::direct(Quota::per_second(at_least_1(per_s)).allow_burst(at_least_1(burst)));
        let counters = providers.into_iter().map(|provider| {
            let counter = Counter {
                unsigned: limiter(settings.unsigned_per_s, settings.unsigned_burst),
                unknown: limiter(settings.unknown_per_s, settings.unknown_burst),
                provider: Arc::clone(&provider),
            };
            (provider.name().clone(), counter)
        });
        let counters = counters.collect();
        Self { db, clock, settings, counters, unknown_waiting }
    }

    /// The longest body that is read, in bytes.
    #[must_use]
    pub const fn body_bytes_max(&self) -> usize {
        self.settings.body_bytes_max
    }

    /// Whether a gateway of this name is known.
    #[must_use]
    pub fn knows(&self, provider: &str) -> bool {
        self.counters.keys().any(|name| name.as_str() == provider)
    }

    /// Takes a callback. `Ok` means that it is committed, or that there is nothing to commit.
    ///
    /// # Errors
    /// [`DeskError`].
    pub async fn take(&self, provider: &str, headers: &[(String, String)], body: &[u8]) -> Result<Taken, DeskError> {
        let counter = self.counters.iter().find(|(name, _)| name.as_str() == provider).map(|(_, counter)| counter);
        let counter = counter.ok_or(DeskError::UnknownProvider)?;
        let callback = Callback { headers, body, received_at: self.clock.now() };
        let mut hint = match counter.provider.read_callback(&callback) {
            Ok(hint) => hint,
            Err(CallbackError::Irrelevant) => return Ok(Taken::Ignored),
            Err(CallbackError::Signature(what)) => return Err(DeskError::Signature(what)),
            Err(CallbackError::Malformed(what)) => return Err(DeskError::Malformed(what)),
        };
        if !hint.authenticated && counter.unsigned.check().is_err() {
            return Err(DeskError::TooMany);
        }
        let payment = self.payment(provider, &hint).await?;
        if let (Some(given), Some(PaymentRow { callback_secret: Some(kept), .. })) = (&hint.secret, &payment) {
            if !same(kept, given) {
                return Err(DeskError::Signature("not this payment's secret"));
            }
            hint.authenticated = true;
        }
        if payment.is_none() && !hint.authenticated {
            let full = AtomicU32::load(&self.unknown_waiting, Ordering::Relaxed) >= self.settings.unknown_waiting_max;
            if full || counter.unknown.check().is_err() {
                return Err(DeskError::TooMany);
            }
        }
        let note = Note {
            provider: provider.to_owned(),
            gap_ms: i64::from(if hint.authenticated { self.settings.signed_gap_ms } else { self.settings.unsigned_gap_ms }),
            kept_max: i64::from(self.settings.kept_per_payment_max),
            payment: payment.map(|row| row.payment_id),
            hint,
        };
        let db = self.db.clone();
        // A task of its own: a caller that hangs up would drop this future in its transaction.
        let stored = tokio::spawn(async move { note.store(&db).await }).await;
        Ok(stored.map_err(|_| LineError::TaskLost)??)
    }

    async fn payment(&self, provider: &str, hint: &CallbackHint) -> Result<Option<PaymentRow>, LineError> {
        let mut connection = self.db.conn().await?;
        Ok(sql_query("SELECT payment_id, callback_secret FROM payment WHERE provider = $1 AND reference = $2")
            .bind::<sql_types::Text, _>(provider)
            .bind::<sql_types::Text, _>(hint.reference.as_str())
            .get_result(&mut connection)
            .await
            .optional()?)
    }
}

/// Compares by MACs, whose comparison takes the same time whatever the texts have in common.
fn same(kept: &str, given: &Secret) -> bool {
    let mac = |text: &str| Hmac::<Sha256>::new_from_slice(b"callback").map(|mac| mac.chain_update(text.as_bytes()));
    match (mac(kept), mac(given.expose())) {
        (Ok(kept), Ok(given)) => kept.verify(&given.finalize().into_bytes()).is_ok(),
        _ => false,
    }
}

fn at_least_1(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}
