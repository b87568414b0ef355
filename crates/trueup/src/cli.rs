//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::payments::{OrdersCommand, PaymentsCommand, RefundsCommand};

const EXITS: &str = "\
Exit status:
  0   done; for audit and drill: clean
  1   a difference was found, or the command was refused
  2   cannot tell, or could not be done: something is unreachable, too old or wrongly set (64: wrong usage)

Settings come from the environment, all with the prefix TRUEUP__:
  TRUEUP__KAFKA__BROKERS=127.0.0.1:9092          TRUEUP__POSTGRES__URL=postgres://trueup@127.0.0.1/trueup
  TRUEUP__REDIS__URL=redis://127.0.0.1:6379/     TRUEUP__GATEWAYS=http://127.0.0.1:8081,http://127.0.0.1:8082
  TRUEUP__KEYS__LOG_SIGNING=…                    TRUEUP__ADMIN__TOKEN=…
  TRUEUP__RECONCILERS=http://127.0.0.1:8095      TRUEUP__PAYMENT_RECONCILERS=http://127.0.0.1:8097";

/// The operator's command of the coupon line and the payment line.
#[derive(Debug, Parser)]
#[command(name = "trueup", version, after_help = EXITS, max_term_width = 120, propagate_version = true)]
pub struct Cli {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// A TOML file with settings; the environment goes before it.
    #[arg(long, global = true, value_name = "FILE", env = "TRUEUP__CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Kafka's addresses; instead of TRUEUP__KAFKA__BROKERS.
    #[arg(long, global = true, value_name = "HOST:PORT,…")]
    pub brokers: Option<String>,
    /// PostgreSQL's address; instead of TRUEUP__POSTGRES__URL.
    #[arg(long, global = true, value_name = "URL")]
    pub postgres_url: Option<String>,
    /// Redis's address; instead of TRUEUP__REDIS__URL.
    #[arg(long, global = true, value_name = "URL")]
    pub redis_url: Option<String>,
    /// The gateways' addresses; instead of TRUEUP__GATEWAYS.
    #[arg(long, global = true, value_name = "URL,…")]
    pub gateways: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the database's schema up to date.
    #[command(
        after_help = "Example:\n  trueup migrate\n\nRunning it twice is harmless. Run it as a job of its own, before new services start."
    )]
    Migrate,
    /// Create the topics, or check that they are as they have to be.
    #[command(
        after_help = "Examples:\n  trueup topics\n  trueup topics --partitions 12 --replication 3 --retention-days 365\n\nRunning it twice is harmless. Missing partitions are \
                      added, never taken away; a topic that does not stamp the append time is named, and the exit status is 1."
    )]
    Topics(TopicsArgs),
    /// Define, list, show, change, pause, resume or end coupons; cancel a request.
    #[command(subcommand)]
    Coupon(CouponCommand),
    /// Send members at coupons over HTTP, then hold every accepted request against log and ledger.
    #[command(after_help = "Examples:
  trueup drill coupon-2024 --members 20000
  trueup drill coupon-a coupon-b --members 20000 --rate 2000 --repeat-share 0.3
  trueup drill coupon-2024 --members 500 --concurrency 32 --think-ms 50 --seed 7 --report drill.json

Without --rate the loop is closed: --concurrency members ask at a time, each waits for his answer. With --rate it is open: each member has a scheduled
time, and latency counts from then. Repeats and retries under the same Idempotency-Key are part of it, some at the same moment by another gateway.
Exit status: 0 every accepted request stands in log and ledger as it was told; 1 one is lost or changed; 2 cannot tell.")]
    Drill(DrillArgs),
    /// Place orders, let payers pay at the simulator while callbacks get lost, then hold the money against orders and stock.
    #[command(after_help = "Examples:
  trueup drill-payments
  trueup drill-payments --orders 1000 --simulator http://127.0.0.1:8099 --json

It needs a running payment-reconciler whose gateways `generic`, `toss` and `stripe` are the simulator's three dialects, as `make up` sets them, and an
operator's token (TRUEUP__ADMIN__TOKEN) for the audit at its end.
Exit status: 0 for each payment the simulator's paid - refunded is the order's amount if it succeeded and else 0, stock adds up, nothing is open, and the
audit of each gateway's list is clean; 1 not so, each case named; 2 cannot tell.")]
    DrillPayments(DrillPaymentsArgs),
    /// Fold the coupon's log again and compare every outcome with the database.
    #[command(after_help = "Examples:
  trueup audit coupon-2024
  trueup audit coupon-a coupon-b --redis --json

