//! `STACK=docker`: the servers from deploy/compose.yaml instead of private ones.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use stack::paths;

use super::ports::Ports;

/// What is said where Docker cannot be started.
const NEEDS: &str = "STACK=docker needs Docker with the compose plug-in; without STACK the servers run as processes";

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
    let status = command(ports, arguments)?.status().context(NEEDS)?;
    ensure!(status.success(), "docker compose {} failed", arguments.join(" "));
    Ok(())
}

/// The servers that run now, as Docker says.
///
/// # Errors
/// There is no Docker, or it says no.
pub fn running(ports: &Ports) -> Result<Vec<String>> {
    // Names alone, one a line: unlike the table and the JSON, that is the same in every version of the plug-in.
    let output = command(ports, &["ps", "--services", "--filter", "status=running"])?.output().context(NEEDS)?;
    ensure!(output.status.success(), "docker compose ps failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(|line| line.trim().to_owned()).collect())
}

fn command(ports: &Ports, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new("docker");
    command.args(["compose", "-f"]).arg(paths::workspace()?.join("deploy/compose.yaml")).args(arguments);
    for (variable, port) in [("POSTGRES_PORT", ports.postgres), ("REDIS_PORT", ports.redis), ("KAFKA_PORT", ports.kafka)] {
        command.env(variable, port.to_string());
    }
    Ok(command)
}
