//! `trueup-bench`: how fast the coupon line is, as ratios against ceilings measured in the same run.

mod fold;
mod http;
mod ledger;
mod maintenance;
mod payments;
mod process;
mod reconcile;
mod report;
mod servers;
mod stats;
mod visible;
mod wrk;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use domain::ids::CouponCode;
use http::{Echo, Side, gateway_round};
use servers::{Servers, stop};
use stack::paths;
use stats::Rounds;
use visible::Visible;

/// Measures the coupon line against a bare actix echo and a plain COPY; writes docs/benchmarks.md.
#[derive(Parser, Debug, Clone)]
#[command(
    version,
    after_help = "Examples:
  trueup-bench                       five rounds, about ten minutes
  trueup-bench --rounds 1 --seconds 3 --only accept
  trueup-bench --rounds 3 --only payments   the payment line alone, into docs/benchmarks-payments.md"
)]
struct Arguments {
    /// Rounds of each pair; they alternate.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of load in each round.
    #[arg(long, default_value_t = 6)]
    seconds: u32,
    /// Requests of each backlog.
    #[arg(long, default_value_t = 300_000)]
    backlog: u32,
    /// Only these parts: accept, sold-out, fold, visible, reconcile, payments.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where the report goes; docs/benchmarks.md by default, `-` for none. Those of `reconcile` and `payments` are
    /// docs/benchmarks-reconcile.md and docs/benchmarks-payments.md.
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Arguments {
    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }
}

