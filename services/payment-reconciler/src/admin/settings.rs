//! Settings of the operators' interface.

use domain::secret::Secret;
use serde::{Deserialize, Serialize};
use service_kit::{operators::Operators, settings::Fault};

/// The operators' tokens and bounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminSettings {
    /// `name:token` of each operator, separated by commas. None: the interface is closed.
    pub tokens: Secret,
    /// The longest page of a list.
    pub page_max: u32,
    /// The age at which an order that is PENDING is listed as stale, in seconds.
    pub stale_s: u32,
    /// How long a resolve waits for a payment that somebody else holds, in milliseconds.
    pub ask_timeout_ms: u64,
    /// How long an operator's ask waits for its turn at a gateway, in milliseconds: a slot, which it gets ahead of the runs, and the pace.
    pub turn_wait_ms: u64,
    /// Calls with a wrong token that are taken a second; more are answered 429.
    pub wrong_tokens_per_s: u32,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            tokens: Secret::new(""),
            page_max: 200,
            stale_s: 600,
            ask_timeout_ms: 15_000,
            turn_wait_ms: 5_000,
            wrong_tokens_per_s: 5,
        }
    }
}

impl AdminSettings {
    /// What is wrong with these settings.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Err(problem) = Operators::parse(&self.tokens) {
            faults.push(Fault::new("admin.tokens", problem, Operators::FIX));
        }
        for (field, value) in [
            ("admin.page_max", u64::from(self.page_max)),
            ("admin.ask_timeout_ms", self.ask_timeout_ms),
            ("admin.turn_wait_ms", self.turn_wait_ms),
            ("admin.wrong_tokens_per_s", u64::from(self.wrong_tokens_per_s)),
        ] {
            if value == 0 {
                faults.push(Fault::new(field, "is 0", "give at least 1"));
            }
        }
        faults
    }
}
