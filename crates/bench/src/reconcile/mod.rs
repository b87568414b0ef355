//! What the reconciler costs: an ordinary run over a coupon of a million issues, and a full comparison of a million members.

mod bare;
mod full;
mod ordinary;
mod page;
mod ping;
mod seed;

use anyhow::Result;

use crate::{ledger, servers::Servers};

/// Issues of the large coupon.
const MILLION: u32 = 1_000_000;
/// Issues of the small one, and reservations that wait in either.
const THOUSAND: u32 = 1_000;

/// Measures both, and gives the page.
///
/// # Errors
/// A server or the reconciler fails, or gate and ledger are found to differ.
pub async fn run(servers: &Servers, rounds: u32) -> Result<String> {
    let client = ledger::connect(&servers.postgres.url()).await?;
    ledger::require_durability(&client).await?;
    let full = full::run(servers, &client, rounds).await?;
    let ordinary = ordinary::run(servers, &client, rounds).await?;
    Ok(page::markdown(rounds, &ordinary, &full))
}
