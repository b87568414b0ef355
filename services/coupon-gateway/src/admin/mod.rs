//! The operators' interface.

use actix_web::web;
use serde::{Deserialize, Serialize};
use service_kit::settings::Fault;

/// The operators' tokens and bounds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminSettings {}

impl AdminSettings {
    /// What is wrong with these settings.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }
}

/// The operators and their tokens.
pub struct Admin {}

impl Admin {
    /// Operators as set.
    #[must_use]
    pub fn new(_settings: &AdminSettings) -> Self {
        Self {}
    }
}

/// Adds the operators' addresses; handlers reach the state by `web::Data<AppState>`.
pub fn configure(_app: &mut web::ServiceConfig) {}
