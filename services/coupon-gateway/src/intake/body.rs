//! The body of a coupon request, and the `Idempotency-Key`.

use std::{borrow::Cow, fmt};

use domain::ids::MemberId;
use serde::{Deserialize, Deserializer, de};

use crate::error::{ApiError, FieldFault};

/// The longest `Idempotency-Key`, in characters.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 128;

/// A member id as clients write it: a string, or an integer that stands for its digits.
#[derive(Debug, PartialEq, Eq)]
enum IdText<'a> {
    Text(Cow<'a, str>),
    Digits(String),
    Wrong(&'static str),
}

const WRONG_TYPE: &str = "must be a string or an integer";

struct IdVisitor;

impl<'de> de::Visitor<'de> for IdVisitor {
    type Value = IdText<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an integer")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(IdText::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(IdText::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_u64<E>(self, digits: u64) -> Result<Self::Value, E> {
        Ok(IdText::Digits(digits.to_string()))
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(IdText::Wrong("must not be negative; send it as a string if the sign belongs to it"))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(IdText::Wrong("is not an integer of at most 64 bits; send it as a string"))
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(IdText::Wrong(WRONG_TYPE))
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(IdText::Wrong(WRONG_TYPE))
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<de::IgnoredAny>()?.is_some() {}
        Ok(IdText::Wrong(WRONG_TYPE))
    }
    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<de::IgnoredAny, de::IgnoredAny>()?.is_some() {}
        Ok(IdText::Wrong(WRONG_TYPE))
    }
}

fn id_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IdText<'de>>, D::Error> {
    deserializer.deserialize_any(IdVisitor).map(Some)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow, default, deserialize_with = "id_text")]
    member_id: Option<IdText<'a>>,
    #[serde(borrow, default, deserialize_with = "id_text")]
    user_id: Option<IdText<'a>>,
}

fn member_of(field: &'static str, text: Option<IdText<'_>>, faults: &mut Vec<FieldFault>) -> Option<MemberId> {
    let member = match text? {
        IdText::Text(text) => MemberId::new(text),
        IdText::Digits(text) => MemberId::new(text),
        IdText::Wrong(problem) => {
            faults.push(FieldFault::new(field, problem));
            return None;
        }
    };
    member.map_err(|error| faults.push(FieldFault::new(field, error.to_string()))).ok()
}

/// Reads the member out of a body. `userId` is another name of `memberId`; both must agree where both are given.
/// `proven` is the member that the caller was shown to be: then the body may leave the member out.
///
/// Faults of the fields are added to `faults`; the member is none only if there is one.
///
/// # Errors
/// The body is not a JSON object, or names another member than the caller.
pub fn read_member(body: &[u8], proven: Option<&MemberId>, faults: &mut Vec<FieldFault>) -> Result<Option<MemberId>, ApiError> {
    if body.is_empty() && proven.is_some() {
        return Ok(proven.cloned());
    }
    // serde would also take an array for an object's fields in their order.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(ApiError::MalformedBody("it is not an object".to_owned()));
    }
    let body: Body<'_> = serde_json::from_slice(body).map_err(|error| ApiError::MalformedBody(error.to_string()))?;
    let before = faults.len();
    let (by_member, by_user) = (member_of("memberId", body.member_id, faults), member_of("userId", body.user_id, faults));
    if by_member.is_some() && by_user.is_some() && by_member != by_user {
        faults.push(FieldFault::new("userId", "names another member than memberId; give one of them"));
    }
    let named = by_member.or(by_user);
    match (named, proven) {
        (Some(named), Some(proven)) if named != *proven => Err(ApiError::NotYours),
        (Some(named), _) => Ok(Some(named)),
        (None, Some(proven)) => Ok(Some(proven.clone())),
        (None, None) => {
            if faults.len() == before {
                faults.push(FieldFault::new("memberId", "is missing; give 1 to 64 printable characters"));
            }
            Ok(None)
        }
    }
}

