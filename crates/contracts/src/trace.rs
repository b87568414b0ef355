//! W3C trace context, as it travels in the header `traceparent`.

use std::{fmt, str::FromStr};

use domain::clock::Timestamp;
use uuid::Uuid;

/// A trace and the span that speaks, as in `00-<trace id>-<span id>-<flags>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The span that is the parent of what follows; never 0.
    pub span_id: u64,
    /// Bit 0: sampled.
    pub flags: u8,
}

impl TraceParent {
    /// Where its flags stand in the header's text, in every version.
    pub(crate) const FLAGS: std::ops::Range<usize> = 53..55;

    /// A new trace. Ids come from the UUID generator, which is seeded per process.
    #[must_use]
    pub fn fresh(now: Timestamp, sampled: bool) -> Self {
        let trace_id = domain::ids::RequestId::fresh_at(now).uuid().as_u128();
        Self { trace_id, span_id: fresh_span_id(now), flags: u8::from(sampled) }
    }

    /// The same trace with a new span.
    #[must_use]
    pub fn child(self, now: Timestamp) -> Self {
        Self { span_id: fresh_span_id(now), ..self }
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub const fn sampled(self) -> bool {
        self.flags & 1 == 1
    }

    /// The trace id as 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id_hex(self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// The header's value on the stack: this is written for every request.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 55] {
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        put_hex(out.get_mut(3..35), self.trace_id);
        put_hex(out.get_mut(36..52), u128::from(self.span_id));
        put_hex(out.get_mut(53..55), u128::from(self.flags));
        out
    }
}

fn fresh_span_id(now: Timestamp) -> u64 {
    // The low half of a UUIDv7 is random apart from its two variant bits, which are never both 0.
    Uuid::as_u64_pair(&domain::ids::RequestId::fresh_at(now).uuid()).1
}

fn put_hex(out: Option<&mut [u8]>, mut value: u128) {
    for digit in out.into_iter().flatten().rev() {
        let nibble = u8::try_from(value & 0xf).unwrap_or(0);
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        value >>= 4;
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl FromStr for TraceParent {
    type Err = String;
    /// Takes version 00 as W3C wrote it: lower-case digits only, ids not all zero. Later versions are read like
    /// version 00, as the standard asks.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{}` is no traceparent", text.chars().take(64).collect::<String>());
        let mut parts = text.split('-');
        let (Some(version), Some(trace), Some(span), Some(flags)) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let lower_hex = |part: &str, digits: usize| {
            part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        if !lower_hex(version, 2) || version == "ff" || !lower_hex(trace, 32) || !lower_hex(span, 16) || !lower_hex(flags, 2) {
            return Err(bad());
        }
        if version == "00" && parts.next().is_some() {
            return Err(bad());
        }
        let trace_id = u128::from_str_radix(trace, 16).map_err(|_| bad())?;
        let span_id = u64::from_str_radix(span, 16).map_err(|_| bad())?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| bad())?;
        if trace_id == 0 || span_id == 0 {
            return Err(bad());
        }
        Ok(Self { trace_id, span_id, flags })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use domain::clock::{Clock, SystemClock};

    use super::*;

    #[test]
    fn it_reads_what_it_writes() {
        let fresh = TraceParent::fresh(SystemClock.now(), true);
        assert_eq!(fresh.to_string().parse(), Ok(fresh));
        assert_eq!(fresh.to_string().as_bytes(), fresh.to_bytes());
        assert!(fresh.sampled());
        let child = fresh.child(SystemClock.now());
        assert_eq!(child.trace_id, fresh.trace_id);
        assert_ne!(child.span_id, fresh.span_id);
    }

    #[test]
    fn it_refuses_what_the_standard_refuses() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(good.parse::<TraceParent>().is_ok());
        assert!("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later".parse::<TraceParent>().is_ok());
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
        ] {
            assert!(bad.parse::<TraceParent>().is_err(), "{bad}");
        }
    }
}
