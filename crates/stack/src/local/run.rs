//! The main job: everything up, two coupons, a drill, the audit's verdict, a drill of payments, and the addresses to try by hand.

use std::{
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use stack::process::{Identity, wait_until};

use super::{down, environment::Environment, interrupt, lock, ports::Ports, up};

/// Until somebody wants an end.
const FOREVER: Duration = Duration::MAX;

/// How long the operator's command may take to end when it is told to.
const END_LIMIT: Duration = Duration::from_secs(10);

/// What the drill shall do.
#[derive(Debug)]
pub struct Drill {
    /// End by itself.
    pub once: bool,
    /// Members that ask for each coupon.
    pub members: u32,
    /// Seats of each coupon.
    pub seats: u32,
    /// Orders whose payments are settled.
    pub orders: u32,
}

/// Runs it and ends everything afterwards, unless another run needs it; the exit status is the verdict, or
/// [`interrupt::EXIT_STATUS`] where somebody wanted an end before there was one.
///
/// # Errors
/// A part does not come up; whatever was started is ended all the same.
pub fn run(ports: &Ports, environment: &Environment, drill: &Drill) -> Result<ExitCode> {
    interrupt::watch()?;
    let using = lock::Use::begin()?;
    let verdict = up::up(ports, environment, true).and_then(|()| drill_and_audit(environment, drill));
    if let Ok(verdict) = &verdict {
        println!("\nverdict: {}", if *verdict { "clean" } else { "NOT clean, see above" });
        if !drill.once && !interrupt::noticed() {
            say_what_to_try(ports)?;
            wait_until(FOREVER, interrupt::noticed);
        }
    }
    match using.end()? {
        Some(_last) => down::down(ports)?,
        None => eprintln!("another run uses the servers and services: they stay up until it ends"),
    }
    match verdict {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        Err(error) if interrupt::noticed() => {
            eprintln!("{error:#}");
            Ok(ExitCode::from(interrupt::EXIT_STATUS))
        }
        Err(error) => Err(error),
    }
}

/// Whether both drills and both audits were clean.
fn drill_and_audit(environment: &Environment, drill: &Drill) -> Result<bool> {
    let stamp = stamp();
    let codes = [format!("demo-reserved-{stamp}"), format!("demo-queued-{stamp}")];
    for (code, admission) in codes.iter().zip(["reserved", "queued"]) {
        let total = drill.seats.to_string();
        let name = format!("A {admission} coupon to try");
        let arguments = ["coupon", "define", code, "--admission", admission, "--total", &total, "--name", &name];
        ensure!(trueup(environment, &arguments)?, "{code} could not be defined; see above, and `make logs`");
    }
    let [reserved, queued] = &codes;
    let mut clean = trueup(environment, &["drill", reserved, queued, "--members", &drill.members.to_string()])?;
    for code in &codes {
        clean &= trueup(environment, &["audit", code, "--redis"])?;
    }
    clean &= trueup(environment, &["drill-payments", "--orders", &drill.orders.to_string()])?;
    Ok(clean)
}

fn say_what_to_try(ports: &Ports) -> Result<()> {
    let gateway = ports.gateways.first().context("no gateway")?;
    println!(
        "
It stays up until Ctrl-C. To try by hand:

  set -a; . .local/trueup.env; set +a
  target/release/trueup coupon define my-coupon --admission reserved --total 100 --name 'My coupon'
  curl -s http://127.0.0.1:{gateway}/v1/coupons/my-coupon/requests -H 'content-type: application/json' -d '{{\"memberId\":\"user-1234\"}}'
  curl -s http://127.0.0.1:{gateway}/v1/coupons/my-coupon/members/user-1234
  target/release/trueup audit my-coupon
  target/release/trueup drill-payments --orders 300

  API to read     http://127.0.0.1:{gateway}/docs
  gateways        {}
  payments        http://127.0.0.1:{}/metrics
  PG simulator    http://127.0.0.1:{}/
  PostgreSQL      postgres://trueup@127.0.0.1:{}/trueup
  Redis           redis://127.0.0.1:{}/
  Kafka           127.0.0.1:{}
  logs            make logs",
        ports.gateways.iter().map(|port| format!("http://127.0.0.1:{port}")).collect::<Vec<_>>().join("  "),
        ports.payment_reconciler,
        ports.pg_simulator,
        ports.postgres,
        ports.redis,
        ports.kafka
    );
    Ok(())
}

/// Arguments as a person would type them: what has blanks in it stands in quotes.
fn typed(arguments: &[&str]) -> String {
    let word = |word: &&str| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() };
    arguments.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Runs the operator's command in this terminal; whether it said that all is well. An interruption is an error.
fn trueup(environment: &Environment, arguments: &[&str]) -> Result<bool> {
    println!("\n$ trueup {}", typed(arguments));
    let mut child =
        Command::new(up::binary("trueup")?).args(arguments).envs(environment.with(&[])).spawn().context("cannot start trueup")?;
    let mut status = None;
    let mut ended = || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    };
    wait_until(FOREVER, || ended() || interrupt::noticed());
    // Ctrl-C in a terminal reaches both of us; a TERM only us.
    if !ended() {
        if let Some(identity) = Identity::of(child.id()) {
            identity.signal(Signal::TERM);
        }
        if !wait_until(END_LIMIT, || matches!(child.try_wait(), Ok(Some(_)))) {
            child.kill()?;
            child.wait()?;
        }
    }
    ensure!(!interrupt::noticed(), "interrupted before the verdict");
    Ok(status.is_some_and(|status| status.success()))
}

/// The time and our pid, so that each run has coupons of its own, even of two that start together.
#[allow(clippy::disallowed_methods, reason = "a name for people; nothing is decided by it")]
fn stamp() -> String {
    format!("{}-{}", chrono::Utc::now().format("%m%d-%H%M%S"), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_can_be_typed() {
        assert_eq!(typed(&["coupon", "define", "c", "--name", "A coupon to try"]), "coupon define c --name 'A coupon to try'");
    }
}
