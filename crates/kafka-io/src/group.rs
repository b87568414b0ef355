//! Consumer groups as an operator sees them.

use rdkafka::{admin::AdminOptions, error::KafkaError, types::RDKafkaErrorCode};

use crate::{client::LogClient, error::KafkaIoError};

/// Deletes a consumer group with all offsets that it committed. True if there was one.
///
/// Nothing of ours depends on committed offsets; drills prove it with this.
///
/// # Errors
/// The group has members, which a broker refuses to forget; or no broker answers.
pub async fn delete_group(client: &LogClient, group: &str) -> Result<bool, KafkaIoError> {
    let options = AdminOptions::new().operation_timeout(Some(client.timeout)).request_timeout(Some(client.timeout));
    let failed = KafkaIoError::client("delete group");
    let results = client.admin.delete_groups(&[group], &options).await.map_err(failed)?;
    match results.into_iter().next() {
        Some(Ok(_)) => Ok(true),
        Some(Err((_, RDKafkaErrorCode::GroupIdNotFound))) | None => Ok(false),
        Some(Err((_, code))) => Err(KafkaIoError::Client { what: "delete group", source: KafkaError::AdminOp(code) }),
    }
}
