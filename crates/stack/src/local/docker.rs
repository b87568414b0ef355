//! `STACK=docker`: the servers from deploy/compose.yaml instead of private ones.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use stack::paths;

use super::ports::Ports;

/// Whether the servers shall come from containers.
#[must_use]
pub fn wanted() -> bool {
    std::env::var("STACK").is_ok_and(|stack| stack == "docker")
}

/// Runs `docker compose` on our file, with our ports.
///
/// # Errors
/// There is no Docker, or it says no.
pub fn compose(ports: &Ports, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("docker");
    command.args(["compose", "-f"]).arg(paths::workspace()?.join("deploy/compose.yaml")).args(arguments);
    command.env("POSTGRES_PORT", ports.postgres.to_string());
    command.env("REDIS_PORT", ports.redis.to_string());
    command.env("KAFKA_PORT", ports.kafka.to_string());
    let status = command
        .status()
        .context("STACK=docker needs Docker with the compose plug-in; without STACK the servers run as processes")?;
    ensure!(status.success(), "docker compose {} failed", arguments.join(" "));
    Ok(())
}
