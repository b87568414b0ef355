//! The figures as docs/benchmarks-reconcile.md.

use std::fmt::Write;

use super::{full::Full, ordinary::Ordinary};
use crate::process::machine;

/// The page.
#[must_use]
pub fn markdown(rounds: u32, ordinary: &[Ordinary], full: &Full) -> String {
    let mut page = String::new();
    let _ = head(&mut page, rounds);
    let _ = runs(&mut page, ordinary);
    let _ = comparison(&mut page, rounds, full);
    page
}

fn head(page: &mut String, rounds: u32) -> std::fmt::Result {
    writeln!(
        page,
        "# Benchmarks: what the reconciler costs

Written by `make bench` (alone: `trueup-bench --only reconcile`); do not edit. Ratios are taken round by round against the mere reading of the same
data just before; each figure is the median of {rounds} alternating rounds (smallest–largest). Servers, reconciler and benchmark share the cores.

- machine: {}
- PostgreSQL with fsync and synchronous_commit on; Redis with appendfsync everysec; the reconciler with default settings
",
        machine()
    )
}

fn runs(page: &mut String, ordinary: &[Ordinary]) -> std::fmt::Result {
    writeln!(
        page,
        "## An ordinary run: 1,000 old reservations, and the coupon's counts and sizes

| issues of the coupon | reading the 1,000, ms | run, ms | of the reading | counts and sizes, ms | ledger entries read | Redis commands | Redis µs |
| --- | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    for one in ordinary {
        writeln!(
            page,
            "| {} | {} | {} | **{}** | {} | {:.0} | {:.0} | {:.0} |",
            one.issues,
            one.bare_ms,
            one.ours_ms,
            one.ours_ms.ratio_to(&one.bare_ms),
            one.counts_ms,
            one.rows,
            one.commands,
            one.redis_us
        )?;
    }
    if let [few, many] = ordinary {
        writeln!(page, "| the last to the first | | **{}** | | | | | |", many.ours_ms.ratio_to(&few.ours_ms))?;
    }
    writeln!(
        page,
        "
Reading is ZRANGE and HMGET on one connection. The run hands the same 1,000 out under a lease, in two pages, each marked in Redis so that nobody else
publishes them; gives them to a log that takes them at once; holds counts and sizes against each other under the coupon's row lock; and keeps a report.
Goal: what it reads does not depend on the coupon.
"
    )
}

fn comparison(page: &mut String, rounds: u32, full: &Full) -> std::fmt::Result {
    let mib = |kib: u64| format!("{}.{}", kib / 1024, kib % 1024 * 10 / 1024);
    writeln!(
        page,
        "## A full comparison of 1,000,000 members, against reading both sides

| | ms |
| --- | --- |
| SELECT of the holders, streamed | {} |
| SSCAN of the set | {} |
| both | {} |
| full comparison | {} |
| **ratio** | **{}** |

Goal: 2.

| the worst PING, of one every millisecond | ms |
| --- | --- |
| nothing else runs | {} |
| SSCAN of the set | {} |
| full comparison | **{}** |
| full comparison, 99 of 100 | {} |

{} PINGs during the comparisons. The pinger shares the cores with everybody else, so that a wait is Redis' or the machine's.

| reconciler | |
| --- | --- |
| VmHWM when the gate is loaded, MiB | {} |
| VmHWM after {rounds} comparisons, MiB | **{}** |
| from its start to the open gate of 1,000,000 members, s | {:.1} |

Goal: 64 MiB.",
        full.ledger,
        full.set,
        full.both,
        full.ours,
        full.ours.ratio_to(&full.both),
        full.quiet_ping,
        full.bare_ping,
        full.ours_ping,
        full.ours_ping_p99,
        full.pings,
        mib(full.memory_kib.0),
        mib(full.memory_kib.1),
        full.load_ms / 1e3
    )
}
