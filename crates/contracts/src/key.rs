//! The key that signs commands in the log.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::secret::Secret;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// The shortest secret that is taken, in bytes.
const SECRET_BYTES_MIN: usize = 16;
/// The most secrets that are accepted at once. Rotation needs two.
const SECRETS_MAX: usize = 4;

/// Why a text is no log key. The secret itself is never repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogKeyError {
    /// Nothing was given.
    #[error("give at least one secret of {SECRET_BYTES_MIN} bytes or more")]
    Empty,
    /// One of the secrets can be guessed.
    #[error("secret number {0} has fewer than {SECRET_BYTES_MIN} bytes")]
    TooShort(usize),
    /// More than can be meant.
    #[error("more than {SECRETS_MAX} secrets")]
    TooMany,
}

/// One or more secrets that gateways, reconcilers and consumers share: the first signs, all are accepted, so that a
/// secret can be exchanged without a moment in which commands are refused.
#[derive(Clone)]
pub struct LogKey {
    // The prepared state saves hashing the padded secret for each record.
    macs: Vec<Hmac<Sha256>>,
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogKey({} secrets, redacted)", self.macs.len())
    }
}

impl LogKey {
    /// Takes secrets; the first signs.
    ///
    /// # Errors
    /// None at all, too many, or one that is too short.
    pub fn new<S: AsRef<[u8]>>(secrets: impl IntoIterator<Item = S>) -> Result<Self, LogKeyError> {
        let mut macs = Vec::new();
        for (index, secret) in secrets.into_iter().enumerate() {
            let secret = secret.as_ref();
            if secret.len() < SECRET_BYTES_MIN {
                return Err(LogKeyError::TooShort(index + 1));
            }
            // HMAC takes keys of any length, so this branch cannot be reached.
            macs.push(Hmac::new_from_slice(secret).map_err(|_| LogKeyError::TooShort(index + 1))?);
        }
        match macs.len() {
            0 => Err(LogKeyError::Empty),
            1..=SECRETS_MAX => Ok(Self { macs }),
            _ => Err(LogKeyError::TooMany),
        }
    }

    /// Takes secrets separated by commas, as a setting holds them.
    ///
    /// # Errors
    /// As [`LogKey::new`].
    pub fn parse(text: &str) -> Result<Self, LogKeyError> {
        Self::new(text.split(',').map(str::trim).filter(|secret| !secret.is_empty()))
    }

    /// The signature of a record, base64url without padding.
    #[must_use]
    pub(crate) fn sign(&self, event_type: &str, event_id: &str, key: &[u8], value: &[u8]) -> String {
        self.macs
            .first()
            .map(|mac| URL_SAFE_NO_PAD.encode(feed(mac, event_type, event_id, key, value).finalize().into_bytes()))
            .unwrap_or_default()
    }

    /// Whether one of the secrets made this signature. Compares in constant time.
    #[must_use]
    pub(crate) fn verifies(&self, signature: &[u8], event_type: &str, event_id: &str, key: &[u8], value: &[u8]) -> bool {
        let mut given = [0_u8; 32];
        match URL_SAFE_NO_PAD.decode_slice(signature, &mut given) {
            Ok(32) => {}
            _ => return false,
        }
        self.macs.iter().any(|mac| feed(mac, event_type, event_id, key, value).verify_slice(&given).is_ok())
    }
}

/// Each part goes behind its length, so that no byte can move from one part to the next.
fn feed(mac: &Hmac<Sha256>, event_type: &str, event_id: &str, key: &[u8], value: &[u8]) -> Hmac<Sha256> {
    let mut mac = mac.clone();
    for part in [event_type.as_bytes(), event_id.as_bytes(), key, value] {
        mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(part);
    }
    mac
}

/// Where the key comes from: the `keys` section of those who sign with it or check.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogKeySettings {
    /// Signs records of the log; shared by gateways, consumers, reconcilers and the operator's command. Several, separated by commas,
    /// while it is exchanged: the first signs.
    pub log_signing: Secret,
}

impl LogKeySettings {
    /// The key.
    ///
    /// # Errors
    /// The setting holds no usable key.
    pub fn log_key(&self) -> Result<LogKey, LogKeyError> {
        LogKey::parse(self.log_signing.expose())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_first_signs_and_all_are_accepted() {
        let old = LogKey::parse("old-secret-0123456789").unwrap();
        let both = LogKey::parse("new-secret-0123456789, old-secret-0123456789").unwrap();
        let signed = |key: &LogKey| key.sign("t", "i", b"k", b"v");
        assert!(both.verifies(signed(&old).as_bytes(), "t", "i", b"k", b"v"));
        assert!(!old.verifies(signed(&both).as_bytes(), "t", "i", b"k", b"v"));
        assert_ne!(signed(&old), signed(&both));
    }

    #[test]
    fn every_part_counts_and_nothing_moves_between_parts() {
        let key = LogKey::parse("0123456789abcdef").unwrap();
        let signature = key.sign("ty", "id", b"key", b"value");
        let check = |a, b, c: &[u8], d: &[u8]| key.verifies(signature.as_bytes(), a, b, c, d);
        assert!(check("ty", "id", b"key", b"value"));
        for (a, b, c, d) in [
            ("t", "yid", &b"key"[..], &b"value"[..]),
            ("ty", "idk", b"ey", b"value"),
            ("ty", "id", b"keyv", b"alue"),
            ("ty", "id", b"key", b"valuE"),
        ] {
            assert!(!check(a, b, c, d));
        }
        for bad in [&b""[..], b"x", b"\xff\xfe", &signature.as_bytes()[1..], &[b'A'; 64]] {
            assert!(!key.verifies(bad, "ty", "id", b"key", b"value"));
        }
    }

    #[test]
    fn bad_secrets_are_refused_and_none_is_shown() {
        assert_eq!(LogKey::parse("").unwrap_err(), LogKeyError::Empty);
        assert_eq!(LogKey::parse("0123456789abcdef,short").unwrap_err(), LogKeyError::TooShort(2));
        assert_eq!(LogKey::new(vec!["0123456789abcdef"; 5]).unwrap_err(), LogKeyError::TooMany);
        assert_eq!(format!("{:?}", LogKey::parse("0123456789abcdef").unwrap()), "LogKey(1 secrets, redacted)");
    }
}
