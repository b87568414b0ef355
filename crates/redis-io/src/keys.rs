//! Names of a coupon's keys. The braces are literal: they make the code the cluster hash tag, so that all keys of one
//! coupon live in one slot and one script may touch them together. Codes hold no braces of their own.

use domain::ids::CouponCode;

/// The set of members who hold an issue or a reservation: `coupon:issued:{code}`.
#[must_use]
pub fn issued(code: &CouponCode) -> String {
    named("issued", code)
}

/// A readable copy of the seats left: `coupon:stock:{code}`. Nothing is decided by it.
#[must_use]
pub fn stock(code: &CouponCode) -> String {
    named("stock", code)
}

/// The gate itself, a hash of rules, cursor, state and run id: `coupon:gate:{code}`.
#[must_use]
pub fn gate(code: &CouponCode) -> String {
    named("gate", code)
}

/// Pending reservations, member → request id with its time: `coupon:pending:{code}`.
#[must_use]
pub fn pending(code: &CouponCode) -> String {
    named("pending", code)
}

/// The same members by the moment somebody last undertook to publish them, in ms: `coupon:pending_at:{code}`.
#[must_use]
pub fn pending_at(code: &CouponCode) -> String {
    named("pending_at", code)
}

/// All keys of a coupon in the order in which every script takes them.
pub(crate) fn all(code: &CouponCode) -> [String; 5] {
    [issued(code), stock(code), gate(code), pending(code), pending_at(code)]
}

fn named(what: &str, code: &CouponCode) -> String {
    format!("coupon:{what}:{{{code}}}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What Redis hashes: the text between the first `{` and the next `}`.
    fn hash_tag(key: &str) -> &str {
        let (_, rest) = key.split_once('{').unwrap();
        rest.split_once('}').unwrap().0
    }

    #[test]
    fn every_key_of_a_coupon_hashes_by_its_code() {
        for code in ["coupon-2024", "쿠폰", "a:b", "x"] {
            let code = CouponCode::new(code).unwrap();
            for key in all(&code) {
                assert_eq!(hash_tag(&key), code.as_str(), "{key}");
            }
        }
        assert_eq!(issued(&CouponCode::new("c").unwrap()), "coupon:issued:{c}");
    }
}
