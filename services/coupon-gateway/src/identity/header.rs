//! The member as a proxy in front names him.

use actix_web::{HttpRequest, http::header::HeaderName};
use anyhow::Context;
use domain::ids::MemberId;

use super::{IdentitySettings, networks::Networks};
use crate::error::ApiError;

/// Reads the member out of a header.
pub struct HeaderIdentity {
    name: HeaderName,
    /// Peers that may name members; empty: every peer may, because only proxies can reach this service.
    proxies: Networks,
}

impl HeaderIdentity {
    /// As set.
    ///
    /// # Errors
    /// The header's name or the proxies cannot be read.
    pub fn new(settings: &IdentitySettings) -> anyhow::Result<Self> {
        let name = HeaderName::try_from(settings.header.as_str()).context("identity.header")?;
        let proxies =
            Networks::parse(&settings.trusted_proxies).map_err(anyhow::Error::msg).context("identity.trusted_proxies")?;
        if proxies.is_empty() {
            tracing::warn!("identity.trusted_proxies is empty: whoever can reach this service may name any member");
        }
        Ok(Self { name, proxies })
    }

    /// The member that the header names.
    ///
    /// # Errors
    /// 401: no such header, more than one, one that is no id, or one from a peer that is not trusted.
    pub fn member(&self, request: &HttpRequest) -> Result<MemberId, ApiError> {
        if !self.proxies.is_empty() && !request.peer_addr().is_some_and(|peer| self.proxies.contains(peer.ip())) {
            return Err(ApiError::Unauthorized("members are named by trusted proxies only"));
        }
        let mut values = request.headers().get_all(&self.name);
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(ApiError::Unauthorized("the header that names the member must be there once"));
        };
        let text = std::str::from_utf8(value.as_bytes()).ok();
        text.and_then(|text| MemberId::new(text).ok())
            .ok_or(ApiError::Unauthorized("the header that names the member holds no member id"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use actix_web::test::TestRequest;

    use super::*;

    fn ask(proxies: &str, peer: &str, values: &[&str]) -> Result<String, u16> {
        let settings = IdentitySettings { trusted_proxies: proxies.to_owned(), ..IdentitySettings::default() };
        let mut request = TestRequest::default().peer_addr(peer.parse().unwrap());
        for value in values {
            request = request.append_header(("x-member-id", *value));
        }
        let member = HeaderIdentity::new(&settings).unwrap().member(&request.to_http_request());
        member.map(|member| member.to_string()).map_err(|error| error.parts().0)
    }

    #[test]
    fn one_header_from_a_trusted_peer_names_the_member() {
        assert_eq!(ask("", "203.0.113.9:1", &["user-1"]), Ok("user-1".to_owned()));
        assert_eq!(ask("10.0.0.0/8", "10.9.9.9:1", &["user-1"]), Ok("user-1".to_owned()));
        assert_eq!(ask("10.0.0.0/8", "203.0.113.9:1", &["user-1"]), Err(401));
        assert_eq!(ask("", "10.9.9.9:1", &[]), Err(401));
        assert_eq!(ask("", "10.9.9.9:1", &["user-1", "user-2"]), Err(401), "a client's own header beside the proxy's");
        assert_eq!(ask("", "10.9.9.9:1", &["a b"]), Err(401));
        assert_eq!(ask("", "10.9.9.9:1", &["회원-1"]), Ok("회원-1".to_owned()));
    }
}
