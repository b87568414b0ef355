//! Says what a long step is doing, and how long it took.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Runs a step under a spinner on a terminal, and with plain lines elsewhere.
///
/// # Errors
/// What the step says.
pub fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let spinner = if std::io::stderr().is_terminal() {
        let style =
            ProgressStyle::with_template("{spinner} {msg} {elapsed}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::new_spinner().with_style(style).with_message(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Some(bar)
    } else {
        eprintln!("→ {name}");
        None
    };
    let result = work();
    if let Some(bar) = spinner {
        bar.finish_and_clear();
    }
    let mark = if result.is_ok() { "✓" } else { "✗" };
    eprintln!("{mark} {name} ({:.1} s)", started.elapsed().as_secs_f64());
    result
}
