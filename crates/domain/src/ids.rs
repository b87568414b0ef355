//! Identifiers. Each has a type of its own, so that a member cannot be passed where a coupon is meant.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::{Clock, Timestamp};

/// The longest coupon code or member id, in characters.
pub const ID_CHARS_MAX: usize = 64;

/// Why a text is not an id. The message says what to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("must not be empty; give 1 to {ID_CHARS_MAX} printable characters")]
    Empty,
    /// More than [`ID_CHARS_MAX`] characters.
    #[error("is longer than {ID_CHARS_MAX} characters")]
    TooLong,
    /// A space, control or invisible character.
    #[error("contains a space, control or invisible character; give 1 to {ID_CHARS_MAX} printable characters")]
    NotPrintable,
    /// A brace in a coupon code.
    #[error("must not contain braces, which Redis reads as a hash tag")]
    Brace,
    /// Not a UUID.
    #[error("is not a UUID")]
    NotUuid,
}

/// Zero-width and direction characters: they look like nothing, so two ids could look the same.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{AD}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{E0000}'..='\u{E0FFF}')
}

pub(crate) fn check_printable(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    // Bytes first: a body of a megabyte must not be counted character by character.
    if text.len() > ID_CHARS_MAX * 4 || text.chars().count() > ID_CHARS_MAX {
        return Err(IdError::TooLong);
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || is_invisible(c)) {
        return Err(IdError::NotPrintable);
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Checks and wraps a text.
            ///
            /// # Errors
            /// [`IdError`] says which rule the text breaks.
            pub fn new(text: impl AsRef<str>) -> Result<Self, $crate::ids::IdError> {
                let text = text.as_ref();
                $crate::ids::check_printable(text)?;
                let check: fn(&str) -> Result<(), $crate::ids::IdError> = $check;
                check(text)?;
                Ok(Self(std::sync::Arc::from(text)))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::ids::IdError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::ids::IdError;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }
    };
}

pub(crate) use text_id;

text_id!(
    /// A coupon's code, such as `coupon-2024`: 1 to 64 printable characters without spaces or braces. Cheap to clone.
    CouponCode,
    |text| if text.contains(['{', '}']) { Err(IdError::Brace) } else { Ok(()) }
);
text_id!(
    /// A member's id, such as `user-1234`: 1 to 64 printable characters without spaces. Cheap to clone.
    MemberId,
    |_| Ok(())
);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID.
            #[must_use]
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// A new id (`UUIDv7`): ids made later sort later, which keeps index pages warm.
            #[must_use]
            pub fn fresh(clock: &dyn Clock) -> Self {
                Self::fresh_at(clock.now())
            }

            /// [`Self::fresh`] for who has read the clock already.
            #[must_use]
            pub fn fresh_at(now: Timestamp) -> Self {
                Self(uuid_v7(now))
            }

            /// The UUID inside.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text).map(Self).map_err(|_| IdError::NotUuid)
            }
        }
    };
}

uuid_id!(
    /// The id of one request for a coupon. Unique per coupon; it gets one final outcome, which never changes.
    RequestId
);
uuid_id!(
    /// The id of a command that is not a request: define, change, cancel.
    CommandId
);

/// The name space of every derived request id. It must never change: ids derived from it are in logs and ledgers.
const REQUEST_NAMESPACE: Uuid = Uuid::from_u128(0x6b1f_5a4e_93c7_5d0b_8e52_7f0a_c41d_2296);

impl RequestId {
    /// The id of a request whose client sent an `Idempotency-Key`: the same three texts give the same id on
    /// every gateway.
    #[must_use]
    pub fn from_idempotency_key(coupon: &CouponCode, member: &MemberId, key: &str) -> Self {
        Self::derive("key", &[coupon.as_str(), member.as_str(), key])
    }

    /// The id of a record that a foreign producer wrote without one: the place where it first landed.
    /// `log` names the incarnation of the log, see [`crate::coupon::LogIncarnation`].
    #[must_use]
    pub fn from_first_landing(log: &str, partition: i32, offset: i64) -> Self {
        Self::derive("landing", &[log, &partition.to_string(), &offset.to_string()])
    }

    fn derive(kind: &str, parts: &[&str]) -> Self {
        // Each part goes behind its length, so that ("ab","c") and ("a","bc") differ.
        let mut name = String::from(kind);
        for part in parts {
            name.push_str(&format!("\u{0}{}:{part}", part.len()));
        }
        Self(Uuid::new_v5(&REQUEST_NAMESPACE, name.as_bytes()))
    }
}

impl CommandId {
    /// The id of a command whose operator sent an `Idempotency-Key`: the same two texts give the same id on every gateway.
    #[must_use]
    pub fn from_idempotency_key(operator: &str, key: &str) -> Self {
        Self(RequestId::derive("command", &[operator, key]).0)
    }
}

fn uuid_v7(now: Timestamp) -> Uuid {
    let unix_ms = u64::try_from(now.unix_ms()).unwrap_or(0);
    let nanos = u32::try_from(unix_ms % 1_000).unwrap_or(0).saturating_mul(1_000_000);
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, unix_ms / 1_000, nanos))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn ids_take_what_is_printable_and_refuse_the_rest() {
        for good in ["a", "coupon-2024", "회원-1", &"x".repeat(64), &"한".repeat(64)] {
            assert!(MemberId::new(good).is_ok(), "{good}");
        }
        let cases = [
            ("", IdError::Empty),
            (&"x".repeat(65), IdError::TooLong),
            ("a b", IdError::NotPrintable),
            ("a\u{0}", IdError::NotPrintable),
            ("a\u{200B}", IdError::NotPrintable),
            ("tab\t", IdError::NotPrintable),
        ];
        for (bad, error) in cases {
            assert_eq!(MemberId::new(bad), Err(error), "{bad:?}");
        }
        assert_eq!(CouponCode::new("{a}"), Err(IdError::Brace));
        assert!(MemberId::new("{a}").is_ok());
    }

    #[test]
    fn derived_ids_depend_on_every_part_and_on_nothing_else() {
        let coupon = CouponCode::new("ab").unwrap();
        let member = MemberId::new("c").unwrap();
        let id = RequestId::from_idempotency_key(&coupon, &member, "k");
        assert_eq!(id, RequestId::from_idempotency_key(&coupon, &member, "k"));
        let shifted = RequestId::from_idempotency_key(&CouponCode::new("a").unwrap(), &MemberId::new("bc").unwrap(), "k");
        assert_ne!(id, shifted);
        assert_ne!(RequestId::from_first_landing("l", 1, 23), RequestId::from_first_landing("l", 12, 3));
        // Golden: ids of this kind are in logs, so the derivation may never change.
        assert_eq!(RequestId::from_first_landing("log", 3, 42).to_string(), "cd6ab4e5-f09a-5c51-bd95-c8347594b864");
    }

    #[test]
    fn fresh_ids_differ_and_carry_the_time() {
        let (a, b) = (RequestId::fresh(&SystemClock), RequestId::fresh(&SystemClock));
        assert_ne!(a, b);
        assert_eq!(a.uuid().get_version_num(), 7);
    }
}
