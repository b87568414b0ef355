//! A replica that does one step of the line at a time, through the same methods as a run: claim, ask, settle, end a payment, send, record. Between any two
//! steps it can be left standing, or be gone; within a step it can be cut off.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use domain::payment::{PgAnswer, PgRefund, ProviderName};
use payment_providers::port::{ProviderError, RefundOrder};
use payment_reconciler::{
    Line,
    error::LineError,
    line::{
        ask::Question,
        claim::Claimed,
        run::Scope,
        settle::{Applied, Mode, Next},
    },
};
use tokio_util::sync::CancellationToken;

/// How a step ends that is cut off in its middle.
pub const CUT_OFF: &str = "is cut off";

/// How a step ends of somebody whose claim was taken over.
pub const OVERTAKEN: &str = "the lease on the payment is lost";

/// What a replica has in its hand.
enum Hand {
    Nothing,
    Claimed(Claimed),
    Answered(Claimed, PgAnswer, Mode),
    ToClose(Claimed),
    Marked(Claimed, RefundOrder),
    Sent(Claimed, Result<PgRefund, ProviderError>),
}

pub struct Replica {
    line: Arc<Line>,
    provider: ProviderName,
    hand: Hand,
}

/// A future that is dropped in its middle: after so many polls.
struct Cut<F> {
    future: Pin<Box<F>>,
    polls: u32,
}

impl<F: Future> Future for Cut<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(done) = self.future.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        self.polls = self.polls.saturating_sub(1);
        if self.polls == 0 { Poll::Ready(None) } else { Poll::Pending }
    }
}

/// A run that is told to end after so many polls, and then may take its time.
pub struct StopAfter<F> {
    future: Pin<Box<F>>,
    polls: u32,
    stop: CancellationToken,
}

impl<F: Future> StopAfter<F> {
    pub fn new(future: F, polls: u32, stop: CancellationToken) -> Self {
        Self { future: Box::pin(future), polls, stop }
    }
}

impl<F: Future> Future for StopAfter<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.polls = self.polls.saturating_sub(1);
        if self.polls == 0 {
            self.stop.cancel();
        }
        self.future.as_mut().poll(context)
    }
}

impl Replica {
    pub fn new(line: Arc<Line>, provider: ProviderName) -> Self {
        Self { line, provider, hand: Hand::Nothing }
    }

    pub fn is_idle(&self) -> bool {
        matches!(self.hand, Hand::Nothing)
    }

    /// What it has claimed, also if somebody else has taken it over meanwhile.
    pub const fn claimed(&self) -> Option<&Claimed> {
        match &self.hand {
            Hand::Nothing => None,
            Hand::Claimed(claimed)
            | Hand::Answered(claimed, ..)
            | Hand::ToClose(claimed)
            | Hand::Marked(claimed, _)
            | Hand::Sent(claimed, _) => Some(claimed),
        }
    }

    /// It is gone; its claim ends by itself.
    pub fn kill(&mut self) {
        self.hand = Hand::Nothing;
    }

    /// Does the next step; what it was, for the history.
    ///
    /// # Errors
    /// The line failed at something that never may fail.
    pub async fn step(&mut self) -> Result<String, String> {
        let hand = std::mem::replace(&mut self.hand, Hand::Nothing);
        let (hand, told) = Box::pin(self.next(hand)).await?;
        self.hand = hand;
        Ok(told)
    }

    /// Begins the next step and is gone in its middle, if it takes so many polls.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub async fn step_cut_off(&mut self, polls: u32) -> Result<String, String> {
        let hand = std::mem::replace(&mut self.hand, Hand::Nothing);
        match (Cut { future: Box::pin(self.next(hand)), polls }).await {
            Some(done) => {
                let (hand, told) = done?;
                self.hand = hand;
                Ok(told)
            }
            None => Ok(CUT_OFF.to_owned()),
        }
    }

    async fn next(&self, hand: Hand) -> Result<(Hand, String), String> {
        let (line, stop) = (&self.line, CancellationToken::new());
        match hand {
            Hand::Nothing => {
                let now = line.now().await.map_err(fatal)?;
                let mut claims = line.claim(&self.provider, Scope::Run, 1, now, false).await.map_err(fatal)?;
                Ok(match claims.pop() {
                    Some(claimed) => {
                        let told = format!("claims {} {}", claimed.payment, claimed.state);
                        (Hand::Claimed(claimed), told)
                    }
                    None => (Hand::Nothing, "finds nothing".to_owned()),
                })
            }
            Hand::Claimed(claimed) => Box::pin(self.ask(claimed, Question::Status, Mode::Normal, &stop)).await,
            Hand::ToClose(claimed) => Box::pin(self.ask(claimed, Question::Close, Mode::Closed, &stop)).await,
            Hand::Answered(claimed, answer, mode) => match Box::pin(line.settle(&claimed, &answer, mode)).await {
                Ok(Applied { outcome, next }) => {
                    let told = format!("settles {}: {outcome:?}", claimed.payment);
                    Ok(match next {
                        Next::Done => (Hand::Nothing, told),
                        Next::Close => (Hand::ToClose(claimed), format!("{told}, to be closed")),
                        Next::Send { order, held_until } => {
                            let told = format!("{told}, to be sent as {}", order.key);
                            (Hand::Marked(Claimed { held_until, ..claimed }, order), told)
                        }
                    })
                }
                Err(error) => self.failed(&claimed, &error).await,
            },
            Hand::Marked(claimed, order) => {
                let said = line.send_refund(&claimed, &order).await;
                let told = format!("sends {} {}: {said:?}", claimed.payment, order.key);
                Ok((Hand::Sent(claimed, said), told))
            }
            Hand::Sent(claimed, said) => match Box::pin(line.record_refund(&claimed, &said)).await {
                Ok(_) => Ok((Hand::Nothing, format!("records {}", claimed.payment))),
                Err(error) => self.failed(&claimed, &error).await,
            },
        }
    }

    async fn ask(
        &self,
        claimed: Claimed,
        question: Question,
        mode: Mode,
        stop: &CancellationToken,
    ) -> Result<(Hand, String), String> {
        match self.line.ask(&claimed, question, stop).await {
            Ok(answer) => {
                let told = format!("asks {} {question:?}: {}", claimed.payment, brief(&answer));
                Ok((Hand::Answered(claimed, answer, mode), told))
            }
            Err(error) => self.failed(&claimed, &error).await,
        }
    }

    /// As the line itself deals with a failure; one that lasts is a fault of the line's.
    async fn failed(&self, claimed: &Claimed, error: &LineError) -> Result<(Hand, String), String> {
        if error.is_lasting() {
            return Err(format!("{}: {error}", claimed.payment));
        }
        if !matches!(error, LineError::LeaseLost) {
            self.line.note_failure(claimed, error).await.map_err(fatal)?;
        }
        Ok((Hand::Nothing, format!("fails at {}: {error}", claimed.payment)))
    }
}

#[expect(clippy::needless_pass_by_value)]
fn fatal(error: LineError) -> String {
    format!("the line failed: {error}")
}

fn brief(answer: &PgAnswer) -> String {
    match answer {
        PgAnswer::NotFound => "not found".to_owned(),
        PgAnswer::Found(pg) => {
            let refunds: Vec<_> = pg.refunds.iter().map(|refund| (refund.key.as_deref().unwrap_or("-"), refund.state)).collect();
            format!("{} {} less {} {refunds:?}", pg.status, pg.captured.amount, pg.refunded.amount)
        }
    }
}
