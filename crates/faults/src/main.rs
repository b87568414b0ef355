//! `trueup-faults`: wiring only.

use std::process::ExitCode;

use clap::Parser;
use faults::{Exit, cli::Cli};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors.
            let status = if error.use_stderr() { Exit::CannotTell } else { Exit::Clean };
            let _ = error.print();
            return ExitCode::from(status.code());
        }
    };
    match start(&cli) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => {
            eprintln!("trueup-faults: {error:#}");
            ExitCode::from(Exit::CannotTell.code())
        }
    }
}

fn start(cli: &Cli) -> anyhow::Result<Exit> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(faults::run(cli))
}