/// Checks an `Idempotency-Key`: 1 to [`IDEMPOTENCY_KEY_CHARS_MAX`] visible ASCII characters, none where there is none.
pub fn read_key<'a>(header: Option<&'a actix_web::http::header::HeaderValue>, faults: &mut Vec<FieldFault>) -> Option<&'a str> {
    let text = header?.to_str().ok().filter(|text| (1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&text.len()));
    if text.is_none() {
        let problem = format!("give 1 to {IDEMPOTENCY_KEY_CHARS_MAX} visible ASCII characters");
        faults.push(FieldFault::new("Idempotency-Key", problem));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn read(body: &str, proven: Option<&str>) -> Result<Result<String, Vec<&'static str>>, &'static str> {
        let mut faults = Vec::new();
        let proven = proven.map(|text| MemberId::new(text).unwrap());
        let member = read_member(body.as_bytes(), proven.as_ref(), &mut faults).map_err(|error| error.parts().1)?;
        assert!(member.is_some() || !faults.is_empty());
        Ok(if faults.is_empty() {
            Ok(member.unwrap().to_string())
        } else {
            Err(faults.into_iter().map(|fault| fault.field).collect())
        })
    }

    #[test]
    fn a_member_is_a_string_or_the_digits_of_an_integer() {
        for (body, member) in [
            (r#"{"memberId":"user-1234"}"#, "user-1234"),
            (r#"{"userId":"user-1234"}"#, "user-1234"),
            (r#"{"memberId":1234}"#, "1234"),
            (r#"{"userId":18446744073709551615}"#, "18446744073709551615"),
            (r#"{"memberId":"a","userId":"a","more":[1,{"x":null}]}"#, "a"),
            (r#"{"memberId":7,"userId":"7"}"#, "7"),
            (r#"{"memberId":"\ud55c\uae00"}"#, "한글"),
        ] {
            assert_eq!(read(body, None), Ok(Ok(member.to_owned())), "{body}");
        }
    }

    #[test]
    fn every_faulty_field_is_named() {
        let long = format!(r#"{{"memberId":"{}"}}"#, "x".repeat(65));
        for (body, fields) in [
            ("{}", vec!["memberId"]),
            (r#"{"memberId":""}"#, vec!["memberId"]),
            (r#"{"memberId":null}"#, vec!["memberId"]),
            (r#"{"memberId":true}"#, vec!["memberId"]),
            (r#"{"memberId":1.5}"#, vec!["memberId"]),
            (r#"{"memberId":-1}"#, vec!["memberId"]),
            (r#"{"memberId":18446744073709551616}"#, vec!["memberId"]),
            (r#"{"memberId":[["a"]]}"#, vec!["memberId"]),
            (r#"{"memberId":{"a":1}}"#, vec!["memberId"]),
            (r#"{"memberId":"a b"}"#, vec!["memberId"]),
            (r#"{"memberId":"a\u0000"}"#, vec!["memberId"]),
            (r#"{"memberId":"a","userId":"b"}"#, vec!["userId"]),
            (r#"{"memberId":"a b","userId":false}"#, vec!["memberId", "userId"]),
            (long.as_str(), vec!["memberId"]),
        ] {
            assert_eq!(read(body, None), Ok(Err(fields)), "{body}");
        }
    }

    #[test]
    fn what_is_no_object_is_malformed() {
        for body in ["", "{", "[]", "\"a\"", "1", "null", r#"{"memberId":"a""#, r#"{"memberId":"a","memberId":"b"}"#] {
            assert_eq!(read(body, None), Err("malformed_body"), "{body}");
        }
        let mut faults = Vec::new();
        assert!(read_member(b"{\"memberId\":\"\xff\"}", None, &mut faults).is_err());
    }

    #[test]
    fn a_proven_member_needs_no_body_and_cannot_be_another() {
        assert_eq!(read("", Some("m")), Ok(Ok("m".to_owned())));
        assert_eq!(read("{}", Some("m")), Ok(Ok("m".to_owned())));
        assert_eq!(read(r#"{"memberId":"m"}"#, Some("m")), Ok(Ok("m".to_owned())));
        assert_eq!(read(r#"{"memberId":"n"}"#, Some("m")), Err("not_yours"));
        assert_eq!(read("{", Some("m")), Err("malformed_body"));
    }

    #[test]
    fn keys_are_short_and_visible() {
        let mut faults = Vec::new();
        assert_eq!(read_key(None, &mut faults), None);
        assert_eq!(read_key(Some(&HeaderValue::from_static("a-1")), &mut faults), Some("a-1"));
        assert!(faults.is_empty());
        let long = HeaderValue::from_str(&"x".repeat(IDEMPOTENCY_KEY_CHARS_MAX + 1)).unwrap();
        for bad in [HeaderValue::from_static(""), long, HeaderValue::from_bytes(b"\xe9").unwrap()] {
            faults.clear();
            assert_eq!(read_key(Some(&bad), &mut faults), None);
            assert_eq!(faults.len(), 1);
        }
    }
}
