//! A private Toxiproxy: proxies on loopback that are slow, narrow, cut, or swallow what goes through them.
//!
//! A [`Link`] stands between clients and one server. Clients are given [`Link::address`]; what a link does to them holds for connections that
//! are open and for new ones. A broker names its own address to its clients, so that it needs a listener for each link:
//! [`crate::kafka::Listener`].

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{
    http, paths,
    process::{Lifetime, Process},
};

/// How long it may take to start.
const LIMIT: Duration = Duration::from_secs(15);

/// A running Toxiproxy.
#[derive(Debug)]
pub struct Toxiproxy {
    port: u16,
    process: Process,
}

/// One proxy: from its address to one server's port. Cheap to copy about; it ends with its Toxiproxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    api_port: u16,
    name: String,
    port: u16,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

impl Stream {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "upstream",
            Self::Down => "downstream",
        }
    }
}

impl Toxiproxy {
    /// Starts it; its control API listens on `port`, its log is in `folder`.
    ///
    /// # Errors
    /// It is not installed or does not come up; the error shows its log.
    pub fn start(folder: &Path, port: u16, lifetime: Lifetime) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let mut command = Command::new(program()?);
        command.args(["-host", "127.0.0.1", "-port", &port.to_string()]);
        let mut process = Process::spawn("toxiproxy", command, &folder.join("toxiproxy.log"), lifetime)?;
        let ready = process.wait_ready(LIMIT, || http::status(port, "GET", "/version").is_ok_and(|status| status == 200));
        Ok(Self { port, process: process.or_killed(ready)? })
    }

    /// A proxy that listens on `port` and passes on to `127.0.0.1:upstream`, where nobody has to listen yet.
    ///
    /// # Errors
    /// The name or the port is taken.
    pub fn link(&self, name: &str, port: u16, upstream: u16) -> Result<Link> {
        let proxy = json!({
            "name": name, "listen": format!("127.0.0.1:{port}"), "upstream": format!("127.0.0.1:{upstream}"), "enabled": true,
        });
        http::ask(self.port, "POST", "/proxies", &proxy.to_string())?;
        Ok(Link { api_port: self.port, name: name.to_owned(), port })
    }

    /// Its process, for signals.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Link {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port that it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its address, for clients.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Everything comes later by `latency_ms`, give or take `jitter_ms`: half of it on the way there, half on the way back.
    ///
    /// # Errors
    /// Toxiproxy does not answer.
    pub fn slow(&self, latency_ms: u64, jitter_ms: u64) -> Result<()> {
        let half = |ms: u64| ms.div_ceil(2);
        let attributes = json!({"latency": half(latency_ms), "jitter": half(jitter_ms)});
        self.add("latency", Stream::Up, &attributes)?;
        self.add("latency", Stream::Down, &attributes)
    }

    /// No more than so many kilobytes a second, each way.
    ///
    /// # Errors
    /// Toxiproxy does not answer.
    pub fn narrow(&self, kilobytes_per_s: u64) -> Result<()> {
        let attributes = json!({ "rate": kilobytes_per_s });
        self.add("bandwidth", Stream::Up, &attributes)?;
        self.add("bandwidth", Stream::Down, &attributes)
    }

    /// Requests arrive and are served; every answer is swallowed. Connections stay open, so that clients wait until their time-outs.
    ///
    /// # Errors
    /// Toxiproxy does not answer.
    pub fn lose_replies(&self) -> Result<()> {
        self.add("timeout", Stream::Down, &json!({"timeout": 0}))
    }

    /// Requests arrive and are served; their answers are swallowed, and the connection is closed `after_ms` later.
    ///
    /// # Errors
    /// Toxiproxy does not answer.
    pub fn lose_replies_and_close(&self, after_ms: u64) -> Result<()> {
        self.add("timeout", Stream::Down, &json!({"timeout": after_ms.max(1)}))
    }

    /// Nothing passes either way, and nobody is told.
    ///
    /// # Errors
    /// Toxiproxy does not answer.
    pub fn swallow(&self) -> Result<()> {
        self.add("timeout", Stream::Up, &json!({"timeout": 0}))?;
        self.add("timeout", Stream::Down, &json!({"timeout": 0}))
    }

    /// Open connections are reset (RST), and new ones as soon as they are made.
    ///
    /// # Errors
    /// Toxiproxy does not answer.
    pub fn reset(&self) -> Result<()> {
        self.add("reset_peer", Stream::Down, &json!({"timeout": 0}))
    }

    /// Open connections are closed and no new one is taken, as by a server that does not run.
    ///
    /// # Errors
    /// Toxiproxy does not answer.
    pub fn cut(&self) -> Result<()> {
        self.enable(false)
    }

    /// Takes back whatever was done. Connections whose bytes were swallowed are closed, because they are of no use any more.
    ///
    /// # Errors
    /// Toxiproxy does not answer.
    pub fn clear(&self) -> Result<()> {
        let toxics = http::ask(self.api_port, "GET", &self.path("/toxics"), "")?;
        let names: Vec<&str> = toxics.as_array().into_iter().flatten().filter_map(|toxic| toxic.get("name")?.as_str()).collect();
        let swallowed = names.iter().any(|name| name.starts_with("timeout"));
        for name in names {
            let path = self.path(&format!("/toxics/{name}"));
            let status = http::status(self.api_port, "DELETE", &path)?;
            ensure!(matches!(status, 204 | 404), "DELETE {path}: {status}");
        }
        if swallowed {
            self.enable(false)?;
        }
        self.enable(true)
    }

    /// Adds a toxic, or gives the one that is there other attributes.
    fn add(&self, kind: &str, stream: Stream, attributes: &serde_json::Value) -> Result<()> {
        let name = format!("{kind}-{}", stream.as_str());
        let path = self.path(&format!("/toxics/{name}"));
        let change = json!({ "attributes": attributes });
        if http::status(self.api_port, "GET", &path)? == 200 {
            return http::ask(self.api_port, "POST", &path, &change.to_string()).map(drop);
        }
        let toxic = json!({"name": name, "type": kind, "stream": stream.as_str(), "attributes": attributes});
        http::ask(self.api_port, "POST", &self.path("/toxics"), &toxic.to_string()).map(drop)
    }

    fn enable(&self, enabled: bool) -> Result<()> {
        http::ask(self.api_port, "POST", &self.path(""), &json!({ "enabled": enabled }).to_string()).map(drop)
    }

    fn path(&self, rest: &str) -> String {
        format!("/proxies/{}{rest}", self.name)
    }
}

/// Where its program is.
fn program() -> Result<PathBuf> {
    let program = paths::local()?.join("tools/bin/toxiproxy-server");
    ensure!(program.is_file(), "Toxiproxy is not in {}: it needs Go 1.21 or newer, then run `make tools`", program.display());
    Ok(program)
}
