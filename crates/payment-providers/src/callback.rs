//! Signatures of callbacks, as Stripe and the generic contract make them: `t=<unix seconds>,v1=<HMAC-SHA256 of "t.body">`.

use std::fmt::Write;

use domain::secret::Secret;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use crate::{
    port::{Callback, CallbackError},
    settings::ProviderSettings,
};

/// Signatures in one header, at most: one for each secret that is in force.
const SIGNATURES_MAX: usize = 8;

/// Checks signatures of one account.
pub struct Signatures {
    secrets: Vec<Secret>,
    tolerance_ms: i64,
}

impl Signatures {
    pub fn new(settings: &ProviderSettings) -> Self {
        let secrets = [&settings.callback_secret, &settings.callback_secret_previous];
        Self {
            secrets: secrets.into_iter().filter(|secret| !secret.is_empty()).cloned().collect(),
            tolerance_ms: i64::try_from(settings.callback_tolerance_ms).unwrap_or(i64::MAX),
        }
    }

    /// Whether the header of that name proves that the sender knows a secret, and not long ago.
    pub fn check(&self, callback: &Callback<'_>, header: &str) -> Result<(), CallbackError> {
        let wrong = |what| Err(CallbackError::Signature(what));
        if self.secrets.is_empty() {
            return wrong("not checkable: no callback secret is set");
        }
        let Some((_, value)) = callback.headers.iter().find(|(name, _)| name == header) else { return wrong("missing") };
        let Some((seconds, signatures)) = parts(value) else { return wrong("unreadable") };
        let age_ms = callback.received_at.unix_ms().saturating_sub(seconds.saturating_mul(1_000));
        // Ahead of our clock is as wrong as too old: both let somebody choose the time.
        if age_ms.saturating_abs() > self.tolerance_ms {
            return wrong("too old or from the future");
        }
        let known = self.secrets.iter().any(|secret| {
            signatures.iter().any(|signature| {
                Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).is_ok_and(|mut mac| {
                    mac.update(format!("{seconds}.").as_bytes());
                    mac.update(callback.body);
                    // Compares in constant time.
                    mac.verify_slice(signature).is_ok()
                })
            })
        });
        if known { Ok(()) } else { wrong("wrong") }
    }
}

fn parts(value: &str) -> Option<(i64, Vec<[u8; 32]>)> {
    let mut seconds = None;
    let mut signatures = Vec::new();
    for part in value.split(',') {
        match part.trim().split_once('=')? {
            ("t", text) => seconds = Some(text.parse().ok()?),
            ("v1", hex) if signatures.len() < SIGNATURES_MAX => signatures.push(bytes_of(hex)?),
            // Other schemes are not ours to judge by.
            _ => {}
        }
    }
    seconds.filter(|_| !signatures.is_empty()).map(|seconds| (seconds, signatures))
}

fn bytes_of(hex: &str) -> Option<[u8; 32]> {
    if !hex.is_ascii() || hex.len() != 64 {
        return None;
    }
    let mut bytes = [0u8; 32];
    for (place, byte) in bytes.iter_mut().enumerate() {
        let start = place.saturating_mul(2);
        *byte = u8::from_str_radix(hex.get(start..start.saturating_add(2))?, 16).ok()?;
    }
    Some(bytes)
}

/// An id for a callback that has none, or none of a useful length: repeats have the same bytes.
#[must_use]
pub fn digest(body: &[u8]) -> String {
    Sha256::digest(body).iter().fold(String::from("sha256-"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
