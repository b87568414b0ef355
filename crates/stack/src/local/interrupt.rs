//! Ctrl-C and TERM: noticed, so that what was started is ended in order.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

/// The exit status of a command that was interrupted before it had done its work: what a shell says of a process that Ctrl-C ended.
pub const EXIT_STATUS: u8 = 130;

/// Set by the first Ctrl-C or TERM.
static NOTICED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C and TERM do not end this process; [`noticed`] tells of them.
///
/// # Errors
/// The signals are watched already.
pub fn watch() -> Result<()> {
    ctrlc::set_handler(|| NOTICED.store(true, Ordering::SeqCst)).context("cannot wait for Ctrl-C")
}

/// Whether somebody wants an end.
pub fn noticed() -> bool {
    NOTICED.load(Ordering::SeqCst)
}
