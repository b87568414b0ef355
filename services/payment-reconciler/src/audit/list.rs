//! A gateway's list of a time, read to its end or not at all.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::clock::Timestamp;
use payment_providers::port::{PaymentProvider, ProviderError};

use super::{auditor::Span, compare::Line};
use crate::error::LineError;

/// Pages of a list that are followed for one piece; a list without an end is no list.
const PAGES_MAX: usize = 100_000;
/// Tries of one call that brings no answer.
const TRIES: u32 = 3;
/// The pause before the second try; it doubles. A gateway that wants fewer calls is left alone at least so long.
const TRY_PAUSE: Duration = Duration::from_secs(1);

/// Why a piece could not be compared.
#[derive(Debug)]
pub(super) enum Broken {
    /// The gateway's list or answer, in words.
    Gateway(String),
    /// The book.
    Book(LineError),
}

impl From<LineError> for Broken {
    fn from(error: LineError) -> Self {
        Self::Book(error)
    }
}

impl Broken {
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Gateway(reason) => reason.clone(),
            Self::Book(error) => format!("the book could not be read: {error}"),
        }
    }
}

/// How long an audit still waits for a gateway that wants fewer calls.
pub(super) struct Patience(Duration);

impl Patience {
    pub(super) const fn new(wait: Duration) -> Self {
        Self(wait)
    }

    /// How long to wait now; None if that is too long.
    fn spend(&mut self, wanted: Option<Duration>) -> Option<Duration> {
        let wait = wanted.unwrap_or_default().max(TRY_PAUSE);
        self.0 = self.0.checked_sub(wait)?;
        Some(wait)
    }
}

/// Asks until there is an answer: after a while when there was none, and after the pause that the gateway wants, as long as there is patience.
pub(super) async fn patiently<T, F: Future<Output = Result<T, ProviderError>> + Send>(
    provider: &dyn PaymentProvider,
    patience: &mut Patience,
    what: &str,
    ask: impl Fn() -> F + Send,
) -> Result<T, Broken> {
    let (mut pause, mut tries) = (TRY_PAUSE, 1);
    loop {
        let error = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let wait = match &error {
            ProviderError::Throttled { retry_after } => patience.spend(*retry_after),
            ProviderError::Unavailable(_) if tries < TRIES => {
                let wait = pause;
                (pause, tries) = (pause.saturating_mul(2), tries + 1);
                Some(wait)
            }
            _ => None,
        };
        let Some(wait) = wait else { return Err(Broken::Gateway(format!("{what} could not be read: {error}"))) };
        tracing::warn!(provider = %provider.name(), %error, wait_ms = wait.as_secs_f64() * 1_000.0, "an audit waits for the gateway");
        tokio::time::sleep(wait).await;
    }
}

/// The whole list of a time, of at most `lines_max` lines.
pub(super) async fn list(
    provider: &dyn PaymentProvider,
    span: Span,
    lines_max: usize,
    patience: &mut Patience,
) -> Result<Vec<Line>, Broken> {
    let (from, to) = (Timestamp::from(span.from), Timestamp::from(span.to));
    let (mut lines, mut cursor) = (Vec::new(), None::<String>);
    for _ in 0..PAGES_MAX {
        let ask = || provider.transactions(from, to, cursor.as_deref());
        let page = patiently(provider, patience, "the list", ask).await?;
        lines.extend(page.transactions.into_iter().map(|line| Line {
            id: line.id,
            reference: line.reference.to_string(),
            kind: line.kind,
            amount: line.amount.amount,
            currency: line.amount.currency.to_string(),
            at: line.at.to_datetime(),
        }));
        if lines.len() > lines_max {
            let reason = "the list is too long for one piece; give a shorter audit.window_minutes".to_owned();
            return Err(Broken::Gateway(reason));
        }
        cursor = match page.next {
            Some(next) if Some(&next) != cursor.as_ref() => Some(next),
            Some(_) => return Err(Broken::Gateway("the list goes in a circle".to_owned())),
            None => return Ok(lines),
        };
    }
    Err(Broken::Gateway("the list has no end".to_owned()))
}

/// Whether a line belongs to this time.
pub(super) fn is_within(span: Span, at: DateTime<Utc>) -> bool {
    at >= span.from && at < span.to
}
