//! Failpoints: named steps of a service at which a fault drill stops, slows, kills or fails it.
//!
//! They exist only in builds with the feature `failpoints`; in any other build [`failpoint!`](crate::failpoint!) is nothing, the
//! module holds nothing, and no address answers to its name. docs/failpoints.md lists the steps and says how to use them.

#[cfg(feature = "failpoints")]
mod http;
#[cfg(feature = "failpoints")]
mod plan;
#[cfg(feature = "failpoints")]
mod registry;

#[cfg(feature = "failpoints")]
pub use self::{
    http::configure,
    plan::{Action, BadPlan, Plan},
    registry::{CLOCK_OFFSET, FAILPOINTS, Failpoints, InstallError, Step, StepReport, install, reached},
};

/// Marks a step of async code.
///
/// - `failpoint!("consumer.commit.before");` can pause, sleep and kill.
/// - `failpoint!("gateway.gate.replied", return Err(lost));` can fail, too: the expression is what a failure does.
/// - `failpoint!("consumer.forward.acknowledged", if forwarded);` is a step only when the condition holds.
///
/// A pause or a sleep holds up the task that reached the step and nobody else.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {{
        let _ = $crate::failpoint::reached($name).await;
    }};
    ($name:literal, if $when:expr) => {
        if $when {
            let _ = $crate::failpoint::reached($name).await;
        }
    };
    ($name:literal, $failing:expr) => {
        if $crate::failpoint::reached($name).await {
            $failing
        }
    };
}

/// Nothing: this build has no failpoints.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {{}};
    ($name:literal, if $when:expr) => {{}};
    ($name:literal, $failing:expr) => {{}};
}
