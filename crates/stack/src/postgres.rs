//! A private PostgreSQL.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Signal, geteuid};

use crate::{
    paths,
    process::{Identity, Lifetime, Process},
};

/// How long it may take to start or stop.
const LIMIT: Duration = Duration::from_secs(30);

/// Connections that the server takes; many tests share one server.
const MAX_CONNECTIONS: u16 = 300;

/// The superuser and the database that exist after the start.
const NAME: &str = "trueup";

/// The account that runs the server when we are root, which PostgreSQL refuses to run as.
const ACCOUNT: &str = "postgres";

/// What is kept safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// `fsync` on: for local runs and benchmarks.
    Full,
    /// `fsync` off: survives kill -9 of the server, not a power cut. For tests.
    ProcessDeath,
}

/// A PostgreSQL with the user and database `trueup`, trusted on loopback.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    durability: Durability,
    lifetime: Lifetime,
    process: Process,
}

impl Postgres {
    /// Starts it on `port` with its data in `folder`, which is made on first use.
    ///
    /// # Errors
    /// It is not installed or does not come up; the error shows its log.
    pub fn start(folder: &Path, port: u16, durability: Durability, lifetime: Lifetime) -> Result<Self> {
        if !folder.join("data/PG_VERSION").is_file() {
            init(folder)?;
        }
        let process = spawn(folder, port, durability, lifetime)?;
        let mut server = Self { folder: folder.to_path_buf(), port, durability, lifetime, process };
        match server.wait_ready().and_then(|()| server.create_database()) {
            Ok(()) => Ok(server),
            Err(error) => {
                // A detached one would go on, known to nobody.
                server.kill();
                Err(error)
            }
        }
    }

    /// The address of its first database.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(NAME)
    }

    /// The address of another database on it.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{NAME}@127.0.0.1:{}/{database}", self.port)
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

    /// SIGKILL to the server and all its children, and waits for their end. Each of them is in a session of its own, out of the group's reach,
    /// and one that is busy outlives the server for a while; as long as it has the shared memory, no server starts on these data.
    pub fn kill(&mut self) {
        self.process.kill();
        let left = working_in(&self.folder.join("data"));
        left.iter().for_each(|child| child.signal(Signal::KILL));
        for child in left {
            // One that does not even end by this makes the next start fail, which tells of it.
            let _ = child.wait_gone(LIMIT);
        }
    }

    /// A fast shutdown: open transactions are rolled back.
    ///
    /// # Errors
    /// It had to be killed.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop(Signal::INT, LIMIT).map(drop)
    }

    /// Starts it again on the same port and data; a running one is stopped first.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&mut self) -> Result<()> {
        if self.process.is_running() {
            self.stop()?;
        }
        self.process = spawn(&self.folder, self.port, self.durability, self.lifetime)?;
        self.wait_ready()
    }

    /// Runs SQL by psql and gives what it prints, unaligned and without headers.
    ///
    /// # Errors
    /// What psql says.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        psql(self.port, database, sql)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let port = self.port;
        // pg_isready says yes before recovery is over; a query does not.
        self.process.wait_ready(LIMIT, || psql(port, "postgres", "SELECT 1").is_ok())
    }

    fn create_database(&self) -> Result<()> {
        if self.psql("postgres", &format!("SELECT 1 FROM pg_database WHERE datname = '{NAME}'"))?.is_empty() {
            self.psql("postgres", &format!("CREATE DATABASE {NAME}"))?;
        }
        Ok(())
    }
}

/// The processes that work in a folder, as a server's own do in its data.
fn working_in(folder: &Path) -> Vec<Identity> {
    let (Ok(folder), Ok(all)) = (fs::canonicalize(folder), fs::read_dir("/proc")) else { return Vec::new() };
    let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder)).filter_map(Identity::of).collect()
}

/// Runs SQL by psql on whatever listens on `port` and gives what it prints, unaligned and without headers.
///
/// # Errors
/// What psql says.
pub fn psql(port: u16, database: &str, sql: &str) -> Result<String> {
    let mut command = Command::new(paths::postgres_programs()?.join("psql"));
    command.args([
        "-h",
        "127.0.0.1",
        "-p",
        &port.to_string(),
        "-U",
        NAME,
        "-d",
        database,
        "-XAtq",
        "-v",
        "ON_ERROR_STOP=1",
        "-c",
        sql,
    ]);
    checked(command.env("PGCONNECT_TIMEOUT", "5").output().context("cannot start psql")?)
}

fn init(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    if geteuid().is_root() {
        checked(Command::new("chown").arg(ACCOUNT).arg(folder).output()?)?;
    }
    let mut command = as_server_account(&paths::postgres_programs()?.join("initdb"), folder)?;
    command
        .args(["-U", NAME, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions", "-N", "-D"])
        .arg(folder.join("data"));
    checked(command.current_dir("/").output().context("cannot start initdb")?).map(drop)
}

fn spawn(folder: &Path, port: u16, durability: Durability, lifetime: Lifetime) -> Result<Process> {
    let mut command = as_server_account(&paths::postgres_programs()?.join("postgres"), folder)?;
    command.arg("-D").arg(folder.join("data"));
    let settings = [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".to_owned(),
        "unix_socket_directories=".to_owned(),
        format!("max_connections={MAX_CONNECTIONS}"),
        "shared_buffers=256MB".to_owned(),
        "max_wal_size=2GB".to_owned(),
        format!("fsync={}", if durability == Durability::Full { "on" } else { "off" }),
    ];
    for setting in settings {
        command.args(["-c", &setting]);
    }
    command.current_dir("/");
    Process::spawn("postgres", command, &folder.join("postgres.log"), lifetime)
}

/// A command that runs as somebody whom PostgreSQL accepts, and who reaches `folder`.
///
/// Root's own folders are often closed to everybody else (`/root` is), and a checkout may well lie there. Then the server gets the one
/// capability that lets it through; its files are its own anyway.
fn as_server_account(program: &Path, folder: &Path) -> Result<Command> {
    if !geteuid().is_root() {
        return Ok(Command::new(program));
    }
    let account = |capability: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={ACCOUNT}"), &format!("--regid={ACCOUNT}"), "--init-groups"]).args(capability).arg("--");
        command
    };
    for capability in [&[][..], &["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]] {
        // Not `test -w`: access(2) leaves capabilities out of account.
        if account(capability)
            .args(["test", "-d"])
            .arg(folder.join("."))
            .output()
            .context("cannot start setpriv")?
            .status
            .success()
        {
            let mut command = account(capability);
            command.arg(program);
            return Ok(command);
        }
    }
    bail!("user `{ACCOUNT}` cannot reach {}: set TRUEUP_LOCAL to a folder that it can enter", folder.display())
}

fn checked(output: Output) -> Result<String> {
    ensure!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
