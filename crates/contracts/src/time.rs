//! Times on the wire.

use chrono::{Datelike, Timelike};
use domain::clock::Timestamp;

/// The years that RFC 3339 and protobuf's `Timestamp` can both say, as milliseconds.
const YEAR_0001_MS: i64 = -62_135_596_800_000;
const YEAR_9999_END_MS: i64 = 253_402_300_799_999;

/// A moment as protobuf says it.
pub(crate) fn to_proto(at: Timestamp) -> prost_types::Timestamp {
    let ms = at.unix_ms();
    let nanos = i32::try_from(ms.rem_euclid(1_000)).unwrap_or(0).saturating_mul(1_000_000);
    prost_types::Timestamp { seconds: ms.div_euclid(1_000), nanos }
}

/// Reads a moment; parts of a millisecond are cut off.
///
/// # Errors
/// Nanoseconds outside of a second, or a year outside of 1 to 9999.
pub(crate) fn from_proto(at: &prost_types::Timestamp) -> Result<Timestamp, String> {
    let nanos = i64::from(at.nanos);
    if !(0..1_000_000_000).contains(&nanos) {
        return Err(format!("{nanos} is no number of nanoseconds within a second"));
    }
    at.seconds
        .checked_mul(1_000)
        .and_then(|ms| ms.checked_add(nanos / 1_000_000))
        .filter(|ms| (YEAR_0001_MS..=YEAR_9999_END_MS).contains(ms))
        .map(Timestamp::from_unix_ms)
        .ok_or_else(|| format!("{} seconds is outside of the years 1 to 9999", at.seconds))
}

/// RFC 3339 in UTC with milliseconds, on the stack: this is written for every request, and a general formatter costs
/// several times as much. Years outside of 0 to 9999 are written as the epoch.
pub(crate) fn rfc3339_ms(at: Timestamp) -> [u8; 24] {
    let mut out = *b"1970-01-01T00:00:00.000Z";
    let time = at.to_datetime();
    let Ok(year @ 0..=9999) = u32::try_from(time.year()) else { return out };
    put(out.get_mut(0..4), year);
    put(out.get_mut(5..7), time.month());
    put(out.get_mut(8..10), time.day());
    put(out.get_mut(11..13), time.hour());
    put(out.get_mut(14..16), time.minute());
    put(out.get_mut(17..19), time.second());
    put(out.get_mut(20..23), time.nanosecond() / 1_000_000 % 1_000);
    out
}

fn put(out: Option<&mut [u8]>, mut value: u32) {
    for digit in out.into_iter().flatten().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_fast_format_says_what_the_general_one_says() {
        for ms in [0, 1, 999, 1_714_554_000_123, 951_782_399_999, 253_402_300_799_999, -1] {
            let at = Timestamp::from_unix_ms(ms);
            assert_eq!(std::str::from_utf8(&rfc3339_ms(at)).unwrap(), at.to_string());
        }
        assert_eq!(&rfc3339_ms(Timestamp::from_unix_ms(i64::MAX)), b"1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn moments_survive_the_wire_and_nonsense_is_refused() {
        for ms in [0, -1, 1_714_554_000_123, YEAR_0001_MS, YEAR_9999_END_MS] {
            let at = Timestamp::from_unix_ms(ms);
            assert_eq!(from_proto(&to_proto(at)), Ok(at));
        }
        for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, 0), (253_402_300_800, 0)] {
            assert!(from_proto(&prost_types::Timestamp { seconds, nanos }).is_err());
        }
    }
}
