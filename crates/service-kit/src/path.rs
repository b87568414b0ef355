//! Pieces of a path, decoded.

use std::borrow::Cow;

use actix_web::HttpRequest;

/// A piece of the path by its name, decoded; none where it is not UTF-8 then. actix decodes all but `%25`, `%2F` and `%2B` before it routes.
#[must_use]
pub fn piece<'a>(request: &'a HttpRequest, name: &str) -> Option<Cow<'a, str>> {
    let raw = request.match_info().get(name).unwrap_or_default();
    if raw.contains('%') { decode(raw).map(Cow::Owned) } else { Some(Cow::Borrowed(raw)) }
}

fn decode(raw: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let (digits, tail) = tail.split_first_chunk::<2>()?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_decoded_once() {
        assert_eq!(decode("a%2Fb%25%2B").as_deref(), Some("a/b%+"));
        assert_eq!(decode("%ED%9A%8C").as_deref(), Some("회"));
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
