//! What can be said about orders, refunds and payments on the command line.

use chrono::{DateTime, Days, FixedOffset, NaiveDate, Utc};
use clap::{Args, Subcommand, ValueEnum};

/// Orders whose payments are looked after.
#[derive(Debug, Subcommand)]
pub enum OrdersCommand {
    /// List orders that stand still: pending for too long, or with a payment that a person should look at.
    #[command(after_help = "Examples:\n  trueup orders stale\n  trueup orders stale --json")]
    Stale,
    /// Show an order with its payments, refunds, money and what operators did.
    #[command(after_help = "Example:\n  trueup orders show order-2024")]
    Show(OrderArg),
    /// Ask the gateway about an order's payments ahead of everything else.
    #[command(after_help = "Examples:
  trueup orders retry order-2024 --reason 'the payer called'
  trueup orders retry order-2024 --reason 'the payer called' --dry-run")]
    Retry(OrderWish),
    /// Ask the gateway now, then do what the tables of states allow.
    #[command(after_help = "Examples:
  trueup orders resolve order-2024 --as settle --reason 'the payer called' --dry-run
  trueup orders resolve order-2024 --as cancel --restock --reason 'sent back'

settle does what the gateway's answer says: complete, fail, or give back. cancel gives the money of a completed order back; the order is cancelled
once the gateway confirms it. With --dry-run nothing is changed, and what would be done is told with its why.")]
    Resolve(ResolveArgs),
}

/// Refunds.
#[derive(Debug, Subcommand)]
pub enum RefundsCommand {
    /// List refunds, the oldest first.
    #[command(after_help = "Examples:\n  trueup refunds list\n  trueup refunds list --state held")]
    List {
        /// Which.
        #[arg(long, value_enum, default_value_t = RefundState::Open)]
        state: RefundState,
    },
    /// Keep a refund from being sent. What may have been sent already is not held.
    #[command(after_help = "Example:\n  trueup refunds hold rf-0190c2f4 --reason 'the product table was emptied'")]
    Hold(RefundWish),
    /// Let a held refund be sent; try one again that waits for a person, or that was sent a day ago and never confirmed.
    #[command(after_help = "Example:\n  trueup refunds release rf-0190c2f4 --reason 'it is right' --dry-run")]
    Release(RefundWish),
}

/// The line of payments.
#[derive(Debug, Subcommand)]
pub enum PaymentsCommand {
    /// Compare the gateways' transaction lists with the book, both ways.
    #[command(after_help = "Examples:
  trueup payments audit --day 2026-05-01 --utc-offset +09:00
  trueup payments audit --provider toss --from 2026-05-01T00:00:00Z --to 2026-05-01T06:00:00Z --json

Exit status: 0 clean; 1 at least one difference, each named; 2 cannot tell: a list that cannot be read to its end, a gateway that does not answer, or
nothing that is old enough to have been settled.
The service audits yesterday by itself each night.")]
    Audit(AuditSpanArgs),
    /// Audits that are kept, by night and by hand: when, of which time, and what they found. The newest first.
    #[command(after_help = "Examples:
  trueup payments audits
  trueup payments audits --provider toss --verdict cannot-tell
  trueup payments audits --limit 1 --json

Exit status: 0 whatever the verdicts are; 1 refused; 2 no payment reconciler answers. --json has each difference.")]
    Audits(AuditsArgs),
    /// What moved on a day, by gateway and currency, as CSV; amounts in minor units.
    #[command(after_help = "Examples:\n  trueup payments totals --day 2026-05-01 --utc-offset +09:00 > totals.csv")]
    Totals(DayArgs),
    /// Reports of the runs, the newest first.
    #[command(after_help = "Example:\n  trueup payments runs --limit 20")]
    Runs(LimitArg),
    /// Callbacks about payments that are not known.
    #[command(after_help = "Example:\n  trueup payments callbacks")]
    Callbacks(LimitArg),
}

/// An order.
#[derive(Debug, Args)]
pub struct OrderArg {
    /// The order's id.
    pub order: String,
}

