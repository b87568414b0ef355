//! The figures as docs/benchmarks.md.

use std::fmt::Write;

use crate::{Figures, process::machine};

/// The page.
#[must_use]
pub fn markdown(rounds: &u32, seconds: &u32, backlog: &u32, figures: &Figures) -> String {
    let mut page = String::new();
    let _ = head(&mut page, *rounds, *seconds, *backlog);
    let _ = accept(&mut page, figures);
    let _ = sold_out(&mut page, figures);
    let _ = fold(&mut page, figures);
    let _ = visible(&mut page, figures);
    let _ = memory(&mut page, figures);
    page
}

fn head(page: &mut String, rounds: u32, seconds: u32, backlog: u32) -> std::fmt::Result {
    writeln!(
        page,
        "# Benchmarks

Written by `make bench`; do not edit. Ratios are taken round by round against a ceiling that was measured just before, so that the noise of the machine falls out;
each figure is the median of {rounds} alternating rounds (smallest–largest). All servers, our services and the load share the cores. One round of
accepting is not counted, because Kafka compiles its code in it.

- machine: {}
- load: wrk, 1 thread, 512 connections, {seconds} s a round; backlog: {backlog} requests
- PostgreSQL with fsync and synchronous_commit on; Redis with appendfsync everysec; one Kafka broker, acks=all
- identity `header`, otherwise default settings
",
        machine()
    )
}

fn accept(page: &mut String, figures: &Figures) -> std::fmt::Result {
    if figures.accept.is_empty() {
        return Ok(());
    }
    writeln!(page, "## Accepted requests (202 after the append is acknowledged by all)\n")?;
    writeln!(
        page,
        "| | requests/s | of the echo's | CPU µs each | of the echo's | other answers |\n| --- | --- | --- | --- | --- | --- |"
    )?;
    writeln!(
        page,
        "| bare actix JSON echo | {} | | {} | | {} |",
        figures.echo.per_second, figures.echo.cpu_us, figures.echo.others
    )?;
    for (name, side) in &figures.accept {
        let (rate, cpu) = (side.per_second.ratio_to(&figures.echo.per_second), side.cpu_us.ratio_to(&figures.echo.cpu_us));
        writeln!(page, "| {name} | {} | **{rate}** | {} | **{cpu}** | {} |", side.per_second, side.cpu_us, side.others)?;
    }
    writeln!(
        page,
        "\nReach: 0.45 of the echo's rate and 2.0 of its CPU; goal: 0.60 and 1.8. CPU of the servers beside the gateway, µs for each accepted request:\n"
    )?;
    writeln!(page, "| | Kafka | PostgreSQL | Redis |\n| --- | --- | --- | --- |")?;
    for (name, side) in &figures.accept {
        let of = |server: &str| side.beside_us.get(server).map(ToString::to_string).unwrap_or_default();
        writeln!(page, "| {name} | {} | {} | {} |", of("kafka"), of("postgres"), of("redis"))?;
    }
    writeln!(page)
}

fn sold_out(page: &mut String, figures: &Figures) -> std::fmt::Result {
    let (side, echo) = (&figures.sold_out, &figures.echo_beside_sold_out);
    if side.per_second.median().is_nan() {
        return Ok(());
    }
    writeln!(page, "## Sold out answers (410, from memory)\n")?;
    writeln!(page, "| | answers/s | CPU µs each | of the echo's |\n| --- | --- | --- | --- |")?;
    writeln!(page, "| bare actix JSON echo | {} | {} | |", echo.per_second, echo.cpu_us)?;
    writeln!(page, "| sold out | {} | {} | **{}** |", side.per_second, side.cpu_us, side.cpu_us.ratio_to(&echo.cpu_us))?;
    writeln!(page, "\nReach: 1.3; goal: 1.1.\n")
}

fn fold(page: &mut String, figures: &Figures) -> std::fmt::Result {
    if figures.fold.is_empty() {
        return Ok(());
    }
    writeln!(page, "## Log to ledger, with outcomes published and the gate settled (one partition)\n")?;
    writeln!(page, "| | rows/s | COPY of the same rows, rows/s | ratio |\n| --- | --- | --- | --- |")?;
    for (name, pair) in &figures.fold {
        writeln!(page, "| {name} | {} | {} | **{}** |", pair.ours, pair.ceiling, pair.ours.ratio_to(&pair.ceiling))?;
    }
    writeln!(page, "\nCOPY goes into the same table with all its indexes, checks and triggers. Reach: 0.40; goal: 0.50.\n")
}

fn visible(page: &mut String, figures: &Figures) -> std::fmt::Result {
    if figures.visible.is_empty() {
        return Ok(());
    }
    writeln!(page, "## From the scheduled send to visible by ticket (open loop, 10 s)\n")?;
    writeln!(
        page,
        "| | requests/s | 202 | other answers | 202, p50 ms | 202, p99 ms | tickets polled | visible, p50 ms | p90 ms | p99 ms | p99.9 ms | audit |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    for (name, seen) in &figures.visible {
        writeln!(
            page,
            "| {name} | {:.0} | {} | {} | {:.1} | {:.1} | {} | {:.1} | {:.1} | **{:.1}** | {:.1} | {} |",
            seen.rate,
            seen.accepted,
            seen.others,
            seen.accepted_ms(500),
            seen.accepted_ms(990),
            seen.samples(),
            seen.visible_ms(500),
            seen.visible_ms(900),
            seen.visible_ms(990),
            seen.visible_ms(999),
            if seen.clean { "clean" } else { "NOT CLEAN" }
        )?;
    }
    writeln!(
        page,
        "\nReach: p99 ≤ 100 ms at half the accept rate (reserved, consumers running). A sample of 200 tickets a second is polled every 5 ms; a request\nthat is sent late counts from the moment at which it was due. PostgreSQL made its checkpoint and Redis wrote its file anew just before: the millions of\nrequests above left both due, and one of them in the middle takes one of the two cores for a second or two (a p99 of 508 ms was seen then).\n"
    )
}

fn memory(page: &mut String, figures: &Figures) -> std::fmt::Result {
    writeln!(page, "## Memory (VmHWM at the end)\n\n| | MiB |\n| --- | --- |")?;
    for (name, kib) in &figures.memory_kib {
        writeln!(page, "| {name} | {}.{} |", kib / 1024, kib % 1024 * 10 / 1024)?;
    }
    writeln!(page, "\nReach: 64 MiB each.")
}
