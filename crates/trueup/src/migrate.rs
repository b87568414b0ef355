//! `trueup migrate`.

use anyhow::Context;

use crate::{exit::Exit, output, settings::Settings};

/// Brings the schema up to date.
///
/// # Errors
/// The database cannot be reached, or a migration fails.
pub async fn run(settings: &Settings, json: bool) -> anyhow::Result<Exit> {
    let applied = postgres_io::migrate(&settings.postgres).await.with_context(|| settings.postgres_hint())?;
    if json {
        output::print_json(&serde_json::json!({ "applied": applied }))?;
    } else if applied.is_empty() {
        println!("the schema is up to date");
    } else {
        println!("applied {}", applied.join(", "));
    }
    Ok(Exit::Done)
}