/// What is wanted and why.
#[derive(Debug, Args)]
pub struct Why {
    /// Why; it is kept with your name.
    #[arg(long)]
    pub reason: String,
    /// Change nothing; say what would be done and why.
    #[arg(long)]
    pub dry_run: bool,
}

/// Something to be done with an order.
#[derive(Debug, Args)]
pub struct OrderWish {
    /// The order's id.
    pub order: String,
    /// Why.
    #[command(flatten)]
    pub why: Why,
}

/// How an order is to be resolved.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ResolveAs {
    /// Do what the gateway's answer says.
    Settle,
    /// Give the money of a completed order back.
    Cancel,
}

/// An order that is to be resolved.
#[derive(Debug, Args)]
pub struct ResolveArgs {
    /// The order's id.
    pub order: String,
    /// How.
    #[arg(long = "as", value_enum)]
    pub how: ResolveAs,
    /// Put the pieces back to stock when the order is cancelled.
    #[arg(long)]
    pub restock: bool,
    /// Why.
    #[command(flatten)]
    pub why: Why,
}

/// Which refunds.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RefundState {
    /// Not confirmed.
    Open,
    /// Held.
    Held,
    /// Those that need a person.
    Manual,
    /// All.
    All,
}

/// Something to be done with a refund.
#[derive(Debug, Args)]
pub struct RefundWish {
    /// The refund's id.
    pub refund: String,
    /// Why.
    #[command(flatten)]
    pub why: Why,
}

/// How many.
#[derive(Debug, Args)]
pub struct LimitArg {
    /// At most this many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub limit: u32,
}

/// A business day.
#[derive(Debug, Args)]
pub struct DayArgs {
    /// The day, such as 2026-05-01.
    #[arg(long)]
    pub day: NaiveDate,
    /// How far the business day is from UTC, such as +09:00.
    #[arg(long, default_value = "+00:00", allow_hyphen_values = true)]
    pub utc_offset: FixedOffset,
}

/// The time of an audit.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("time").required(true).args(["day", "from"])))]
pub struct AuditSpanArgs {
    /// Only this gateway.
    #[arg(long)]
    pub provider: Option<String>,
    /// A business day, such as 2026-05-01.
    #[arg(long)]
    pub day: Option<NaiveDate>,
    /// How far the business day is from UTC, such as +09:00.
    #[arg(long, default_value = "+00:00", allow_hyphen_values = true)]
    pub utc_offset: FixedOffset,
    /// From this moment.
    #[arg(long, requires = "to")]
    pub from: Option<DateTime<Utc>>,
    /// To just before this one.
    #[arg(long, requires = "from")]
    pub to: Option<DateTime<Utc>>,
    /// Leave out what moved in the last so many minutes, because it may not have been settled yet [default: the service's setting, 15; 0: all is at rest]
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(0..=1_440))]
    pub settling_minutes: Option<u32>,
}

/// What an audit came to.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Verdict {
    /// The gateway's list and the book agree.
    Clean,
    /// At least one difference.
    Difference,
    /// Something could not be read to its end.
    #[value(alias = "cannot_tell")]
    CannotTell,
}

/// Which audits.
#[derive(Debug, Args)]
pub struct AuditsArgs {
    /// Only this gateway's.
    #[arg(long)]
    pub provider: Option<String>,
    /// Only those with this verdict.
    #[arg(long, value_enum)]
    pub verdict: Option<Verdict>,
    /// How many.
    #[command(flatten)]
    pub limit: LimitArg,
}

/// The beginning and the end of a business day.
pub(super) fn bounds(day: NaiveDate, offset: FixedOffset) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let midnight = |day: NaiveDate| {
        let local = day.and_hms_opt(0, 0, 0)?.and_local_timezone(offset).single()?;
        Some(local.to_utc())
    };
    Some((midnight(day)?, midnight(day.checked_add_days(Days::new(1))?)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_day_begins_where_its_people_are() {
        let (from, to) = bounds("2026-05-01".parse().unwrap(), "+09:00".parse().unwrap()).unwrap();
        assert_eq!(
            (from.to_rfc3339(), to.to_rfc3339()),
            ("2026-04-30T15:00:00+00:00".to_owned(), "2026-05-01T15:00:00+00:00".to_owned())
        );
    }
}
