//! `trueup`: wiring only.

use std::process::ExitCode;

use clap::Parser;
use trueup_cli::{cli::Cli, exit::Exit, pipe, settings};

fn main() -> ExitCode {
    pipe::end_quietly();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors.
            let wrong = error.use_stderr();
            let _ = error.print();
            return if wrong { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    service_kit::install_crypto_provider();
    match start(&cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("trueup: {error:#}");
            Exit::CannotTell.into()
        }
    }
}

fn start(cli: &Cli) -> anyhow::Result<Exit> {
    let mut settings = settings::load(cli)?;
    settings.apply(cli);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(trueup_cli::run(cli, &settings))
}
