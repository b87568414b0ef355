//! Ids in paths.

use std::borrow::Cow;

use actix_web::HttpRequest;
use domain::ids::IdError;

use crate::error::ApiError;

/// A piece of the path by its name, decoded.
///
/// # Errors
/// What stands there is not UTF-8 when decoded.
pub fn piece<'a>(request: &'a HttpRequest, name: &'static str) -> Result<Cow<'a, str>, ApiError> {
    service_kit::path::piece(request, name).ok_or_else(|| ApiError::field(name, "is not percent-encoded UTF-8"))
}

/// A piece of the path as an id.
///
/// # Errors
/// It is no id of that kind.
pub fn id<T: std::str::FromStr<Err = IdError>>(request: &HttpRequest, name: &'static str) -> Result<T, ApiError> {
    piece(request, name)?.parse().map_err(|error: IdError| ApiError::field(name, error.to_string()))
}
