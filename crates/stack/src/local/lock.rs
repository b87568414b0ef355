//! Locks between `trueup-stack` processes of one checkout. The kernel frees them when their holder ends, however it ends.

use std::{
    fs::{self, File, OpenOptions},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use stack::{paths, process::wait_until};

/// How long to wait for another process that starts or ends the stack.
const LIMIT: Duration = Duration::from_secs(120);

/// Held while parts are started or ended: two at the same time would both start what is missing.
///
/// # Errors
/// Somebody holds it for longer than any start takes.
pub fn starting() -> Result<File> {
    let file = open("starting.lock")?;
    if file.try_lock().is_err() {
        eprintln!("→ waiting for another start or end of this checkout");
        ensure!(wait_until(LIMIT, || file.try_lock().is_ok()), "another start or end has not finished within {LIMIT:?}");
    }
    Ok(file)
}

/// Held by each `run` for as long as it needs the stack. The last one ends the stack.
#[derive(Debug)]
pub struct Use(File);

impl Use {
    /// Waits while another `run` ends the stack.
    ///
    /// # Errors
    /// It takes too long.
    pub fn begin() -> Result<Self> {
        let file = open("use.lock")?;
        ensure!(wait_until(LIMIT, || file.try_lock_shared().is_ok()), "another run has not ended within {LIMIT:?}");
        Ok(Self(file))
    }

    /// The lock that lets its holder end the stack; `None` while another `run` uses it.
    ///
    /// # Errors
    /// The lock cannot be given back.
    pub fn end(self) -> Result<Option<File>> {
        self.0.unlock()?;
        Ok(self.0.try_lock().is_ok().then_some(self.0))
    }
}

fn open(name: &str) -> Result<File> {
    let folder = paths::local()?.join("run");
    fs::create_dir_all(&folder)?;
    let path = folder.join(name);
    OpenOptions::new().create(true).append(true).open(&path).with_context(|| format!("cannot open {}", path.display()))
}
