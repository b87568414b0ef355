//! Load by wrk, on loopback, bounded in time.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// Connections of every HTTP benchmark.
pub const CONNECTIONS: u32 = 512;

/// Threads of wrk: it shares the two cores with the servers, so one is enough to keep them busy.
const THREADS: u32 = 1;

/// What one run of wrk counted.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// Answers with the expected status.
    pub expected: u64,
    /// Answers with any other status, and socket errors.
    pub others: u64,
    /// Seconds that the run took.
    pub seconds: f64,
}

/// The script: a new member for each request, the body that gateway and echo both take, answers counted by status.
fn script(status: u16, prefix: &str) -> String {
    format!(
        r#"local n = 0
local prefix = "{prefix}"
local headers = {{ ["Content-Type"] = "application/json" }}
expected = 0
others = 0
local threads = {{}}
function setup(thread) table.insert(threads, thread) end
function request()
  n = n + 1
  local member = prefix .. n
  headers["X-Member-Id"] = member
  return wrk.format("POST", nil, headers, '{{"memberId":"' .. member .. '"}}')
end
function response(status)
  if status == {status} then expected = expected + 1 else others = others + 1 end
end
function done(summary)
  local good, bad = 0, 0
  for _, thread in ipairs(threads) do
    good = good + thread:get("expected")
    bad = bad + thread:get("others")
  end
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  print(string.format("COUNTED %d %d %.6f", good, bad + errors, summary.duration / 1e6))
end
"#
    )
}

/// Runs wrk against `url` for `seconds`; members are `prefix` and a number.
///
/// # Errors
/// wrk is missing or its output is not as expected.
pub async fn run(folder: &Path, url: &str, seconds: u32, status: u16, prefix: &str) -> Result<Counted> {
    let path = folder.join("wrk.lua");
    fs::write(&path, script(status, prefix))?;
    let output = Command::new("wrk")
        .args(["-t", &THREADS.to_string(), "-c", &CONNECTIONS.to_string(), "-d", &format!("{seconds}s"), "--timeout", "5s", "-s"])
        .arg(&path)
        .arg(url)
        .output()
        .await
        .context("wrk could not be started: is the Debian package `wrk` installed?")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(line) = text.lines().find_map(|line| line.strip_prefix("COUNTED ")) else {
        bail!("wrk said nothing that can be read:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    };
    let mut words = line.split(' ');
    let mut word = || words.next().context("short line from wrk");
    Ok(Counted { expected: word()?.parse()?, others: word()?.parse()?, seconds: word()?.parse()? })
}
