//! Tickets: all that any gateway needs to answer for a request, signed, so that it needs no store to trust it.
//!
//! A ticket is opaque to clients: base64url of version, request id, partition, offset, coupon and member, then the
//! first 16 bytes of an HMAC-SHA256 over what stands before.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{
    coupon::Place,
    ids::{CouponCode, MemberId, RequestId},
    secret::Secret,
};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;

/// The layout of the bytes; a new layout gets a new number.
const VERSION: u8 = 1;
/// Bytes of the signature that are kept. A forger has one chance in 2^128.
const SIGNATURE_BYTES: usize = 16;
/// The longest ticket text that is looked at. Two ids of 64 characters at 4 bytes each come to 753 characters.
const TEXT_BYTES_MAX: usize = 800;
/// Keeps a ticket's signature from ever being a signature of something else under the same key.
const PURPOSE: &[u8] = b"trueup-ticket\0";

/// What a ticket says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The request.
    pub request: RequestId,
    /// The coupon.
    pub coupon: CouponCode,
    /// Who asked.
    pub member: MemberId,
    /// Where the request stands in the log.
    pub place: Place,
}

/// The keys that sign tickets: the first signs, all are accepted, so that a key can be changed without a gap.
#[derive(Clone)]
pub struct TicketKeys {
    first: Hmac<Sha256>,
    others: Vec<Hmac<Sha256>>,
}

impl std::fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TicketKeys({} keys)", self.others.len().saturating_add(1))
    }
}

fn keyed(secret: &str) -> Hmac<Sha256> {
    // HMAC takes a key of any length, so the other arm is never taken; it would refuse every ticket.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap_or_else(|_| Hmac::new(&Default::default()));
    mac.update(PURPOSE);
    mac
}

impl TicketKeys {
    /// The keys in `secret`, separated by commas.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        let mut keys = secret.expose().split(',').map(|key| keyed(key.trim()));
        let first = keys.next().unwrap_or_else(|| keyed(""));
        Self { first, others: keys.collect() }
    }

    /// The text of a ticket, about 120 characters for usual ids.
    #[must_use]
    pub fn sign(&self, request: RequestId, coupon: &CouponCode, member: &MemberId, place: Place) -> String {
        let (coupon, member) = (coupon.as_str().as_bytes(), member.as_str().as_bytes());
        let mut bytes = Vec::with_capacity(33 + coupon.len() + member.len() + SIGNATURE_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(request.uuid().as_bytes());
        bytes.extend_from_slice(&place.partition.to_be_bytes());
        bytes.extend_from_slice(&place.offset.to_be_bytes());
        // Ids have at most 256 bytes; 0 stands for 256 nowhere, because the two bytes hold the whole length.
        bytes.extend_from_slice(&u16::try_from(coupon.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(coupon);
        bytes.extend_from_slice(member);
        let mut mac = self.first.clone();
        mac.update(&bytes);
        let signature = mac.finalize().into_bytes();
        bytes.extend_from_slice(signature.get(..SIGNATURE_BYTES).unwrap_or_default());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a ticket; none when it is damaged or not ours.
    #[must_use]
    pub fn read(&self, text: &str) -> Option<Ticket> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (body, signature) = bytes.split_at_checked(bytes.len().checked_sub(SIGNATURE_BYTES)?)?;
        let ours = std::iter::once(&self.first).chain(&self.others).any(|key| {
            let mut mac = key.clone();
            mac.update(body);
            mac.verify_truncated_left(signature).is_ok()
        });
        if ours { parse(body) } else { None }
    }
}

fn parse(body: &[u8]) -> Option<Ticket> {
    let (version, rest) = body.split_first()?;
    if *version != VERSION {
        return None;
    }
    let (request, rest) = rest.split_first_chunk::<16>()?;
    let (partition, rest) = rest.split_first_chunk::<4>()?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (coupon, member) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some(Ticket {
        request: RequestId::from_uuid(Uuid::from_bytes(*request)),
        coupon: CouponCode::new(std::str::from_utf8(coupon).ok()?).ok()?,
        member: MemberId::new(std::str::from_utf8(member).ok()?).ok()?,
        place: Place { partition: i32::from_be_bytes(*partition), offset: i64::from_be_bytes(*offset) },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]
    use domain::clock::SystemClock;

    use super::*;

    fn keys(text: &str) -> TicketKeys {
        TicketKeys::new(&Secret::new(text))
    }

    fn ticket(coupon: &str, member: &str) -> Ticket {
        Ticket {
            request: RequestId::fresh(&SystemClock),
            coupon: CouponCode::new(coupon).unwrap(),
            member: MemberId::new(member).unwrap(),
            place: Place { partition: 11, offset: 1 << 40 },
        }
    }

    fn sign(keys: &TicketKeys, ticket: &Ticket) -> String {
        keys.sign(ticket.request, &ticket.coupon, &ticket.member, ticket.place)
    }

    #[test]
    fn a_ticket_comes_back_as_it_was() {
        let long = "한".repeat(64);
        for ticket in [ticket("coupon-2024", "user-1234"), ticket("c", "m"), ticket(&"\u{10348}".repeat(64), &long)] {
            let text = sign(&keys("k1"), &ticket);
            assert!(text.len() <= TEXT_BYTES_MAX && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
            assert_eq!(keys("k1").read(&text), Some(ticket));
        }
    }

    #[test]
    fn any_changed_character_spoils_it() {
        let text = sign(&keys("k1"), &ticket("coupon", "member"));
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(keys("k1").read(std::str::from_utf8(&other).unwrap()), None, "character {at}");
        }
        for bad in ["", "A", "!", &text[1..], &"A".repeat(TEXT_BYTES_MAX + 1)] {
            assert_eq!(keys("k1").read(bad), None, "{bad}");
        }
    }

    #[test]
    fn keys_can_be_changed_without_a_gap() {
        let ticket = ticket("coupon", "member");
        let old = sign(&keys("k1"), &ticket);
        assert_eq!(keys("k2,k1").read(&old), Some(ticket.clone()));
        let new = sign(&keys("k2,k1"), &ticket);
        assert_eq!(keys("k2").read(&new), Some(ticket.clone()));
        assert_eq!(keys("k2").read(&old), None);
    }
}
