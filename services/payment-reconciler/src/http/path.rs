//! Ids in paths.

use actix_web::HttpRequest;
use domain::ids::IdError;

use super::ApiError;

/// A piece of the path by its name, decoded. actix decodes all but `%25`, `%2F` and `%2B` before it routes.
///
/// # Errors
/// What stands there is not UTF-8 when decoded.
pub fn piece(request: &HttpRequest, name: &'static str) -> Result<String, ApiError> {
    let raw = request.match_info().get(name).unwrap_or_default();
    decode(raw).ok_or_else(|| ApiError::field(name, "is not percent-encoded UTF-8"))
}

/// A piece of the path as an id.
///
/// # Errors
/// It is no id of that kind.
pub fn id<T: std::str::FromStr<Err = IdError>>(request: &HttpRequest, name: &'static str) -> Result<T, ApiError> {
    piece(request, name)?.parse().map_err(|error: IdError| ApiError::field(name, error.to_string()))
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
