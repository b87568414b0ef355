//! A private Apache Kafka broker: one node, KRaft, from the jars of Maven.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::{
    paths, ports,
    process::{Lifetime, Process},
};

/// How long it may take to start or stop.
const LIMIT: Duration = Duration::from_secs(60);

/// A further listener, whose clients are told another address: that of a proxy which passes on to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// The broker listens here.
    pub port: u16,
    /// Clients that come by it are sent here.
    pub advertised_port: u16,
}

/// A broker with one copy of everything.
#[derive(Debug)]
pub struct Kafka {
    folder: PathBuf,
    port: u16,
    lifetime: Lifetime,
    process: Process,
}

impl Kafka {
    /// Starts it on `port` (and its controller on `controller_port`) with its log in `folder`, which is formatted on first use.
    ///
    /// # Errors
    /// Java or the jars are missing, or it does not come up; the error shows its log.
    pub fn start(folder: &Path, port: u16, controller_port: u16, lifetime: Lifetime) -> Result<Self> {
        Self::start_behind(folder, port, controller_port, &[], lifetime)
    }

    /// [`Self::start`], with further listeners behind proxies. Clients of `port` itself stay in direct contact.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_behind(
        folder: &Path,
        port: u16,
        controller_port: u16,
        listeners: &[Listener],
        lifetime: Lifetime,
    ) -> Result<Self> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("server.properties"), properties(folder, port, controller_port, listeners))?;
        if !folder.join("data/meta.properties").is_file() {
            format(folder)?;
        }
        let process = spawn(folder, port, lifetime)?;
        Ok(Self { folder: folder.to_path_buf(), port, lifetime, process })
    }

    /// Its address, for `bootstrap.servers`.
    #[must_use]
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
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

    /// Starts it again on the same port and log; a running one is stopped first.
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

/// A command that runs a class of Kafka's, such as `org.apache.kafka.tools.consumer.ConsoleConsumer`.
///
/// # Errors
/// The jars have not been fetched.
pub fn tool(class: &str) -> Result<Command> {
    let mut command = Command::new("java");
    command.arg("-cp").arg(paths::kafka_libs()?.join("*")).args(["-Xmx256m", "-XX:TieredStopAtLevel=1", class]);
    Ok(command)
}

fn properties(folder: &Path, port: u16, controller_port: u16, listeners: &[Listener]) -> String {
    let data = folder.join("data");
    let each = |text: fn(usize, &Listener) -> String| -> String {
        listeners.iter().enumerate().map(|(index, listener)| text(index, listener)).collect()
    };
    let listening = each(|index, listener| format!(",LINK{index}://127.0.0.1:{}", listener.port));
    let advertised = each(|index, listener| format!(",LINK{index}://127.0.0.1:{}", listener.advertised_port));
    let protocols = each(|index, _| format!(",LINK{index}:PLAINTEXT"));
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{listening}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{advertised}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT{protocols}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={}
auto.create.topics.enable=false
num.partitions=12
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=4
",
        data.display()
    )
}

fn format(folder: &Path) -> Result<()> {
    // Sixteen bytes in URL-safe base64, as the tool's own `random-uuid` makes them.
    let output = tool("kafka.tools.StorageTool")?
        .arg("random-uuid")
        .current_dir(folder)
        .output()
        .context("cannot start java: install a JDK 17")?;
    let cluster = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().trim().to_owned();
    ensure!(!cluster.is_empty(), "Kafka's storage tool failed: {}", String::from_utf8_lossy(&output.stderr));
    let output = tool("kafka.tools.StorageTool")?
        .args(["format", "-t", &cluster, "-c"])
        .arg(folder.join("server.properties"))
        .current_dir(folder)
        .output()?;
    ensure!(
        output.status.success(),
        "Kafka's storage could not be formatted: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn spawn(folder: &Path, port: u16, lifetime: Lifetime) -> Result<Process> {
    ensure!(ports::holder(port).is_none(), "port {port} is taken");
    let mut command = Command::new("java");
    command.args(["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-cp"]).arg(paths::kafka_libs()?.join("*"));
    command.arg("kafka.Kafka").arg(folder.join("server.properties")).current_dir(folder);
    let mut process = Process::spawn("kafka", command, &folder.join("kafka.log"), lifetime)?;
    // The port opens before the broker serves, so ask it something.
    let ready = process.wait_ready(LIMIT, || TcpStream::connect(("127.0.0.1", port)).is_ok() && serves(port));
    process.or_killed(ready)
}

/// Asks the broker for its API versions by hand (no client library here): it answers as soon as it serves requests.
fn serves(port: u16) -> bool {
    use std::io::{Read, Write};
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        // ApiVersions, version 0: length, key 18, version 0, correlation 7, client id "up".
        stream.write_all(&[0, 0, 0, 12, 0, 18, 0, 0, 0, 0, 0, 7, 0, 2, b'u', b'p'])?;
        let mut answer = [0u8; 10];
        stream.read_exact(&mut answer)?;
        // Behind the length: our correlation id and error 0.
        Ok(matches!(answer, [_, _, _, _, 0, 0, 0, 7, 0, 0]))
    };
    ask().unwrap_or(false)
}
