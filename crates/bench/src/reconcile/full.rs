//! A full comparison of a million members by the reconciler as it runs, against the mere reading of both sides just before.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use domain::ids::CouponCode;
use serde_json::Value;
use stack::ServiceProcess;
use tokio_postgres::Client;

use super::{
    MILLION, bare,
    ping::{Pinger, Waits},
    seed,
};
use crate::{
    fold, maintenance, process,
    servers::{Servers, stop},
    stats::Rounds,
    visible::Connection,
};

/// Nothing by itself while time is taken: everything is asked for.
const NEVER_MS: &str = "86400000";
/// For how long PINGs are sent while nothing else runs: about as long as a comparison takes.
const QUIET: Duration = Duration::from_secs(2);

/// What was measured. All rounds are milliseconds.
#[derive(Default)]
pub struct Full {
    /// Reading the ledger's holders.
    pub ledger: Rounds,
    /// Reading the set.
    pub set: Rounds,
    /// Both, one after the other.
    pub both: Rounds,
    /// The comparison, as its caller sees it.
    pub ours: Rounds,
    /// Worst PING while nothing else runs.
    pub quiet_ping: Rounds,
    /// Worst PING while the set is merely read.
    pub bare_ping: Rounds,
    /// Worst PING while it is compared.
    pub ours_ping: Rounds,
    /// What 99 of 100 of these did not exceed.
    pub ours_ping_p99: Rounds,
    /// PINGs during comparisons.
    pub pings: usize,
    /// `VmHWM` of the reconciler before the first comparison, and after the last, in KiB.
    pub memory_kib: (u64, u64),
    /// From the start of the reconciler to the open gate of a million members.
    pub load_ms: f64,
}

/// Seeds the million, lets the reconciler load its gate, and compares.
///
/// # Errors
/// A server or the reconciler fails, or a comparison finds a difference.
pub async fn run(servers: &Servers, client: &Client, rounds: u32) -> Result<Full> {
    let code = CouponCode::new("bench-million")?;
    eprintln!("reconcile, seeding {MILLION} issues");
    seed::position(servers, client).await?;
    seed::coupon(client, &code, MILLION).await?;
    let tokens = format!("bench:{}", servers.key());
    let more = [
        ("ADMIN__TOKENS", tokens.as_str()),
        ("RUN__INTERVAL_MS", NEVER_MS),
        ("PENDING__INTERVAL_MS", NEVER_MS),
        ("COMPARE__INTERVAL_MS", NEVER_MS),
        ("COMPARE__RETRY_MS", NEVER_MS),
    ];
    let mut full = Full::default();
    let started = Instant::now();
    let mut reconciler = servers.service_with("reconciler", "RECONCILER", &more)?;
    fold::wait_for_coupon(client, &fold::gate(servers).await?, &code).await?;
    full.load_ms = started.elapsed().as_secs_f64() * 1e3;
    full.memory_kib.0 = process::memory_high_water_kib(reconciler.process().pid())?;
    for round in 0..rounds {
        eprintln!("reconcile, full comparison, round {}", round + 1);
        maintenance::settle(servers, client).await?;
        one(servers, client, &reconciler, &code, &mut full).await?;
    }
    full.memory_kib.1 = process::memory_high_water_kib(reconciler.process().pid())?;
    stop(reconciler)?;
    Ok(full)
}

async fn one(servers: &Servers, client: &Client, reconciler: &ServiceProcess, code: &CouponCode, full: &mut Full) -> Result<()> {
    full.quiet_ping.push(quiet(servers).await?.worst_ms);
    let ledger = bare::ledger(client, code, MILLION).await?;
    let mut redis = bare::redis(servers).await?;
    let pinger = Pinger::start(servers).await?;
    let set = bare::set(&mut redis, code, MILLION).await?;
    full.bare_ping.push(pinger.stop().await?.worst_ms);
    let pinger = Pinger::start(servers).await?;
    let ours = compare(servers, reconciler, code).await?;
    let waits = pinger.stop().await?;
    full.ours_ping.push(waits.worst_ms);
    full.ours_ping_p99.push(waits.p99_ms);
    full.pings = full.pings.saturating_add(waits.pings);
    full.ledger.push(ledger * 1e3);
    full.set.push(set * 1e3);
    full.both.push((ledger + set) * 1e3);
    eprintln!("  reading {ledger:.2} + {set:.2} s, compared in {ours:.2} s; worst PING {:.1} ms", waits.worst_ms);
    full.ours.push(ours * 1e3);
    Ok(())
}

/// PINGs while nothing else runs.
async fn quiet(servers: &Servers) -> Result<Waits> {
    let pinger = Pinger::start(servers).await?;
    tokio::time::sleep(QUIET).await;
    pinger.stop().await
}

/// Asks for a full comparison as an operator does; seconds until the answer.
async fn compare(servers: &Servers, reconciler: &ServiceProcess, code: &CouponCode) -> Result<f64> {
    let mut line = Connection::open(reconciler.http_port()).await?;
    let asked = r#"{"full":true}"#;
    let request = format!(
        "POST /v1/coupons/{code}/reconcile HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{asked}",
        servers.key(),
        asked.len()
    );
    let started = Instant::now();
    let (status, body) = line.call(request.as_bytes()).await?;
    let seconds = started.elapsed().as_secs_f64();
    ensure!(status == 200, "the comparison was answered {status}: {body}");
    let report: Value = serde_json::from_str(body)?;
    let number = |path: &str| report.pointer(path).and_then(Value::as_i64).with_context(|| format!("no {path} in {body}"));
    let (holders, members) = (number("/comparison/dbMembers")?, number("/comparison/redisMembers")?);
    let alike = holders == i64::from(MILLION) && members >= holders && number("/mismatchCount")? == 0;
    ensure!(alike, "not a comparison of a million alike: {body}");
    Ok(seconds)
}
