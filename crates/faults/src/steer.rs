//! Failpoints and clocks of services that were built for drills.

use std::time::Duration;

use anyhow::Result;
use stack::failpoints::Failpoints;

/// Gives a step a plan.
///
/// # Errors
/// The service does not answer, or knows no such step.
pub fn plan(port: u16, step: &str, plan: &str) -> Result<String> {
    let report = Failpoints::on(port).plan(step, plan)?;
    Ok(format!("reached {} times so far", report.hits))
}

/// Waits until somebody stands at a step.
///
/// # Errors
/// Nobody came in time.
pub fn await_paused(port: u16, step: &str, limit: Duration) -> Result<String> {
    let report = Failpoints::on(port).wait_for(step, limit, |step| step.waiting > 0)?;
    Ok(format!("{} wait there", report.waiting))
}

/// Sets a service's clock off.
///
/// # Errors
/// The service does not answer.
pub fn set_clock(port: u16, offset_ms: i64) -> Result<String> {
    Failpoints::on(port).set_clock_offset_ms(offset_ms)?;
    Ok("done".to_owned())
}