/// Everything that was measured.
#[derive(Default)]
pub struct Figures {
    echo: Side,
    accept: BTreeMap<&'static str, Side>,
    echo_beside_sold_out: Side,
    sold_out: Side,
    fold: BTreeMap<&'static str, Pair>,
    visible: Vec<(&'static str, Visible)>,
    memory_kib: BTreeMap<&'static str, u64>,
}

/// A figure and its ceiling.
#[derive(Default)]
pub struct Pair {
    ours: Rounds,
    ceiling: Rounds,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let folder = paths::local()?.join("bench");
    // Servers of an interrupted run have died with it; their data is worth nothing.
    let _ = std::fs::remove_dir_all(&folder);
    let mut servers = Servers::start(&folder)?;
    let alone = PARTS.iter().all(|part| !arguments.wants(part));
    // What is given by --out is the page of the coupon line, unless another part is measured alone.
    let own = arguments.out.as_ref().filter(|out| (alone && arguments.only.len() == 1) || out.as_os_str() == "-");
    if arguments.wants("reconcile") {
        publish(&reconcile::run(&servers, arguments.rounds).await?, own, "docs/benchmarks-reconcile.md")?;
    }
    if arguments.wants("payments") {
        publish(&Box::pin(payments::run(&servers, arguments.rounds)).await?, own, "docs/benchmarks-payments.md")?;
    }
    if alone {
        return Ok(());
    }
    let mut figures = Figures::default();
    http_part(&arguments, &mut servers, &mut figures).await?;
    if arguments.wants("fold") {
        for (name, total) in [("all issued", arguments.backlog), ("1,000 issued", 1_000)] {
            fold_part(&arguments, &servers, name, total, &mut figures).await?;
        }
    }
    let text = report::markdown(&arguments.rounds, &arguments.seconds, &arguments.backlog, &figures);
    publish(&text, arguments.out.as_ref(), "docs/benchmarks.md")
}

/// The parts whose figures are docs/benchmarks.md.
const PARTS: [&str; 4] = ["accept", "sold-out", "fold", "visible"];

/// Shows a page and writes it, to `page` of the workspace unless `out` says otherwise.
fn publish(text: &str, out: Option<&PathBuf>, page: &str) -> Result<()> {
    println!("{text}");
    let out = match out {
        Some(out) => out.clone(),
        None => paths::workspace()?.join(page),
    };
    if out.as_os_str() != "-" {
        std::fs::write(&out, text).with_context(|| format!("cannot write {}", out.display()))?;
    }
    Ok(())
}

/// Accepted and sold out answers, and the latency of an outcome.
async fn http_part(arguments: &Arguments, servers: &mut Servers, figures: &mut Figures) -> Result<()> {
    let echo = Echo::start(servers)?;
    let mut gateway = servers.service("coupon-gateway", "COUPON_GATEWAY")?;
    let consumer = servers.service("issue-consumer", "ISSUE_CONSUMER")?;
    let mut reconciler = servers.service("reconciler", "RECONCILER")?;
    let (client, gate) = (ledger::connect(&servers.postgres.url()).await?, fold::gate(servers).await?);
    ledger::require_durability(&client).await?;
    let port = Some(gateway.http_port());
    let define = |servers: &Servers, code: &str, admission: &str, total: &str| {
        servers
            .trueup_on(&["coupon", "define", code, "--admission", admission, "--total", total, "--name", "bench"], port)
            .map(drop)
    };
    define(servers, "bench-reserved", "reserved", "100000000")?;
    define(servers, "bench-queued", "queued", "100000000")?;
    define(servers, "bench-gone", "reserved", "1")?;
    fold::wait_for_coupon(&client, &gate, &CouponCode::new("bench-reserved")?).await?;
    let gone = CouponCode::new("bench-gone")?;
    let partition = fold::wait_for_coupon(&client, &gate, &gone).await?;
    fold::append(servers, &gone, partition, 1).await?;

    let mut consumer = Some(consumer);
    if arguments.wants("sold-out") {
        for round in 0..arguments.rounds {
            eprintln!("sold out, round {}", round + 1);
            echo.round(servers, arguments.seconds, &mut figures.echo_beside_sold_out).await?;
            gateway_round(
                servers,
                &mut gateway,
                "bench-gone",
                410,
                arguments.seconds,
                &format!("s{round}-"),
                &mut figures.sold_out,
            )
            .await?;
        }
    }
    if arguments.wants("accept") {
        if let Some(consumer) = consumer.take() {
            stop(consumer)?;
        }
        let kinds = [("reserved, consumers stopped", "bench-reserved"), ("queued, consumers stopped", "bench-queued")];
        // Kafka compiles its busiest code in the first seconds of a load, on the cores of what is measured.
        eprintln!("accept, warm-up");
        for (_, code) in kinds {
            gateway_round(servers, &mut gateway, code, 202, arguments.seconds, "w-", &mut Side::default()).await?;
        }
        for round in 0..arguments.rounds {
            eprintln!("accept, round {}", round + 1);
            echo.round(servers, arguments.seconds, &mut figures.echo).await?;
            for (name, code) in kinds {
                let side = figures.accept.entry(name).or_default();
                gateway_round(servers, &mut gateway, code, 202, arguments.seconds, &format!("a{round}-"), side).await?;
            }
        }
        let running = servers.service("issue-consumer", "ISSUE_CONSUMER")?;
        // What was accepted while no consumer ran is not a part of what follows.
        fold::wait_until_decided(servers, &client).await?;
        for round in 0..arguments.rounds {
            eprintln!("accept with consumers, round {}", round + 1);
            let side = figures.accept.entry("reserved, consumers running").or_default();
            gateway_round(servers, &mut gateway, "bench-reserved", 202, arguments.seconds, &format!("c{round}-"), side).await?;
        }
        consumer = Some(running);
    }
    if arguments.wants("visible") {
        if consumer.is_none() {
            consumer = Some(servers.service("issue-consumer", "ISSUE_CONSUMER")?);
        }
        for (name, code, rate) in [
            ("1,000 requests/s", "bench-visible-light", LIGHT_RATE),
            ("half the accept rate", "bench-visible", half_the_accept_rate(figures)),
        ] {
            eprintln!("visible at {rate:.0} requests/s");
            define(servers, code, "reserved", "100000000")?;
            fold::wait_for_coupon(&client, &gate, &CouponCode::new(code)?).await?;
            fold::wait_until_decided(servers, &client).await?;
            maintenance::settle(servers, &client).await?;
            let mut seen = visible::run(gateway.http_port(), code, rate, VISIBLE_SECONDS).await?;
            seen.clean = servers.trueup(&["audit", code]).is_ok();
            figures.visible.push((name, seen));
        }
    }
    figures.memory_kib.insert("coupon-gateway", process::memory_high_water_kib(gateway.process().pid())?);
    figures.memory_kib.insert("reconciler", process::memory_high_water_kib(reconciler.process().pid())?);
    if let Some(mut consumer) = consumer {
        figures
            .memory_kib
            .insert("issue-consumer, after the load above", process::memory_high_water_kib(consumer.process().pid())?);
        stop(consumer)?;
    }
    stop(gateway)?;
    stop(reconciler)
}

/// A rate at which nothing is busy; requests a second.
const LIGHT_RATE: f64 = 1_000.0;
/// How long requests come in.
const VISIBLE_SECONDS: u32 = 10;

fn half_the_accept_rate(figures: &Figures) -> f64 {
    let accept = figures.accept.get("reserved, consumers running").map_or(f64::NAN, |side| side.per_second.median());
    if accept.is_finite() { (accept / 2.0).max(100.0) } else { LIGHT_RATE }
}

/// A backlog on one partition, worked off by one consumer, against COPY of the rows that it wrote.
async fn fold_part(
    arguments: &Arguments,
    servers: &Servers,
    name: &'static str,
    total: u32,
    figures: &mut Figures,
) -> Result<()> {
    let (client, gate) = (ledger::connect(&servers.postgres.url()).await?, fold::gate(servers).await?);
    for round in 0..arguments.rounds {
        eprintln!("fold, {name}, round {}", round + 1);
        let code = CouponCode::new(format!("fold-{total}-{round}"))?;
        let gateway = servers.service("coupon-gateway", "COUPON_GATEWAY")?;
        let consumer = servers.service("issue-consumer", "ISSUE_CONSUMER")?;
        let reconciler = servers.service("reconciler", "RECONCILER")?;
        let arguments_of_define =
            ["coupon", "define", code.as_str(), "--admission", "reserved", "--total", &total.to_string(), "--name", "bench"];
        servers.trueup_on(&arguments_of_define, Some(gateway.http_port()))?;
        let partition = fold::wait_for_coupon(&client, &gate, &code).await?;
        stop(consumer)?;
        stop(reconciler)?;
        stop(gateway)?;
        client.batch_execute("TRUNCATE coupon_request").await?;
        let end = fold::append(servers, &code, partition, arguments.backlog).await?;
        let start = end.saturating_sub(i64::from(arguments.backlog));
        client.batch_execute("CHECKPOINT").await?;
        let mut consumer = servers.service("issue-consumer", "ISSUE_CONSUMER")?;
        let ours = fold::watch(&client, &gate, &code, partition, start, end).await?;
        let memory = process::memory_high_water_kib(consumer.process().pid())?;
        let most = figures.memory_kib.entry("issue-consumer, after a backlog").or_default();
        *most = memory.max(*most);
        stop(consumer)?;
        let pair = figures.fold.entry(name).or_default();
        pair.ours.push(ours);
        pair.ceiling.push(ledger::copy_again(&client).await?);
    }
    Ok(())
}
