//! A connection of one's own, for COPY and for statements that are sent ahead of their answers, which the pool's driver does not offer.

use postgres_io::{ConnectError, PostgresSettings, raw_client};
use tokio_postgres::Client;

use crate::error::StoreError;

/// Connects with the time-outs of the settings.
///
/// # Errors
/// [`StoreError::Transient`] when the server cannot be reached, [`StoreError::Fatal`] when the settings cannot work.
pub async fn client(settings: &PostgresSettings) -> Result<Client, StoreError> {
    raw_client(settings).await.map_err(|error| match &error {
        ConnectError::Postgres(cause) if cause.as_db_error().is_some() => StoreError::from_postgres(cause),
        ConnectError::Postgres(_) | ConnectError::TimedOut(_) => StoreError::Transient(error.to_string()),
        ConnectError::Url | ConnectError::Certificates { .. } | ConnectError::Tls(_) => StoreError::Fatal(error.to_string()),
    })
}
