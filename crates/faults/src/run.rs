//! All rounds of a run, one after the other, on one line that is made anew whenever a round left it in doubt.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use stack::paths;

use crate::{
    action::Action,
    cli::Cli,
    fault,
    plan::Plan,
    report::{RoundReport, RunReport, Verdict},
    round::{self, Outcome},
    selection::{self, Wanted},
    world::World,
};

/// Rounds on one line, at most: its log grows and is read from the round's beginning, but its servers' folders do, too.
const ROUNDS_PER_WORLD: usize = 25;

/// What the process says by its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All clean.
    Clean,
    /// An invariant was broken.
    Violated,
    /// The drill itself failed.
    CannotTell,
}

impl Exit {
    /// The status.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Violated => 1,
            Self::CannotTell => 2,
        }
    }
}

/// Does what the command line says.
///
/// # Errors
/// The servers do not start, or the command line asks for what does not exist.
pub async fn run(cli: &Cli) -> Result<Exit> {
    if cli.list {
        for fault in fault::ALL {
            let needs = if fault.needs_failpoints { " (needs failpoints)" } else { "" };
            println!("{:>3} {:<28} {}{needs}", fault.number, fault.name, fault.about);
        }
        return Ok(Exit::Clean);
    }
    let wanted = selection::wanted(cli)?;
    if cli.dry_run {
        for wanted in &wanted {
            show(&Plan::draw(wanted.seed, &wanted.faults, cli.earnest)?, cli.json)?;
        }
        return Ok(Exit::Clean);
    }
    let report = Box::pin(Runner::new(cli)?.run(&wanted)).await?;
    if cli.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        let clean = report.rounds.iter().filter(|round| round.verdict == Verdict::Clean).count();
        println!("{clean} of {} rounds clean, {} requests, commit {}", report.rounds.len(), report.requests(), report.commit);
    }
    Ok(match report.verdict() {
        Verdict::Clean => Exit::Clean,
        Verdict::Violated => Exit::Violated,
        Verdict::CannotTell => Exit::CannotTell,
    })
}

/// Prints a schedule.
fn show(plan: &Plan, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(plan)?);
        return Ok(());
    }
    let keyed = plan.members.iter().flat_map(|member| &member.asks).filter(|ask| ask.key.is_some()).count();
    println!(
        "seed {} faults {:?}: {} members, {} asks ({keyed} with a key) in {} ms, at most {} at once",
        plan.seed,
        plan.faults,
        plan.members.len(),
        plan.asks(),
        plan.shape.load_ms,
        plan.shape.concurrency
    );
    for (index, coupon) in plan.coupons.iter().enumerate() {
        let opens = coupon.opens_after_ms.map_or_else(String::new, |after| format!(", opens at {after} ms"));
        println!("  coupon {index}: {} {}, {} seats{opens}", coupon.code, coupon.admission.as_str(), coupon.total);
    }
    for step in &plan.steps {
        println!("  {:>6} ms  {}", step.at_ms, step.action);
    }
    Ok(())
}

struct Runner<'a> {
    cli: &'a Cli,
    binaries: PathBuf,
    keep: PathBuf,
    bar: ProgressBar,
    report: RunReport,
    worlds: usize,
}