Exit status: 0 clean; 1 at least one difference, each named; 2 cannot tell: the log no longer starts before the coupon, or it is another log than the
one that the database was decided from.")]
    Audit(AuditArgs),
    /// Let a reconciler look at coupons at once: counts, and members where the counts disagree; what is wrong is repaired.
    #[command(after_help = "Examples:
  trueup reconcile coupon-2024
  trueup reconcile coupon-2024 --full --dry-run --json

Exit status: 0 nothing was wrong; 1 something was (and has been repaired, unless --dry-run); 2 no reconciler answers.")]
    Reconcile(ReconcileArgs),
    /// List what the reconcilers' runs found.
    #[command(after_help = "Examples:\n  trueup reports\n  trueup reports coupon-2024 --limit 100 --json")]
    Reports(ReportsArgs),
    /// See and resolve orders whose payments stand still.
    #[command(subcommand)]
    Orders(OrdersCommand),
    /// List, hold or release refunds.
    #[command(subcommand)]
    Refunds(RefundsCommand),
    /// Audit gateways against the book, daily totals, reports of runs.
    #[command(subcommand)]
    Payments(PaymentsCommand),
    /// List, show or replay records that could not be used.
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Tell what happened to a request, or to all requests of a member.
    #[command(after_help = "Examples:
  trueup explain 0190c2f4-6a3e-7c54-9d9e-2f6f0a1b2c3d
  trueup explain user-1234
  trueup explain user-1234 --coupon coupon-2024 --json")]
    Explain(ExplainArgs),
}

/// Which coupons to look at, and how deep.
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// The coupons.
    #[arg(required = true, value_name = "CODE")]
    pub codes: Vec<String>,
    /// Compare all members and count all issues, whatever the sizes say.
    #[arg(long)]
    pub full: bool,
    /// Say what is wrong and repair nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// Which reports to list.
#[derive(Debug, Args)]
pub struct ReportsArgs {
    /// Only this coupon's.
    #[arg(value_name = "CODE")]
    pub code: Option<String>,
    /// How many, the newest first.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub limit: u16,
}

/// What the topics have to be.
#[derive(Debug, Args)]
pub struct TopicsArgs {
    /// Partitions of each topic that is created.
    #[arg(long, default_value_t = kafka_io::topics::PARTITIONS_DEFAULT, value_parser = clap::value_parser!(i32).range(1..=1000))]
    pub partitions: i32,
    /// Copies of each record. More than one needs as many brokers.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=9))]
    pub replication: i32,
    /// How long records are kept: longer than a coupon's life and 30 days.
    #[arg(long, default_value_t = kafka_io::topics::RETENTION_DAYS_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub retention_days: u32,
}

/// Who judges a request first.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum AdmissionArg {
    /// A Redis gate reserves seats.
    Reserved,
    /// The log alone.
    Queued,
}

/// Commands for coupons. They go through the gateway, which writes who did what.
#[derive(Debug, Subcommand)]
pub enum CouponCommand {
    /// Define a coupon.
    #[command(after_help = "Examples:
  trueup coupon define coupon-2024 --admission reserved --total 1000 --name 'Spring sale'
  trueup coupon define flash --admission queued --total 50 --opens-at 2026-05-01T09:00:00Z --closes-at 2026-05-02T09:00:00Z")]
    Define(DefineArgs),
    /// List coupons.
    #[command(after_help = "Example:\n  trueup coupon list --json")]
    List,
    /// Show one coupon.
    #[command(after_help = "Example:\n  trueup coupon show coupon-2024")]
    Show(CodeArg),
    /// Who did what, and what came of it.
    #[command(after_help = "Example:\n  trueup coupon history coupon-2024")]
    History(CodeArg),
    /// Change the name, the total or the window.
    #[command(after_help = "Examples:
  trueup coupon change coupon-2024 --total 1500
  trueup coupon change coupon-2024 --closes-at none

A total below what is issued at that place in the log is refused.")]
    Change(ChangeArgs),
    /// Pause a coupon: requests that are not admitted yet are refused until it is resumed.
    #[command(after_help = "Example:\n  trueup coupon pause coupon-2024")]
    Pause(CodeArg),
    /// Resume a paused coupon.
    #[command(after_help = "Example:\n  trueup coupon resume coupon-2024")]
    Resume(CodeArg),
    /// End a coupon, for good.
    #[command(after_help = "Example:\n  trueup coupon end coupon-2024")]
    End(CodeArg),
    /// Cancel a request that is not decided yet. An issue is never revoked.
    #[command(
        after_help = "Example:\n  trueup coupon cancel coupon-2024 0190c2f4-6a3e-7c54-9d9e-2f6f0a1b2c3d --member user-1234"
    )]
    Cancel(CancelArgs),
}

