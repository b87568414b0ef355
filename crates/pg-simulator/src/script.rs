//! What a payment is told to do.

use serde::{Deserialize, Serialize};

/// How a payment's state looks to whoever asks, for a number of asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The gateway does not know the payment.
    NotFound,
    /// The payer has not paid yet.
    Open,
    /// A virtual account waits for its deposit.
    Deposit,
    /// The payer has paid: money is captured when this begins.
    Paid,
    /// The payer's attempt failed. At Stripe such an intent can still be paid until it is cancelled.
    Failed,
    /// Closed before anybody paid.
    Closed,
    /// The payment window is over.
    Expired,
    /// A status that no table knows.
    Strange(String),
}

/// An answer and for how many asks it stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What is answered.
    pub answer: Answer,
    /// For how many asks; without it for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<u32>,
}

/// The way of paying.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// A card: refunds need nothing from the payer.
    #[default]
    Card,
    /// A virtual account: a refund needs the payer's bank account.
    VirtualAccount,
}

/// What becomes of a refund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundScript {
    /// Done at once.
    Done,
    /// On its way for so many asks, then done.
    Pending(u32),
    /// On its way for so many asks, then failed: the money is held again.
    FailsLater(u32),
    /// Done for so many asks, then it came back: the money is held again.
    Reversed(u32),
    /// Refused with this code; nothing happens.
    Refused(String),
}

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// What became of the payment?
    Query,
    /// Give money back.
    Refund,
    /// End an unpaid payment.
    Close,
    /// The list of transactions.
    Transactions,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// 429, with `Retry-After` in seconds where given; nothing is done.
    Throttled(Option<u32>),
    /// This HTTP status; nothing is done.
    Status(u16),
    /// It is done, but the answer comes after so many milliseconds more.
    Slow(u64),
    /// The connection ends without an answer; nothing is done.
    Dropped,
    /// It is done, and the connection ends without an answer.
    ReplyLost,
    /// It is done, and the answer cannot be read.
    Malformed,
    /// It is done, and the answer is larger than anybody should read.
    Huge,
}

/// A fault and whom it hits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Which calls; without it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
    /// How many of them; the next rule takes over afterwards.
    pub times: u32,
    /// What goes wrong.
    pub fault: Fault,
}

/// All that a payment is told to do. The default: open until told otherwise, refunds are done at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// Answers in order; the last one stays. None at all means open.
    pub steps: Vec<Step>,
    /// The way of paying.
    pub method: Method,
    /// What is captured instead of the payment's amount, in minor units.
    pub paid_amount: Option<i64>,
    /// In which currency it is captured instead of the payment's.
    pub paid_currency: Option<String>,
    /// What becomes of each refund in order; further ones are done at once.
    pub refunds: Vec<RefundScript>,
    /// With which codes closes are refused in order, with nothing done; further ones are done.
    pub close_refusals: Vec<String>,
    /// Faults in order: the first rule that fits a call and is not used up hits it.
    pub faults: Vec<FaultRule>,
    /// How long each call about this payment takes, in milliseconds; without it the simulator's latency.
    pub latency_ms: Option<u64>,
    /// Refunds beyond what is held are done, too, as a careless gateway would; the ledger shows them.
    pub over_refunds: bool,
    /// Until when a virtual account waits, in milliseconds since the payment was placed.
    pub deposit_window_ms: Option<u64>,
}

impl Script {
    /// Paid from the beginning.
    #[must_use]
    pub fn paid() -> Self {
        Self::default().then(Answer::Paid)
    }

    /// Failed from the beginning.
    #[must_use]
    pub fn failed() -> Self {
        Self::default().then(Answer::Failed)
    }

    /// Open until told otherwise.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// Open for so many asks; go on with [`Self::then`].
    #[must_use]
    pub fn pending(asks: u32) -> Self {
        Self::default().for_asks(Answer::Open, asks)
    }

    /// Not found for so many asks; go on with [`Self::then`].
    #[must_use]
    pub fn not_found(asks: u32) -> Self {
        Self::default().for_asks(Answer::NotFound, asks)
    }

    /// A virtual account that waits for its deposit.
    #[must_use]
    pub fn deposit() -> Self {
        Self { method: Method::VirtualAccount, ..Self::default() }.then(Answer::Deposit)
    }

    /// Adds an answer for so many asks.
    #[must_use]
    pub fn for_asks(mut self, answer: Answer, asks: u32) -> Self {
        self.steps.push(Step { answer, asks: Some(asks) });
        self
    }

    /// Adds an answer for good.
    #[must_use]
    pub fn then(mut self, answer: Answer) -> Self {
        self.steps.push(Step { answer, asks: None });
        self
    }

    /// Captures another amount than was asked for.
    #[must_use]
    pub fn capturing(mut self, amount: i64) -> Self {
        self.paid_amount = Some(amount);
        self
    }

    /// Captures another currency than was asked for.
    #[must_use]
    pub fn capturing_in(mut self, currency: &str) -> Self {
        self.paid_currency = Some(currency.to_owned());
        self
    }

    /// Adds what becomes of the next refund.
    #[must_use]
    pub fn refund(mut self, refund: RefundScript) -> Self {
        self.refunds.push(refund);
        self
    }

    /// Adds a fault for the next `times` calls of a kind.
    #[must_use]
    pub fn fault(mut self, call: Call, times: u32, fault: Fault) -> Self {
        self.faults.push(FaultRule { call: Some(call), times, fault });
        self
    }

    /// Lets each call take so long.
    #[must_use]
    pub fn taking_ms(mut self, latency_ms: u64) -> Self {
        self.latency_ms = Some(latency_ms);
        self
    }
}
