//! What a process has used so far, read from /proc.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// The kernel's clock ticks a second in /proc; fixed at 100 for user space on Linux.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time (user and system) that the process and its threads have used since their start.
///
/// # Errors
/// The process is gone, or /proc does not look as expected.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    // The second field is the name in parentheses and may hold spaces: count from behind it.
    let rest = stat.rsplit_once(')').map(|(_, rest)| rest).context("no name in /proc/PID/stat")?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || -> Result<u64> { Ok(fields.next().context("short /proc/PID/stat")?.parse()?) };
    let total = ticks()?.saturating_add(ticks()?);
    Ok(Duration::from_millis(total.saturating_mul(1_000 / TICKS_PER_SECOND)))
}

/// CPU time of a process and of all its descendants (PostgreSQL works in children).
///
/// # Errors
/// As [`cpu_time`], for the process itself; a child that ends meanwhile counts as it was reaped.
pub fn cpu_time_of_tree(pid: u32) -> Result<Duration> {
    let mut total = cpu_time(pid)?;
    for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|text| text.parse().ok()) {
            total = total.saturating_add(cpu_time_of_tree(child).unwrap_or_default());
        }
    }
    Ok(total)
}

/// The most memory that the process ever held resident, in KiB (`VmHWM`).
///
/// # Errors
/// The process is gone.
pub fn memory_high_water_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} is gone"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}

/// The machine in one line: processor, cores, memory, kernel.
#[must_use]
pub fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = memory
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:"))
        .and_then(|l| l.trim().trim_end_matches(" kB").trim().parse().ok())
        .unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, {} GiB, Linux {}", kib / 1_048_576, kernel.trim())
}
