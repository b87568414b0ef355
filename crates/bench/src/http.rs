//! The gateway against the echo: answers a second, and CPU an answer.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Result, ensure};
use stack::{Lifetime, Process, ServiceProcess, ports};

use crate::{
    ledger::count_as_f64,
    process::{cpu_time, cpu_time_of_tree},
    servers::{Servers, release},
    stats::Rounds,
    wrk,
};

/// What one side of a comparison did, round by round.
#[derive(Default)]
pub struct Side {
    /// Expected answers a second.
    pub per_second: Rounds,
    /// CPU of the measured server for each expected answer, in microseconds.
    pub cpu_us: Rounds,
    /// CPU of the servers beside it for each expected answer, in microseconds, by name.
    pub beside_us: BTreeMap<&'static str, Rounds>,
    /// Answers with another status, and socket errors, in all rounds.
    pub others: u64,
}

/// The echo server.
pub struct Echo {
    process: Process,
    port: u16,
}

impl Echo {
    /// Starts it.
    ///
    /// # Errors
    /// It is not built or does not come up.
    pub fn start(servers: &Servers) -> Result<Self> {
        let port = ports::free()?;
        let mut command = Command::new(release("bench-echo")?);
        command.arg(format!("127.0.0.1:{port}"));
        let mut process = Process::spawn("echo", command, &servers.folder().join("echo.log"), Lifetime::Owned)?;
        process.wait_ready(std::time::Duration::from_secs(10), || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(Self { process, port })
    }

    /// One round of load.
    ///
    /// # Errors
    /// wrk fails, or the echo answers something else.
    pub async fn round(&self, servers: &Servers, seconds: u32, side: &mut Side) -> Result<()> {
        let url = format!("http://127.0.0.1:{}/v1/coupons/echo/requests", self.port);
        let before = cpu_time(self.process.pid())?;
        let counted = wrk::run(servers.folder(), &url, seconds, 202, "e").await?;
        let used = cpu_time(self.process.pid())?.saturating_sub(before);
        side.others = side.others.saturating_add(counted.others);
        side.per_second.push(count_as_f64(counted.expected) / counted.seconds);
        side.cpu_us.push(used.as_secs_f64() * 1e6 / count_as_f64(counted.expected.max(1)));
        Ok(())
    }
}

/// One round of load on the gateway; `status` is the answer that counts.
///
/// # Errors
/// wrk fails, or no answer has the expected status.
pub async fn gateway_round(
    servers: &mut Servers,
    gateway: &mut ServiceProcess,
    code: &str,
    status: u16,
    seconds: u32,
    prefix: &str,
    side: &mut Side,
) -> Result<()> {
    let url = format!("http://127.0.0.1:{}/v1/coupons/{code}/requests", gateway.http_port());
    let pids = [
        ("kafka", servers.kafka.process().pid()),
        ("redis", servers.redis.process().pid()),
        ("postgres", servers.postgres.process().pid()),
    ];
    let pid = gateway.process().pid();
    let before = cpu_time(pid)?;
    let beside: Vec<_> = pids.iter().map(|(_, pid)| cpu_time_of_tree(*pid)).collect::<Result<_>>()?;
    let counted = wrk::run(servers.folder(), &url, seconds, status, prefix).await?;
    ensure!(
        counted.expected > 0,
        "the gateway never answered {status}; see {}",
        servers.folder().join("coupon-gateway.log").display()
    );
    let used = cpu_time(pid)?.saturating_sub(before);
    let each = count_as_f64(counted.expected);
    side.others = side.others.saturating_add(counted.others);
    side.per_second.push(each / counted.seconds);
    side.cpu_us.push(used.as_secs_f64() * 1e6 / each);
    for ((name, pid), before) in pids.iter().zip(beside) {
        let used = cpu_time_of_tree(*pid)?.saturating_sub(before);
        side.beside_us.entry(name).or_default().push(used.as_secs_f64() * 1e6 / each);
    }
    Ok(())
}