/// A coupon's code.
#[derive(Debug, Args)]
pub struct CodeArg {
    /// The coupon's code.
    pub code: String,
}

/// A new coupon.
#[derive(Debug, Args)]
pub struct DefineArgs {
    /// Its code: 1 to 64 printable characters without spaces and braces.
    pub code: String,
    /// A name for people; the code unless given.
    #[arg(long)]
    pub name: Option<String>,
    /// Who judges a request first.
    #[arg(long, value_enum)]
    pub admission: AdmissionArg,
    /// Seats in all.
    #[arg(long, value_parser = clap::value_parser!(i64).range(0..))]
    pub total: i64,
    /// Requests before this moment are refused, such as 2026-05-01T09:00:00Z.
    #[arg(long)]
    pub opens_at: Option<chrono::DateTime<chrono::Utc>>,
    /// Requests at or after this moment are refused.
    #[arg(long)]
    pub closes_at: Option<chrono::DateTime<chrono::Utc>>,
}

/// What changes; the rest stays.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["name", "total", "opens_at", "closes_at"])))]
pub struct ChangeArgs {
    /// The coupon's code.
    pub code: String,
    /// A new name.
    #[arg(long)]
    pub name: Option<String>,
    /// A new number of seats.
    #[arg(long, value_parser = clap::value_parser!(i64).range(0..))]
    pub total: Option<i64>,
    /// A new opening time, or `none`.
    #[arg(long, value_parser = moment_or_none)]
    pub opens_at: Option<Moment>,
    /// A new closing time, or `none`.
    #[arg(long, value_parser = moment_or_none)]
    pub closes_at: Option<Moment>,
}

/// A moment, or the absence of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub Option<chrono::DateTime<chrono::Utc>>);

fn moment_or_none(text: &str) -> Result<Moment, String> {
    if text == "none" {
        return Ok(Moment(None));
    }
    let parsed = text.parse::<chrono::DateTime<chrono::Utc>>();
    parsed.map(|at| Moment(Some(at))).map_err(|error| format!("{error}; give a moment such as 2026-05-01T09:00:00Z, or none"))
}

/// Which request is cancelled.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The coupon's code.
    pub code: String,
    /// The request's id.
    pub request: uuid::Uuid,
    /// Whose request it is.
    #[arg(long)]
    pub member: String,
}

/// How members prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IdentityArg {
    /// By the body alone; the gateway's identity mode is `none`.
    None,
    /// By the header that a trusted proxy sets.
    Header,
}

/// A drill of the payment line.
#[derive(Debug, Args)]
pub struct DrillPaymentsArgs {
    /// Orders to place.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub orders: u32,
    /// The simulator's address; instead of TRUEUP__SIMULATOR.
    #[arg(long, value_name = "URL")]
    pub simulator: Option<String>,
    /// How long orders may take to come in, and then to come to rest, in milliseconds each.
    #[arg(long, default_value_t = 180_000, value_parser = clap::value_parser!(u64).range(1_000..=3_600_000))]
    pub settle_ms: u64,
}

/// A drill.
#[derive(Debug, Args)]
pub struct DrillArgs {
    /// The coupons that every member asks for.
    #[arg(required = true, value_name = "CODE")]
    pub codes: Vec<String>,
    /// How many members ask, each for every coupon.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    pub members: u32,
    /// Open loop: requests per second that are scheduled in all.
    #[arg(long, conflicts_with = "concurrency", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,
    /// Closed loop: members who ask at the same time.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// The share of members who ask again, from 0 to 1.
    #[arg(long, default_value_t = 0.2, value_parser = share)]
    pub repeat_share: f64,
    /// The pause before a member asks again, in milliseconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub think_ms: u64,
    /// How members prove who they are.
    #[arg(long, value_enum, default_value_t = IdentityArg::None)]
    pub identity: IdentityArg,
    /// The header that names the member, with `--identity header`.
    #[arg(long, default_value = "X-Member-Id")]
    pub identity_header: String,
    /// Write the report as JSON to this file, too.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Makes members and their behaviour repeatable; the same seed means the same members. Else members are new.
    #[arg(long)]
    pub seed: Option<u64>,
    /// How long outcomes may take after the last answer, in milliseconds.
    #[arg(long, default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(0..=3_600_000))]
    pub settle_ms: u64,
    /// Only send: neither wait for outcomes nor hold them against log and ledger.
    #[arg(long)]
    pub no_settle: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "give a number from 0 to 1".to_owned())?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("give a number from 0 to 1".to_owned()) }
}

