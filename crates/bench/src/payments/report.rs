//! The figures as docs/benchmarks-payments.md.

use std::fmt::Write;

use crate::{Pair, process::machine, stats::Rounds};

/// What was measured.
#[derive(Default)]
pub struct Figures {
    pub twenty: Pair,
    pub hundred: Pair,
    pub mix: Pair,
    pub two_replicas: Rounds,
    pub settles: Pair,
    /// The bare run that claims ahead.
    pub settles_ahead: Rounds,
    /// Backlog and KiB.
    pub memory_kib: Vec<(u32, u64)>,
}

/// The page.
#[must_use]
pub fn markdown(rounds: u32, figures: &Figures) -> String {
    let mut page = String::new();
    let _ = write(&mut page, rounds, figures);
    page
}

fn write(page: &mut String, rounds: u32, figures: &Figures) -> std::fmt::Result {
    writeln!(
        page,
        "# Benchmarks of the payment line

Written by `make bench` (alone: `trueup-bench --only payments`); do not edit. Each figure is the median of {rounds} rounds (smallest–largest), against a ceiling of the same round.
Servers, service and simulator share the cores.

- machine: {}
- PostgreSQL with fsync and synchronous_commit on; 10 asks at a time, not adapting, no limit of calls a second; one gateway

## Runs: seconds from the run's beginning to the last completed order

| stale orders | a call takes | seconds | greedy schedule on 10 slots | ratio | at most | the source's figure |
| --- | --- | --- | --- | --- | --- | --- |",
        machine()
    )?;
    for (orders, takes, pair, source) in [
        ("20", "500 ms", &figures.twenty, "10 s → 1 s"),
        ("100", "500 ms", &figures.hundred, "50 s → 5 s"),
        ("1,000", "5–500 ms", &figures.mix, ""),
    ] {
        let ratio = pair.ours.ratio_to(&pair.ceiling);
        let bound = at_most(ratio.median(), 1.1);
        writeln!(page, "| {orders} | {takes} | {} | {} | **{ratio}** | {bound} | {source} |", pair.ours, pair.ceiling)?;
    }
    let two = figures.two_replicas.ratio_to(&figures.mix.ours);
    let settles = figures.settles.ours.ratio_to(&figures.settles.ceiling);
    writeln!(
        page,
        "\nTwo replicas on the 1,000: {} s, **{two}** of one replica's time; at most {}. The source's figures are one at a time → ten at a time, in groups.

## Settles a second with a gateway that answers at once

| | settles/s | of the bare SQL's | at least |
| --- | --- | --- | --- |
| the same claims and transactions, bare | {} | | |
| the same, claiming ten ahead | {} | | |
| the service | {} | **{settles}** | {} |

Claims are for free slots only, so that a replica that dies holds up no more than it was at. A bare run that claims ten payments ahead of its ten slots shows what that
costs: the service has {} of it.

## Memory (VmHWM)

| stale orders | MiB |
| --- | --- |",
        figures.two_replicas,
        at_most(two.median(), 0.55),
        figures.settles.ceiling,
        figures.settles_ahead,
        figures.settles.ours,
        at_least(settles.median(), 0.7),
        figures.settles.ours.ratio_to(&figures.settles_ahead)
    )?;
    for (orders, kib) in &figures.memory_kib {
        writeln!(page, "| {orders} | {}.{} |", kib / 1_024, kib % 1_024 * 10 / 1_024)?;
    }
    let least = figures.memory_kib.iter().map(|(_, kib)| *kib).min().unwrap_or(0);
    let most = figures.memory_kib.iter().map(|(_, kib)| *kib).max().unwrap_or(0);
    let more = most.saturating_sub(least);
    writeln!(
        page,
        "\nDifference: {more} KiB; at most {}. Each is read after 20 s: 100 orders are settled in the first of them, of 100,000 several thousand in all of them, so\nthat this holds the growth of a busy process, too.",
        at_most(f64::from(u32::try_from(more).unwrap_or(u32::MAX)), 8_192.0)
    )
}

/// The bound, and whether it was missed.
fn at_most(figure: f64, bound: f64) -> String {
    told(figure <= bound, bound)
}

/// The same the other way round.
fn at_least(figure: f64, bound: f64) -> String {
    told(figure >= bound, bound)
}

fn told(is_kept: bool, bound: f64) -> String {
    if is_kept { bound.to_string() } else { format!("{bound}: **missed**") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_was_missed_is_said_so() {
        assert_eq!((at_most(1.1, 1.1).as_str(), at_most(1.2, 1.1).as_str()), ("1.1", "1.1: **missed**"));
        assert_eq!((at_least(0.7, 0.7).as_str(), at_least(f64::NAN, 0.7).as_str()), ("0.7", "0.7: **missed**"));
    }
}
