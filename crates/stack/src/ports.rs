//! Ports on loopback: free ones for tests, and who holds a taken one.

use std::{
    fs,
    net::TcpListener,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Result, bail};

/// Where [`free`] looks. It lies below the range that the kernel takes for outgoing connections (from 32768 on): a port of that range can
/// become the near end of somebody's connection before its server binds it, or while its server is being restarted.
const FIRST: u32 = 20_000;

/// How many ports [`free`] looks at, at most.
const COUNT: u32 = 12_000;

/// How many ports this process has looked at.
static LOOKED: AtomicU32 = AtomicU32::new(0);

/// A port that nobody listens on now. Somebody else may take it before it is used; callers start their server at once.
///
/// # Errors
/// No port is free.
pub fn free() -> Result<u16> {
    // Every process begins elsewhere, so that test binaries side by side hardly ever look at the same port. 97 is prime to the count.
    let begin = process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let step = begin.wrapping_add(LOOKED.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST.saturating_add(step))?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port from {FIRST} on is free");
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
    fn a_free_port_is_given_once_and_is_not_one_of_outgoing_connections() {
        let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let outgoing: u16 = text.split_whitespace().next().unwrap().parse().unwrap();
        let mut ports: Vec<u16> = (0..100).map(|_| free().unwrap()).collect();
        assert!(ports.iter().all(|&port| port < outgoing), "{ports:?}");
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 100);
    }

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
