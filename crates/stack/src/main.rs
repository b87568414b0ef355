//! `trueup-stack`: the servers and services of a local run, started and ended together.

mod local;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use local::{down, environment::Environment, interrupt, ports::Ports, run, status, up};

/// Private PostgreSQL, Redis and Kafka on loopback, and Trueup's services on them.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  trueup-stack up                   servers and services
  trueup-stack up --no-services     only PostgreSQL, Redis and Kafka
  trueup-stack run --once           a drill and its audit; the exit status is the verdict
  trueup-stack status --json
  trueup-stack logs issue-consumer-1 --follow
  trueup-stack down

Exit status of `run`: 0 the verdict is clean, 1 it is not, 2 something did not come up, 130 interrupted before the verdict.

Ports are chosen by POSTGRES_PORT, REDIS_PORT, KAFKA_PORT, KAFKA_CONTROLLER_PORT, GATEWAY_PORTS, CONSUMER_HTTP_PORTS, RECONCILER_HTTP_PORT,
PAYMENT_RECONCILER_HTTP_PORT, PG_SIMULATOR_PORT. With STACK=docker the three servers come from deploy/compose.yaml."
)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start what does not run yet.
    Up {
        /// Only PostgreSQL, Redis and Kafka.
        #[arg(long)]
        no_services: bool,
    },
    /// End everything that `up` started; data stays.
    Down,
    /// What runs, with pids, ports and logs.
    Status {
        /// For machines.
        #[arg(long)]
        json: bool,
    },
    /// The end of the logs, or of one.
    Logs {
        /// Which, as `status` names it; all by default.
        name: Option<String>,
        /// Go on as the log grows.
        #[arg(long, short)]
        follow: bool,
    },
    /// The settings as shell lines: `eval "$(trueup-stack env)"`.
    Env,
    /// Up, one reserved and one queued coupon, a drill, the audit, a drill of payments; stays up until Ctrl-C.
    Run {
        /// End by itself; the exit status is the verdict.
        #[arg(long)]
        once: bool,
        /// Members that ask for each coupon.
        #[arg(long, env = "MEMBERS", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
        members: u32,
        /// Seats of each coupon.
        #[arg(long, env = "SEATS", default_value_t = 1_000)]
        seats: u32,
        /// Orders whose payments are settled.
        #[arg(long, env = "ORDERS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(10..=100_000))]
        orders: u32,
    },
}

/// Starts everything; Ctrl-C meanwhile ends it again, so that nothing is left half started.
fn up(ports: &Ports, environment: &Environment, services: bool) -> anyhow::Result<ExitCode> {
    interrupt::watch()?;
    let result = up::up(ports, environment, services);
    if interrupt::noticed() {
        down::down(ports)?;
        return Ok(ExitCode::from(interrupt::EXIT_STATUS));
    }
    result.map(|()| ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = Ports::from_environment().and_then(|ports| {
        let environment = Environment::load(&ports)?;
        match arguments.action {
            Action::Up { no_services } => up(&ports, &environment, !no_services),
            Action::Down => down::down(&ports).map(|()| ExitCode::SUCCESS),
            Action::Status { json } => status::status(&ports, json),
            Action::Logs { name, follow } => status::logs(&ports, name.as_deref(), follow).map(|()| ExitCode::SUCCESS),
            Action::Env => {
                print!("{}", environment.shell_lines());
                Ok(ExitCode::SUCCESS)
            }
            Action::Run { once, members, seats, orders } => {
                run::run(&ports, &environment, &run::Drill { once, members, seats, orders })
            }
        }
    });
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}