impl<'a> Runner<'a> {
    fn new(cli: &'a Cli) -> Result<Self> {
        let binaries = match &cli.binaries {
            Some(folder) => folder.clone(),
            None => std::env::current_exe()?.parent().context("this program has no folder")?.to_path_buf(),
        };
        let keep = match &cli.keep {
            Some(folder) => folder.clone(),
            None => paths::local()?.join("faults"),
        };
        let bar = ProgressBar::new(0);
        bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed_precise} {msg}")?);
        bar.enable_steady_tick(Duration::from_millis(500));
        let report = RunReport { commit: commit(), binaries: binaries.display().to_string(), rounds: Vec::new() };
        Ok(Self { cli, binaries, keep, bar, report, worlds: 0 })
    }

    async fn run(mut self, wanted: &[Wanted]) -> Result<RunReport> {
        self.bar.set_length(u64::try_from(wanted.len()).unwrap_or(u64::MAX));
        let mut line: Option<(World, usize)> = None;
        for wanted in wanted {
            let names = wanted.faults.iter().map(|fault| fault.name).collect::<Vec<_>>().join(" and ");
            self.bar.set_message(format!("{names}, seed {}", wanted.seed));
            let plan = Plan::draw(wanted.seed, &wanted.faults, self.cli.earnest)?;
            let (world, rounds) = match line.take() {
                Some(line) => line,
                None => (self.world().await?, 0),
            };
            let wears_out = plan.steps.iter().any(|step| matches!(step.action, Action::AddPartitions(_)));
            let (world, outcome) = Box::pin(round::run(world, plan)).await;
            let is_whole = outcome.report.verdict == Verdict::Clean && !wears_out && rounds + 1 < ROUNDS_PER_WORLD;
            self.told(outcome, &world, wanted)?;
            if is_whole {
                line = Some((world, rounds + 1));
            } else {
                end(world).await?;
            }
            self.bar.inc(1);
        }
        if let Some((world, _)) = line {
            end(world).await?;
        }
        self.bar.finish_and_clear();
        Ok(self.report)
    }

    async fn world(&mut self) -> Result<World> {
        self.worlds += 1;
        let folder = self.keep.join(format!("run-{}-{}", std::process::id(), self.worlds));
        let binaries = self.binaries.clone();
        let runtime = tokio::runtime::Handle::current();
        let start = move || {
            let mut world = World::start(&folder, &binaries, &runtime)?;
            world.heal(2)?;
            anyhow::Ok(world)
        };
        tokio::task::spawn_blocking(start).await?.context("the line does not start")
    }

    /// Prints, keeps and notes what a round came to.
    fn told(&mut self, outcome: Outcome, world: &World, wanted: &Wanted) -> Result<()> {
        let Outcome { mut report, evidence } = outcome;
        if report.verdict != Verdict::Clean {
            let name = report.faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("-");
            let folder = self.keep.join(format!("failed-{name}-seed-{}-{}", report.seed, std::process::id()));
            keep(&folder, world, evidence.as_ref(), &report)?;
            report.kept = Some(folder.display().to_string());
        }
        if !self.cli.json {
            self.say(&report, wanted);
        }
        self.report.rounds.push(report);
        if let Some(path) = &self.cli.report {
            let text = serde_json::to_string_pretty(&self.report)?;
            fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn say(&self, report: &RoundReport, wanted: &Wanted) {
        /// Findings that are printed; all of them are in the report.
        const SHOWN_MAX: usize = 12;
        let mut lines = vec![report.line()];
        lines.extend(
            report
                .failed_steps()
                .map(|step| format!("    step failed: {} at {} ms: {}", step.action, step.began_ms, step.result)),
        );
        lines.extend(report.trouble.iter().map(|why| format!("    the drill failed: {why}")));
        lines.extend(report.violations.iter().take(SHOWN_MAX).map(|violation| format!("    {violation}")));
        if let Some(kept) = &report.kept {
            let faults = wanted.faults.iter().map(|fault| fault.number.to_string()).collect::<Vec<_>>().join("+");
            let earnest = if self.cli.earnest { " --earnest" } else { "" };
            lines.push(format!("    {} findings; evidence and logs: {kept}", report.violations.len()));
            lines.push(format!(
                "    commit {}; again: trueup-faults --seed {} --fault {faults}{earnest}",
                self.report.commit, report.seed
            ));
        }
        for line in lines {
            self.bar.suspend(|| println!("{line}"));
        }
    }
}

fn keep(folder: &Path, world: &World, evidence: Option<&crate::evidence::Evidence>, report: &RoundReport) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("report.json"), serde_json::to_string_pretty(report)?)?;
    if let Some(evidence) = evidence {
        evidence.save(folder)?;
    }
    for entry in fs::read_dir(world.folder().join("logs"))? {
        let entry = entry?;
        fs::copy(entry.path(), folder.join(entry.file_name()))?;
    }
    for (server, log) in [("postgres", "postgres.log"), ("redis", "redis.log"), ("kafka", "kafka.log")] {
        let log = world.folder().join(server).join(log);
        if log.is_file() {
            fs::copy(&log, folder.join(format!("{server}.log")))?;
        }
    }
    Ok(())
}

/// Ends all processes of a line and removes its folder.
async fn end(world: World) -> Result<()> {
    let end = move || {
        let folder = world.folder().to_path_buf();
        drop(world);
        fs::remove_dir_all(folder)
    };
    tokio::task::spawn_blocking(end).await?.context("the folder of a line")
}

/// The commit that is checked out, and whether it was changed.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty());
    if changed { format!("{commit} with changes") } else { commit }
}
