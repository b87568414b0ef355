//! A private Redis.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;
use rustix::process::Signal;

use crate::process::{Lifetime, Process};

/// How long it may take to start or stop.
const LIMIT: Duration = Duration::from_secs(15);

/// A Redis that keeps an append-only file (fsync every second) and evicts nothing.
#[derive(Debug)]
pub struct Redis {
    folder: PathBuf,
    port: u16,
    lifetime: Lifetime,
    process: Process,
}

impl Redis {
    /// Starts it on `port` with its files in `folder`.
    ///
    /// # Errors
    /// It is not installed or does not come up; the error shows its log.
    pub fn start(folder: &Path, port: u16, lifetime: Lifetime) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let process = spawn(folder, port, lifetime)?;
        Ok(Self { folder: folder.to_path_buf(), port, lifetime, process })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its process, for signals.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// An orderly end.
    ///
    /// # Errors
    /// It had to be killed.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop(Signal::TERM, LIMIT).map(drop)
    }

    /// Starts it again on the same port and files; a running one is stopped first.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&mut self) -> Result<()> {
        if self.process.is_running() {
            self.stop()?;
        }
        self.process = spawn(&self.folder, self.port, self.lifetime)?;
        Ok(())
    }
}

fn spawn(folder: &Path, port: u16, lifetime: Lifetime) -> Result<Process> {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--maxmemory-policy", "noeviction"]);
    command.args(["--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--daemonize", "no", "--dir"]).arg(folder);
    let mut process = Process::spawn("redis", command, &folder.join("redis.log"), lifetime)?;
    let ready = process.wait_ready(LIMIT, || answers(port));
    process.or_killed(ready)
}

/// Whether a Redis on `port` answers PING (and is not loading its file any more).
#[must_use]
pub fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0u8; 5];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG")
    };
    ask().unwrap_or(false)
}
