//! Bodies, bounded in length and time.

use std::time::Duration;

use actix_web::web::{Bytes, Payload};

use super::ApiError;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads a body of at most `bytes_max`.
///
/// # Errors
/// It is too long, breaks off, or takes too long.
pub async fn read(payload: Payload, bytes_max: usize) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(BODY_TIMEOUT, payload.to_bytes_limited(bytes_max)).await {
        Ok(Ok(Ok(bytes))) => Ok(bytes),
        Ok(Ok(Err(_))) => Err(ApiError::MalformedBody("it broke off".to_owned())),
        Ok(Err(_)) => Err(ApiError::BodyTooLarge(bytes_max)),
        Err(_) => Err(ApiError::MalformedBody("it did not arrive in time".to_owned())),
    }
}
