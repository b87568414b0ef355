//! The operator's command: define coupons, drill them, audit them, and explain what happened; see and resolve what stands still in the line of
//! payments.

mod api;
pub mod audit;
pub mod cli;
mod coupons;
mod dead_letters;
pub mod drill;
pub mod exit;
mod explain;
mod migrate;
mod output;
pub mod payments;
pub mod payments_drill;
mod pg;
pub mod pipe;
mod problem;
mod reconcile;
mod record_view;
pub mod settings;
mod topics;

use cli::{Cli, Command};
use exit::Exit;
use settings::Settings;

/// Does what the command line says.
///
/// # Errors
/// What could not be done, and what to look at; the caller exits with [`Exit::CannotTell`].
pub async fn run(cli: &Cli, settings: &Settings) -> anyhow::Result<Exit> {
    match &cli.command {
        Command::Migrate => migrate::run(settings, cli.json).await,
        Command::Topics(args) => topics::run(settings, args, cli.json).await,
        Command::Coupon(command) => coupons::run(settings, command, cli.json).await,
        Command::Drill(args) => Box::pin(drill::run(settings, args, cli.json)).await,
        Command::DrillPayments(args) => Box::pin(payments_drill::run(settings, args, cli.json)).await,
        Command::Audit(args) => Box::pin(audit::run(settings, args, cli.json)).await,
        Command::Orders(command) => payments::orders(settings, command, cli.json).await,
        Command::Refunds(command) => payments::refunds(settings, command, cli.json).await,
        Command::Payments(command) => payments::payments(settings, command, cli.json).await,
        Command::DeadLetters(command) => Box::pin(dead_letters::run(settings, command, cli.json)).await,
        Command::Reconcile(args) => reconcile::run(settings, args, cli.json).await,
        Command::Reports(args) => reconcile::reports(settings, args, cli.json).await,
        Command::Explain(args) => Box::pin(explain::run(settings, args, cli.json)).await,
    }
}
