//! Plain JSON from producers in other languages: `{"userId":"user-1234","couponId":"coupon-2024"}`, no envelope.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, de};

/// The JSON as far as it can be read. Fields that are not known are ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct ForeignRequest<'a> {
    /// Who asks; an integer is taken as its digits, as the HTTP API does.
    #[serde(rename = "userId", alias = "memberId", borrow, deserialize_with = "text_or_digits")]
    pub(crate) user_id: Cow<'a, str>,
    /// The coupon.
    #[serde(rename = "couponId", borrow, deserialize_with = "text_or_digits")]
    pub(crate) coupon_id: Cow<'a, str>,
}

fn text_or_digits<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'a, str>, D::Error> {
    struct TextOrDigits;
    impl<'de> de::Visitor<'de> for TextOrDigits {
        type Value = Cow<'de, str>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a text or an integer")
        }
        fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(text))
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Cow::Owned(text.to_owned()))
        }
        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
            Ok(Cow::Owned(number.to_string()))
        }
        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
            Ok(Cow::Owned(number.to_string()))
        }
    }
    deserializer.deserialize_any(TextOrDigits)
}

/// Reads the JSON of a foreign producer.
///
/// # Errors
/// What is wrong, in words, with the place in the text but without the text.
pub(crate) fn parse(value: &[u8]) -> Result<ForeignRequest<'_>, String> {
    serde_json::from_slice(value).map_err(|error| error.to_string())
}
