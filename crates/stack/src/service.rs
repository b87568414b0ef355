//! One of our own binaries as a process.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::Result;
use rustix::process::Signal;

use crate::{
    failpoints::Failpoints,
    process::{Lifetime, Process},
};

/// How long a service may take until it is ready.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// A service with an HTTP port for its probes.
#[derive(Debug)]
pub struct ServiceProcess {
    http_port: u16,
    process: Process,
}

impl ServiceProcess {
    /// Starts `binary` with `environment` added to ours; does not wait.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(
        name: &str,
        binary: &Path,
        environment: &BTreeMap<String, String>,
        http_port: u16,
        log: &Path,
        lifetime: Lifetime,
    ) -> Result<Self> {
        let mut command = Command::new(binary);
        command.envs(environment);
        Ok(Self { http_port, process: Process::spawn(name, command, log, lifetime)? })
    }

    /// Waits for `GET /health/ready` to answer 200.
    ///
    /// # Errors
    /// It ended, or was not ready in time; the error shows its log.
    pub fn wait_ready(&mut self) -> Result<()> {
        let port = self.http_port;
        self.process.wait_ready(READY_LIMIT, || is_ready(port))
    }

    /// Its HTTP port.
    #[must_use]
    pub const fn http_port(&self) -> u16 {
        self.http_port
    }

    /// Its failpoints, if it was built with them.
    #[must_use]
    pub const fn failpoints(&self) -> Failpoints {
        Failpoints::on(self.http_port)
    }

    /// Its process, for signals.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGTERM, and its exit code.
    ///
    /// # Errors
    /// It did not end within `limit` and was killed.
    pub fn terminate(&mut self, limit: Duration) -> Result<Option<i32>> {
        self.process.stop(Signal::TERM, limit)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// Whether the service on `port` says that it is ready.
#[must_use]
pub fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0u8; 12];
        stream.read_exact(&mut answer)?;
        Ok(answer.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}
