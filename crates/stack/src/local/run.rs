//! The main job: everything up, two coupons, a drill, the audit's verdict, and the addresses to try by hand.

use std::{
    process::{Command, ExitCode},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use stack::process::wait_until;

use super::{down, environment::Environment, ports::Ports, up};

/// How long Ctrl-C may take to be noticed; the wait itself has no end.
const WAIT_ROUND: Duration = Duration::from_secs(3600);

/// Set by the first Ctrl-C or TERM.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What the drill shall do.
#[derive(Debug)]
pub struct Drill {
    /// End by itself.
    pub once: bool,
    /// Members that ask for each coupon.
    pub members: u32,
    /// Seats of each coupon.
    pub seats: u32,
}

/// Runs it and ends everything afterwards; the exit status is the verdict.
///
/// # Errors
/// A part does not come up; whatever was started is ended all the same.
pub fn run(ports: &Ports, environment: &Environment, drill: &Drill) -> Result<ExitCode> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::SeqCst)).context("cannot wait for Ctrl-C")?;
    let verdict = up::up(ports, environment, true).and_then(|()| drill_and_audit(environment, drill));
    if let Ok(verdict) = &verdict {
        println!("\nverdict: {}", if *verdict { "clean" } else { "NOT clean, see above" });
        if !drill.once && !interrupted() {
            say_what_to_try(ports)?;
            while !interrupted() {
                wait_until(WAIT_ROUND, interrupted);
            }
        }
    }
    down::down(ports)?;
    Ok(if verdict? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Whether the drill and both audits were clean.
fn drill_and_audit(environment: &Environment, drill: &Drill) -> Result<bool> {
    let stamp = stamp();
    let codes = [format!("demo-reserved-{stamp}"), format!("demo-queued-{stamp}")];
    for (code, admission) in codes.iter().zip(["reserved", "queued"]) {
        let total = drill.seats.to_string();
        let name = format!("A {admission} coupon to try");
        trueup(environment, &["coupon", "define", code, "--admission", admission, "--total", &total, "--name", &name])?;
    }
    let [reserved, queued] = &codes;
    let mut clean = trueup(environment, &["drill", reserved, queued, "--members", &drill.members.to_string()])?;
    for code in &codes {
        if interrupted() {
            return Ok(false);
        }
        clean &= trueup(environment, &["audit", code])?;
    }
    Ok(clean)
}

fn say_what_to_try(ports: &Ports) -> Result<()> {
    let gateway = ports.gateways.first().context("no gateway")?;
    println!(
        "
It stays up until Ctrl-C. To try by hand:

  curl -s http://127.0.0.1:{gateway}/v1/coupons/my-coupon/requests -H 'content-type: application/json' -d '{{\"memberId\":\"user-1234\"}}'

after defining the coupon:

  set -a; . .local/trueup.env; set +a
  target/release/trueup coupon define my-coupon --admission reserved --total 100 --name 'My coupon'

  API to read     http://127.0.0.1:{gateway}/docs
  gateways        {}
  PostgreSQL      postgres://trueup@127.0.0.1:{}/trueup
  Redis           redis://127.0.0.1:{}/
  Kafka           127.0.0.1:{}
  logs            make logs",
        ports.gateways.iter().map(|port| format!("http://127.0.0.1:{port}")).collect::<Vec<_>>().join("  "),
        ports.postgres,
        ports.redis,
        ports.kafka
    );
    Ok(())
}

/// Runs the operator's command in this terminal; whether it said that all is well.
fn trueup(environment: &Environment, arguments: &[&str]) -> Result<bool> {
    println!("\n$ trueup {}", arguments.join(" "));
    let status = Command::new(up::binary("trueup")?)
        .args(arguments)
        .envs(environment.with(&[]))
        .status()
        .context("cannot start trueup")?;
    Ok(status.success())
}

/// The time of day, so that each run has coupons of its own.
#[allow(clippy::disallowed_methods, reason = "a name for people; nothing is decided by it")]
fn stamp() -> String {
    chrono::Utc::now().format("%m%d-%H%M%S").to_string()
}
