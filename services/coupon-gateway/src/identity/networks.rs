//! Address ranges, and whose address a request came from.

use std::net::IpAddr;

use actix_web::{HttpRequest, http::header::X_FORWARDED_FOR};

/// One range, as `10.0.0.0/8` or a single address. IPv4 is held as the IPv6 addresses that stand for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    bits: u128,
    mask: u128,
}

/// Address ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

const fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits_max: u32 = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(bits_max), |prefix| prefix.parse().ok().filter(|prefix| *prefix <= bits_max))?;
        // The part that may differ is as long for the IPv6 form as for the IPv4 one.
        let mask = u128::MAX.checked_shl(bits_max.checked_sub(prefix)?).unwrap_or(0);
        Some(Self { bits: bits_of(address) & mask, mask })
    }
}

impl Networks {
    /// Reads ranges that are separated by commas; nothing gives no range.
    ///
    /// # Errors
    /// The first part that is no range.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| Network::parse(part).ok_or_else(|| part.to_owned())).collect::<Result<_, _>>().map(Self)
    }

    /// There is no range.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An address is in one of the ranges.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = bits_of(address);
        self.0.iter().any(|network| bits & network.mask == network.bits)
    }
}

/// The address that a request came from: the peer's, or, behind trusted proxies, the right-most address in
/// `X-Forwarded-For` that is none of theirs. What stands to the left of it was written by the client itself.
#[must_use]
pub fn client_address(request: &HttpRequest, proxies: &Networks) -> Option<IpAddr> {
    let mut address = request.peer_addr()?.ip().to_canonical();
    if proxies.is_empty() || !proxies.contains(address) {
        return Some(address);
    }
    let lines: Vec<&str> = request.headers().get_all(X_FORWARDED_FOR).filter_map(|line| line.to_str().ok()).collect();
    for entry in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        // An entry that cannot be read hides everything to its left.
        let Some(hop) = parse_hop(entry.trim()) else { break };
        address = hop.to_canonical();
        if !proxies.contains(address) {
            break;
        }
    }
    Some(address)
}

/// Some proxies write the port, too.
fn parse_hop(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|entry| entry.split(']').next()).unwrap_or(entry);
    bare.parse().ok().or_else(|| entry.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn ranges_hold_what_they_say() {
        let networks = Networks::parse("10.0.0.0/8, 192.168.1.7,fd00::/8").unwrap();
        for (address, inside) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.168.1.7", true),
            ("192.168.1.8", false),
            ("fd12::1", true),
            ("fe80::1", false),
            ("::ffff:10.1.2.3", true),
        ] {
            assert_eq!(networks.contains(address.parse().unwrap()), inside, "{address}");
        }
        assert!(Networks::parse("0.0.0.0/0").unwrap().contains("8.8.8.8".parse().unwrap()));
        assert!(!Networks::parse("0.0.0.0/0").unwrap().contains("2001:db8::1".parse().unwrap()));
        assert!(Networks::parse("").unwrap().is_empty());
        for bad in ["10.0.0.0/33", "10.0.0", "::1/129", "x", "10.0.0.0/"] {
            assert_eq!(Networks::parse(bad), Err(bad.to_owned()));
        }
    }

    #[test]
    fn only_trusted_proxies_may_name_somebody_else() {
        let proxies = Networks::parse("10.0.0.0/8").unwrap();
        let from = |peer: &str, forwarded: &[&str], proxies: &Networks| {
            let mut request = TestRequest::default().peer_addr(peer.parse().unwrap());
            for line in forwarded {
                request = request.append_header(("x-forwarded-for", *line));
            }
            client_address(&request.to_http_request(), proxies).unwrap().to_string()
        };
        assert_eq!(from("203.0.113.9:1", &["1.1.1.1"], &proxies), "203.0.113.9", "an untrusted peer is believed nothing");
        assert_eq!(from("10.0.0.1:1", &["1.1.1.1"], &Networks::default()), "10.0.0.1", "nobody is trusted by default");
        assert_eq!(from("10.0.0.1:1", &["6.6.6.6, 1.1.1.1, 10.0.0.2"], &proxies), "1.1.1.1");
        assert_eq!(from("10.0.0.1:1", &["6.6.6.6", "1.1.1.1"], &proxies), "1.1.1.1", "lines are read from the last");
        assert_eq!(from("10.0.0.1:1", &["6.6.6.6, nonsense"], &proxies), "10.0.0.1");
        assert_eq!(from("10.0.0.1:1", &["1.1.1.1:555"], &proxies), "1.1.1.1");
        assert_eq!(from("10.0.0.1:1", &["[2001:db8::1]:555"], &proxies), "2001:db8::1");
        assert_eq!(from("10.0.0.1:1", &[], &proxies), "10.0.0.1");
    }
}
