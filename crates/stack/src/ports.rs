//! Ports on loopback: free ones for tests, and who holds a taken one.

use std::{fs, net::TcpListener};

use anyhow::{Result, bail};

/// A port that nobody listens on now. Somebody else may take it before it is used; callers start their server at once.
///
/// # Errors
/// No port is free.
pub fn free() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Refuses a port that is taken, with the process that holds it and the variable that chooses another.
///
/// # Errors
/// The port is taken.
pub fn require_free(port: u16, variable: &str) -> Result<()> {
    if TcpListener::bind(("127.0.0.1", port)).is_ok() {
        return Ok(());
    }
    let holder = holder(port).map_or_else(|| "another process".to_owned(), |(pid, name)| format!("process {pid} ({name})"));
    bail!("port {port} is taken by {holder}; end it, or choose another port: {variable}={} make …", port.saturating_add(1));
}

/// The process that listens on `port`, as far as /proc shows it to us.
#[must_use]
pub fn holder(port: u16) -> Option<(u32, String)> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| listening_inode(table, port))?;
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in processes {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let holds =
            descriptors.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str()));
        if holds {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}

fn listening_inode(table: &str, port: u16) -> Option<u64> {
    /// The state LISTEN in /proc/net/tcp.
    const LISTEN: &str = "0A";
    let text = fs::read_to_string(table).ok()?;
    let suffix = format!(":{port:04X}");
    text.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = fields.get(1)?.ends_with(&suffix) && *fields.get(3)? == LISTEN;
        listens.then(|| fields.get(9)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_taken_port_names_its_holder_and_the_variable() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = require_free(port, "REDIS_PORT").unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(error.contains("REDIS_PORT="), "{error}");
        drop(listener);
        require_free(port, "REDIS_PORT").unwrap();
    }
}
