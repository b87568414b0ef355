//! What runs: a small file for each process, with its pid *and* start time.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use stack::{paths, process::Identity};

/// The names of the servers; everything else is a service of ours. In deploy/compose.yaml they are the same.
pub const SERVERS: [&str; 3] = ["postgres", "redis", "kafka"];

/// A process of the local run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Its name, such as `coupon-gateway-1`.
    pub name: String,
    /// Its pid and start.
    #[serde(flatten)]
    pub identity: Identity,
    /// Where it listens.
    pub port: u16,
    /// Its log.
    pub log: PathBuf,
}

impl Record {
    /// Whether it is a server, not a service of ours.
    #[must_use]
    pub fn is_server(&self) -> bool {
        SERVERS.contains(&self.name.as_str())
    }

    /// Keeps it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self) -> Result<()> {
        let folder = folder()?;
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("{}.json", self.name)), serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }

    /// Forgets it.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove(&self) -> Result<()> {
        fs::remove_file(folder()?.join(format!("{}.json", self.name)))?;
        Ok(())
    }

    /// The process of that name, if it was started and still runs.
    ///
    /// # Errors
    /// The folder cannot be found.
    pub fn running(name: &str) -> Result<Option<Self>> {
        Ok(load(&folder()?.join(format!("{name}.json"))).filter(|record| record.identity.is_running()))
    }

    /// All that were started, running or not, by name.
    ///
    /// # Errors
    /// The folder cannot be found.
    pub fn all() -> Result<Vec<Self>> {
        let entries = fs::read_dir(folder()?).into_iter().flatten().flatten();
        let mut records: Vec<Self> = entries.filter_map(|entry| load(&entry.path())).collect();
        records.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(records)
    }
}

fn folder() -> Result<PathBuf> {
    Ok(paths::local()?.join("run"))
}

fn load(path: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
