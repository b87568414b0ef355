//! Settings of the operators' interface.

use domain::secret::Secret;
use serde::{Deserialize, Serialize};
use service_kit::{
    operators::Operators,
    settings::{Fault, switched_off},
};

/// The operators' tokens and bounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminSettings {
    /// `name:token` of each operator, separated by commas. None: the interface is closed.
    pub tokens: Secret,
    /// How long a call waits for the log's decision, in milliseconds; then it answers 202.
    pub wait_ms: u64,
    /// How often it looks meanwhile, in milliseconds.
    pub poll_ms: u64,
    /// Calls that wait at the same time; one more is answered 503 `overloaded`.
    pub waiting_max: usize,
    /// The longest page of a list.
    pub page_max: usize,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self { tokens: Secret::new(""), wait_ms: 5_000, poll_ms: 20, waiting_max: 64, page_max: 200 }
    }
}

impl AdminSettings {
    /// What is wrong with these settings.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults: Vec<Fault> =
            switched_off("admin", &[("poll_ms", self.poll_ms), ("page_max", self.page_max.try_into().unwrap_or(u64::MAX))])
                .collect();
        if let Err(problem) = Operators::parse(&self.tokens) {
            faults.push(Fault::new("admin.tokens", problem, Operators::FIX));
        }
        faults
    }
}
