//! Which ports a local run uses.

use std::env;

use anyhow::{Context, Result, ensure};

/// All ports of a local run.
#[derive(Debug, Clone)]
pub struct Ports {
    /// PostgreSQL.
    pub postgres: u16,
    /// Redis.
    pub redis: u16,
    /// Kafka's clients.
    pub kafka: u16,
    /// Kafka's controller.
    pub kafka_controller: u16,
    /// One gateway each.
    pub gateways: Vec<u16>,
    /// One consumer each, for its probes.
    pub consumers: Vec<u16>,
    /// The reconciler's probes.
    pub reconciler: u16,
    /// The payment reconciler: callbacks, the operators' interface, probes.
    pub payment_reconciler: u16,
    /// The payment gateways' simulator.
    pub pg_simulator: u16,
}

impl Ports {
    /// The defaults, changed by variables of the environment.
    ///
    /// # Errors
    /// A variable that is not a port or a list of ports; the message names it.
    pub fn from_environment() -> Result<Self> {
        Ok(Self {
            postgres: one("POSTGRES_PORT", 15432)?,
            redis: one("REDIS_PORT", 16379)?,
            kafka: one("KAFKA_PORT", 19092)?,
            kafka_controller: one("KAFKA_CONTROLLER_PORT", 19093)?,
            gateways: list("GATEWAY_PORTS", &[8081, 8082])?,
            consumers: list("CONSUMER_HTTP_PORTS", &[8091, 8092])?,
            reconciler: one("RECONCILER_HTTP_PORT", 8095)?,
            payment_reconciler: one("PAYMENT_RECONCILER_HTTP_PORT", 8097)?,
            pg_simulator: one("PG_SIMULATOR_PORT", 8099)?,
        })
    }
}

fn one(variable: &str, default: u16) -> Result<u16> {
    match env::var(variable) {
        Ok(text) => {
            text.trim().parse().with_context(|| format!("{variable}={text} is not a port; give a number from 1 to 65535"))
        }
        Err(_) => Ok(default),
    }
}

fn list(variable: &str, default: &[u16]) -> Result<Vec<u16>> {
    let Ok(text) = env::var(variable) else { return Ok(default.to_vec()) };
    let ports = text
        .split(',')
        .map(|part| part.trim().parse().with_context(|| format!("{variable}={text} is not a list of ports such as 8081,8082")))
        .collect::<Result<Vec<u16>>>()?;
    ensure!(!ports.is_empty(), "{variable} is empty");
    Ok(ports)
}
