//! What became of one payment in a run.

use domain::payment::RefundReason;

/// For reports, metrics and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Its order is completed.
    Settled,
    /// It failed.
    Failed,
    /// It stays where it is.
    Waiting,
    /// Its money has to go back, for this reason.
    Refunding(RefundReason),
    /// Its money is on the way back; the refund took a step.
    RefundDriven,
    /// Its money is back, for certain.
    Refunded,
    /// An operator is shown it.
    Attention,
    /// Somebody else was faster; nothing was to be done.
    Overtaken,
    /// It was given back, because the process ends.
    GivenBack,
    /// Something failed; it is asked about again later.
    Error,
}

impl Outcome {
    /// The label in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Failed => "failed",
            Self::Waiting => "waiting",
            Self::Refunding(_) => "refunding",
            Self::RefundDriven => "refund_driven",
            Self::Refunded => "refunded",
            Self::Attention => "attention",
            Self::Overtaken => "overtaken",
            Self::GivenBack => "given_back",
            Self::Error => "error",
        }
    }
}
