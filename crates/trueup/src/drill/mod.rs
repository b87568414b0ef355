//! `trueup drill`: members over real HTTP, and a proof afterwards.

mod client;
mod ledger;
mod load;
mod plan;
mod progress;
mod report;
mod stats;
mod verify;
mod watch;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use domain::clock::{Clock, SystemClock};
use tokio::sync::mpsc;

use self::{client::Client, ledger::Promises, load::Load, progress::Counters, stats::Stats, verify::Witness, watch::Reports};
pub use self::{
    plan::{Plan, mix},
    report::Report,
    stats::Percentiles,
    verify::Verification,
};
use crate::{cli::DrillArgs, exit::Exit, output, settings::Settings};

/// Runs the drill, prints and writes its report.
///
/// # Errors
/// Wrong arguments, or something that the drill needs cannot be reached.
pub async fn run(settings: &Settings, args: &DrillArgs, json: bool) -> anyhow::Result<Exit> {
    let (report, exit) = drill(settings, args, json).await?;
    if let Some(path) = &args.report {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text).with_context(|| format!("cannot write the report to {}", path.display()))?;
    }
    if json {
        output::print_json(&report)?
    } else {
        print!("{}", report.render())
    }
    Ok(exit)
}

/// Runs the drill.
///
/// # Errors
/// As [`run`].
pub async fn drill(settings: &Settings, args: &DrillArgs, quiet: bool) -> anyhow::Result<(Report, Exit)> {
    let fresh_seed = u64::try_from(SystemClock.now().unix_ms()).unwrap_or(0) & 0xffff_ffff;
    let plan = Plan::new(args, settings.gateway_urls(), fresh_seed)?;
    let settle = !args.no_settle;
    let witness = if settle { Some(Witness::begin(settings, &plan.codes).await?) } else { None };
    let client = Client::new(&plan)?;
    let stats = Arc::new(Mutex::new(Stats::new(plan.codes.len())));
    let (counters, promises) = (Arc::new(Counters::default()), Arc::new(Promises::default()));
    let (sender, receiver) = mpsc::channel(watch::WATCHED_MAX);
    let load = Load {
        plan: plan.clone(),
        client: client.clone(),
        stats: Arc::clone(&stats),
        counters: Arc::clone(&counters),
        promises: Arc::clone(&promises),
        watch: settle.then_some(sender),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let reports = Reports { stats: Arc::clone(&stats), counters: Arc::clone(&counters), promises: Arc::clone(&promises) };
    let watcher = tokio::spawn(watch::watch(client, receiver, reports, Arc::clone(&stop)));
    let limit = Duration::from_millis(args.settle_ms);
    let work = async {
        let took = load::run(Arc::new(load)).await;
        // The load's end of the channel is gone: the watcher ends by itself when the last outcome is seen.
        let left = tokio::select! {
            left = watcher => left.unwrap_or(0),
            () = tokio::time::sleep(limit) => {
                stop.store(true, Ordering::Relaxed);
                let watched = counters.watched.load(Ordering::Relaxed);
                usize::try_from(watched.saturating_sub(counters.visible.load(Ordering::Relaxed))).unwrap_or(0)
            }
        };
        (took, left)
    };
    let (took, left) = progress::shown(&counters, plan.asks(), quiet, work).await;
    let promised = promises.take();
    let verification = match &witness {
        Some(witness) => {
            let settled = witness.settled(settings, limit).await?;
            let mut found = witness.verify(settings, &plan.codes, &promised, &promises.take_turned()).await?;
            found.settled = settled;
            Some(found)
        }
        None => None,
    };
    let stats = std::mem::take(&mut *stats.lock().unwrap_or_else(PoisonError::into_inner));
    let mut report = Report::new(&plan, stats, took.as_secs_f64(), verification);
    report.outcomes_not_seen = left;
    if settle && report.coupons.values().all(|counts| counts.answers.is_empty()) {
        report.cannot_tell = Some("no gateway answered".to_owned());
    }
    let exit = report.judge();
    if settle {
        report.verdict = exit.verdict();
    }
    Ok((report, exit))
}
