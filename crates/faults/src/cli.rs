//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Breaks a private coupon line by seed, heals it, and judges what is left.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "trueup-faults",
    version,
    after_help = "Examples:
  trueup-faults --list                         what can be broken
  trueup-faults --seed 7 --fault 11            one round: the broker is killed
  trueup-faults --seed 1 --rounds 10           ten seeds, every fault alone
  trueup-faults --seed 1 --rounds 20 --pairs   ten seeds, faults in random pairs
  trueup-faults --seed 7 --fault 11 --dry-run  the schedule, without running it
  trueup-faults --selection ci                 the short fixed selection that the tests run

Exit status: 0 all clean, 1 an invariant was broken, 2 the drill itself failed or was used wrongly."
)]
pub struct Cli {
    /// The first seed; the next rounds take the next ones
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Seeds for each fault (with --pairs: rounds in all)
    #[arg(long, default_value_t = 1)]
    pub rounds: u64,
    /// Numbers or names, separated by commas; all faults unless given. `7+9` is a round with both
    #[arg(long, value_delimiter = ',')]
    pub fault: Vec<String>,
    /// Two faults at random in each round
    #[arg(long)]
    pub pairs: bool,
    /// A fixed list of rounds instead
    #[arg(long, value_enum)]
    pub selection: Option<Selection>,
    /// Loads and outages as long as the faults ask for in earnest, such as a broker away for 60 s
    #[arg(long)]
    pub earnest: bool,
    /// Show the schedule and end
    #[arg(long)]
    pub dry_run: bool,
    /// Show the faults and end
    #[arg(long)]
    pub list: bool,
    /// Print one JSON report at the end instead of lines
    #[arg(long)]
    pub json: bool,
    /// Also write the JSON report to this file, anew after each round
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// The folder with coupon-gateway, issue-consumer and reconciler; the one of this program unless given
    #[arg(long, env = "TRUEUP_FAULTS_BINARIES")]
    pub binaries: Option<PathBuf>,
    /// Where evidence and logs of failed rounds are kept; .local/faults unless given
    #[arg(long)]
    pub keep: Option<PathBuf>,
}

/// A fixed list of rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Selection {
    /// Short rounds with seeds that stay.
    Ci,
}
