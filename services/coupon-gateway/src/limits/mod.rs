//! How often a member or an address may ask.

mod keyed;

use std::net::IpAddr;

use actix_web::HttpRequest;
use domain::ids::MemberId;
use governor::clock::MonotonicClock;
use serde::{Deserialize, Serialize};
use service_kit::settings::Fault;

use self::keyed::Keyed;
use crate::{
    error::ApiError,
    identity::networks::{Networks, client_address},
};

/// Rate limits. A rate of 0 turns a limit off.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Coupon requests a second of one member.
    pub member_per_s: u32,
    /// Coupon requests of one member at once.
    pub member_burst: u32,
    /// Requests a second from one address; IPv6 by its first 64 bits.
    pub address_per_s: u32,
    /// Requests from one address at once.
    pub address_burst: u32,
    /// Address ranges of proxies whose `X-Forwarded-For` is believed, separated by commas.
    pub trusted_proxies: String,
    /// Members, and addresses, that are counted at a time. When there are more, counting begins anew.
    pub keys_max: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            member_per_s: 10,
            member_burst: 20,
            address_per_s: 0,
            address_burst: 100,
            trusted_proxies: String::new(),
            keys_max: 100_000,
        }
    }
}

impl LimitSettings {
    /// What is wrong with these settings.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (field, rate, burst) in [
            ("limits.member_burst", self.member_per_s, self.member_burst),
            ("limits.address_burst", self.address_per_s, self.address_burst),
        ] {
            if rate > 0 && burst == 0 {
                faults.push(Fault::new(field, "is 0, so that nothing would be taken", "give at least 1, or a rate of 0"));
            }
        }
        if let Err(part) = Networks::parse(&self.trusted_proxies) {
            let fix = "give ranges such as 10.0.0.0/8,192.168.0.7";
            faults.push(Fault::new("limits.trusted_proxies", format!("has `{part}`"), fix));
        }
        if self.keys_max == 0 {
            faults.push(Fault::new("limits.keys_max", "is 0", "give at least 1"));
        }
        faults
    }
}

/// Counts and refuses.
pub struct Limits {
    members: Option<Keyed<MonotonicClock>>,
    addresses: Option<Keyed<MonotonicClock>>,
    proxies: Networks,
}

impl Limits {
    /// Limits as set; the settings were checked before.
    #[must_use]
    pub fn new(settings: &LimitSettings) -> Self {
        let keyed = |per_s, burst| Keyed::new(per_s, burst, settings.keys_max, MonotonicClock);
        Self {
            members: keyed(settings.member_per_s, settings.member_burst),
            addresses: keyed(settings.address_per_s, settings.address_burst),
            proxies: Networks::parse(&settings.trusted_proxies).unwrap_or_default(),
        }
    }

    /// Counts one request of an address. Free when the limit is off.
    ///
    /// # Errors
    /// 429.
    pub fn address(&self, request: &HttpRequest) -> Result<(), ApiError> {
        let Some(addresses) = &self.addresses else { return Ok(()) };
        // Every TCP connection has a peer; without one there is nobody to count.
        let Some(address) = client_address(request, &self.proxies) else { return Ok(()) };
        addresses.take(&network_of(address)).map_err(|retry_after_s| ApiError::RateLimited { scope: "address", retry_after_s })
    }

    /// Counts one coupon request of a member. Free when the limit is off.
    ///
    /// # Errors
    /// 429.
    pub fn member(&self, member: &MemberId) -> Result<(), ApiError> {
        let Some(members) = &self.members else { return Ok(()) };
        members.take(member).map_err(|retry_after_s| ApiError::RateLimited { scope: "member", retry_after_s })
    }
}

/// Whoever has one IPv6 address has 2^64 of them.
const fn network_of(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            u64::from_be_bytes([0, 0, 0, 0, a, b, c, d])
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h, ..] = address.octets();
            u64::from_be_bytes([a, b, c, d, e, f, g, h])
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use actix_web::test::TestRequest;

    use super::*;

    fn limits(change: impl FnOnce(&mut LimitSettings)) -> Limits {
        let mut settings = LimitSettings { member_per_s: 1, member_burst: 2, keys_max: 100, ..LimitSettings::default() };
        change(&mut settings);
        Limits::new(&settings)
    }

    #[test]
    fn members_are_limited_each_for_himself() {
        let limits = limits(|_| {});
        let (a, b) = (MemberId::new("a").unwrap(), MemberId::new("b").unwrap());
        assert!(limits.member(&a).is_ok() && limits.member(&a).is_ok());
        assert_eq!(limits.member(&a), Err(ApiError::RateLimited { scope: "member", retry_after_s: 1 }));
        assert!(limits.member(&b).is_ok());
    }

    #[test]
    fn addresses_are_limited_only_if_that_is_set() {
        let from = |peer: &str| TestRequest::default().peer_addr(peer.parse().unwrap()).to_http_request();
        let off = limits(|_| {});
        assert!((0..1_000).all(|_| off.address(&from("1.2.3.4:5")).is_ok()));
        let on = limits(|settings| (settings.address_per_s, settings.address_burst) = (1, 1));
        assert!(on.address(&from("1.2.3.4:5")).is_ok());
        assert_eq!(on.address(&from("1.2.3.4:6")).unwrap_err().parts(), (429, "rate_limited"));
        assert!(on.address(&from("1.2.3.5:5")).is_ok());
        assert!(on.address(&from("[2001:db8::1]:5")).is_ok());
        assert!(on.address(&from("[2001:db8::2]:5")).is_err(), "one network of IPv6 is one address");
        assert!(on.address(&from("[2001:db8:0:1::2]:5")).is_ok());
    }

    #[test]
    fn settings_that_take_nothing_are_faults() {
        let default = LimitSettings::default();
        assert!(default.faults().is_empty());
        assert!(default.member_per_s > 0 && default.address_per_s == 0, "members are limited unless that is turned off");
        let settings = LimitSettings {
            member_burst: 0,
            address_burst: 0,
            trusted_proxies: "x".to_owned(),
            keys_max: 0,
            ..LimitSettings::default()
        };
        let fields: Vec<String> = settings.faults().into_iter().map(|fault| fault.field).collect();
        assert_eq!(fields, ["limits.member_burst", "limits.trusted_proxies", "limits.keys_max"]);
    }
}
