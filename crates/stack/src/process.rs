//! A child process that is known by pid *and* start time, so that a recycled pid is never signalled.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};

/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(20);

/// How much of a log an error shows.
const LOG_TAIL_BYTES: u64 = 2_000;

/// Who ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// It dies with its owner, even if the owner is killed.
    Owned,
    /// It goes on when the owner ends.
    Detached,
}

/// A pid and when the process behind it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The pid.
    pub pid: u32,
    /// Its start, in the kernel's clock ticks since boot.
    pub started_ticks: u64,
}

impl Identity {
    /// The process that runs under `pid` now.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        // A zombie has ended; only its parent has not looked yet.
        if fields.next()? == "Z" {
            return None;
        }
        Some(Self { pid, started_ticks: fields.nth(18)?.parse().ok()? })
    }

    /// Whether this very process still runs.
    #[must_use]
    pub fn is_running(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal, if this very process still runs.
    pub fn signal(self, signal: Signal) {
        if self.is_running()
            && let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
        {
            // The process may end in this moment, which is what signals are mostly for.
            let _ = kill_process(pid, signal);
        }
    }

    /// Sends a signal to the group that this process leads, if this very process still runs.
    pub fn signal_group(self, signal: Signal) {
        if self.is_running()
            && let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Waits until the process has ended; `false` if it still runs at the deadline.
    #[must_use]
    pub fn wait_gone(self, limit: Duration) -> bool {
        wait_until(limit, || !self.is_running())
    }
}

/// Waits until `done` says so; `false` at the deadline.
pub fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if done() {
            return true;
        }
        if started.elapsed() >= limit {
            return false;
        }
        thread::sleep(POLL);
    }
}

/// A running child with its log.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    identity: Identity,
    child: Child,
    guard: Option<Child>,
    lifetime: Lifetime,
}

impl Process {
    /// Starts `command` as the leader of its own group; both output streams go to the end of `log`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(name: &str, mut command: Command, log: &Path, lifetime: Lifetime) -> Result<Self> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder)?;
        }
        let file =
            OpenOptions::new().create(true).append(true).open(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
        let pid = child.id();
        let Some(identity) = Identity::of(pid) else { bail!("{name} ended at once; its log: {}", tail(log)) };
        let guard = match lifetime {
            Lifetime::Owned => Some(guard(pid)?),
            Lifetime::Detached => None,
        };
        Ok(Self { name: name.to_owned(), log: log.to_path_buf(), identity, child, guard, lifetime })
    }

    /// Its name, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its pid and start.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// Its pid.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.identity.pid
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        self.identity.signal(signal);
    }

    /// SIGSTOP: it stands still until [`Self::resume`].
    pub fn pause(&self) {
        self.identity.signal_group(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.identity.signal_group(Signal::CONT);
    }

    /// SIGKILL to the whole group, and waits for the end.
    pub fn kill(&mut self) {
        self.identity.signal_group(Signal::KILL);
        let _ = self.child.wait();
    }

    /// Sends `signal` and waits for the end; kills it at the deadline and says so by an error.
    ///
    /// # Errors
    /// It had to be killed.
    pub fn stop(&mut self, signal: Signal, limit: Duration) -> Result<Option<i32>> {
        self.signal(signal);
        let mut status = None;
        let ended = wait_until(limit, || match self.child.try_wait() {
            Ok(Some(exit)) => {
                status = exit.code();
                true
            }
            Ok(None) => false,
            Err(_) => true,
        });
        if ended {
            return Ok(status);
        }
        self.kill();
        bail!("{} did not end within {limit:?} and was killed; its log: {}", self.name, tail(&self.log));
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// The process ended or was not ready at the deadline; the error shows the end of its log.
    pub fn wait_ready(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let mut ended = false;
        let done = wait_until(limit, || {
            ended = !self.is_running();
            ended || ready()
        });
        if ended {
            bail!("{} ended while it started; its log: {}", self.name, tail(&self.log));
        }
        anyhow::ensure!(done, "{} was not ready within {limit:?}; its log: {}", self.name, tail(&self.log));
        Ok(())
    }

    /// Itself when it came up; otherwise it is killed, because a detached one would go on, known to nobody.
    ///
    /// # Errors
    /// What `ready` says.
    pub fn or_killed(mut self, ready: Result<()>) -> Result<Self> {
        match ready {
            Ok(()) => Ok(self),
            Err(error) => {
                self.kill();
                Err(error)
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Owned {
            self.kill();
            if let Some(guard) = &mut self.guard {
                let _ = guard.kill();
                let _ = guard.wait();
            }
        }
    }
}

/// A shell that waits on a pipe which only we hold, and kills the group when the pipe closes: it works when we are killed, too.
///
/// The kernel's parent-death signal is no use here: it fires when the *thread* that started the child ends.
fn guard(pid: u32) -> Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", "read -r _; kill -9 -\"$0\"", &pid.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().context("cannot start a guard")
}

/// The end of a log, for messages.
#[must_use]
pub fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    format!("{}\n{}", log.display(), read().unwrap_or_else(|error| error.to_string()))
}