/// An audit.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// The coupons.
    #[arg(required = true, value_name = "CODE")]
    pub codes: Vec<String>,
    /// Compare the gate in Redis, too, once it is quiet.
    #[arg(long)]
    pub redis: bool,
    /// How long to wait for the gate to become quiet, in milliseconds.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub quiet_ms: u64,
}

/// Dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// List them, the newest first.
    #[command(
        after_help = "Examples:\n  trueup dead-letters list\n  trueup dead-letters list --coupon coupon-2024 --cause bad_json --limit 20"
    )]
    List {
        /// Only of this coupon.
        #[arg(long)]
        coupon: Option<String>,
        /// Only of this cause.
        #[arg(long)]
        cause: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
    },
    /// Show one with its bytes and headers.
    #[command(after_help = "Example:\n  trueup dead-letters show 3@1042")]
    Show {
        /// Its place in the log, as `partition@offset`.
        place: PlaceArg,
    },
    /// Ask again for what a dead letter asked for, by a new request that names the old one.
    #[command(after_help = "Examples:
  trueup dead-letters replay 3@1042
  trueup dead-letters replay 3@1042 --member user-1234 --coupon coupon-2024

The new request's id follows from the dead letter's place, the coupon and the member: replaying twice is harmless. It takes its place at the end of the log, \
so the seat may be gone by now: the outcome is told, and the exit status is 1 if it is a refusal.")]
    Replay {
        /// Its place in the log, as `partition@offset`.
        place: PlaceArg,
        /// The coupon, where the record names none that is usable.
        #[arg(long)]
        coupon: Option<String>,
        /// The member, where the record names none that is usable.
        #[arg(long)]
        member: Option<String>,
        /// How long to wait for the new request's outcome, in milliseconds; 0 does not wait.
        #[arg(long, default_value_t = 10_000)]
        wait_ms: u64,
    },
}

/// A place in the log, as `partition@offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaceArg(pub domain::coupon::Place);

impl std::str::FromStr for PlaceArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('@').and_then(|(partition, offset)| {
            Some(domain::coupon::Place { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
        });
        parsed
            .filter(|place| place.partition >= 0 && place.offset >= 0)
            .map(Self)
            .ok_or_else(|| "give a place in the log as partition@offset, such as 3@1042".to_owned())
    }
}

/// What is explained.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A request's id, or a member's.
    pub subject: String,
    /// Only of this coupon.
    #[arg(long)]
    pub coupon: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn the_surface_is_consistent_and_every_command_has_an_example() {
        Cli::command().debug_assert();
        fn leaves(command: &clap::Command, path: &str, bare: &mut Vec<String>) {
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name());
                if sub.has_subcommands() {
                    leaves(sub, &path, bare);
                } else if !sub.get_after_help().is_some_and(|help| help.to_string().contains("Example")) {
                    bare.push(path);
                }
            }
        }
        let mut bare = Vec::new();
        leaves(&Cli::command(), "trueup", &mut bare);
        assert!(bare.is_empty(), "without an example: {bare:?}");
    }

    #[test]
    fn places_and_moments_are_read_or_refused_with_an_example() {
        assert_eq!("3@1042".parse::<PlaceArg>().unwrap().0.to_string(), "3@1042");
        for bad in ["", "3", "3@", "@4", "-1@4", "3@-4", "3@4@5"] {
            assert!(bad.parse::<PlaceArg>().unwrap_err().contains("3@1042"), "{bad}");
        }
        let parse = |more: &[&str]| Cli::try_parse_from(["trueup", "coupon", "change", "c"].iter().chain(more));
        assert!(parse(&[]).is_err(), "a change of nothing");
        assert!(parse(&["--closes-at", "none"]).is_ok());
        assert!(parse(&["--closes-at", "tomorrow"]).unwrap_err().to_string().contains("2026-05-01T09:00:00Z"));
        assert!(Cli::try_parse_from(["trueup", "drill", "c", "--rate", "5", "--concurrency", "3"]).is_err());
    }
}
