//! Who a member is.
//!
//! `none`: whom the body names (for trials). `header`: whom a proxy in front names. `jwt`: the subject of a signed token.

mod header;
mod jwks;
mod jwt;
pub mod networks;
mod settings;

use std::sync::Arc;

use actix_web::HttpRequest;
use domain::{clock::Clock, ids::MemberId};

pub use self::settings::{IdentityMode, IdentitySettings, JwtSettings};
use self::{header::HeaderIdentity, jwt::TokenIdentity};
use crate::error::ApiError;

enum Kind {
    AtTheirWord,
    Header(HeaderIdentity),
    Token(Box<TokenIdentity>),
}

/// Tells who is asking.
pub struct Identity(Kind);

impl Identity {
    /// Prepares what is needed to check callers. Keys at an address are fetched behind it from then on.
    ///
    /// # Errors
    /// The settings cannot be used: a file of keys that is not there, a faulty header name.
    pub async fn new(settings: &IdentitySettings, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        Ok(Self(match settings.mode {
            IdentityMode::None => {
                tracing::warn!("identity.mode is none: members are taken at their word, which is for trials only");
                Kind::AtTheirWord
            }
            IdentityMode::Header => Kind::Header(HeaderIdentity::new(settings)?),
            IdentityMode::Jwt => Kind::Token(Box::new(TokenIdentity::new(&settings.jwt, clock).await?)),
        }))
    }

    /// Checks the caller: the member that the request proves to come from, or none where members are taken at their
    /// word (`none`). It never waits: keys that are not there yet are an error and are fetched behind it.
    ///
    /// # Errors
    /// 401 without a proof or with a wrong one, 503 while it cannot be checked.
    pub fn member(&self, request: &HttpRequest) -> Result<Option<MemberId>, ApiError> {
        match &self.0 {
            Kind::AtTheirWord => Ok(None),
            Kind::Header(header) => header.member(request).map(Some),
            Kind::Token(token) => token.member(request).map(Some),
        }
    }
}
