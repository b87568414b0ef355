//! Appending records of the log once more: what a broker's, a producer's or an operator's mistake can do to a log.

use contracts::{Encoded, RecordBatch};

use crate::{
    client::LogClient, delivery::Delivery, error::KafkaIoError, producer::CommandProducer, reader::LogReader,
    settings::KafkaSettings,
};

/// Records that are read, and then awaited, at a time.
const RECORDS_PER_BATCH: usize = 1_000;

/// Appends every record of `partition` between `from` and its present end once more, byte for byte, in its order: key, value and headers.
/// Returns how many. What others append meanwhile goes in between and is not repeated.
///
/// For drills and tests: a log that is read again must give the same outcomes.
///
/// # Errors
/// The log cannot be read, or a record is not acknowledged; some are repeated then.
pub async fn repeat_log(
    settings: &KafkaSettings,
    producer: &CommandProducer,
    topic: &str,
    partition: i32,
    from: i64,
) -> Result<usize, KafkaIoError> {
    let marks = LogClient::new(settings)?.watermarks(topic, partition).await?;
    let mut reader = LogReader::open(settings, topic, partition, from.max(marks.low), marks.high)?;
    let mut repeated = 0_usize;
    while let Some(batch) = reader.next_batch(RECORDS_PER_BATCH).await? {
        append(producer, topic, partition, &batch).await?;
        repeated = repeated.saturating_add(batch.len());
    }
    Ok(repeated)
}

async fn append(producer: &CommandProducer, topic: &str, partition: i32, batch: &RecordBatch) -> Result<(), KafkaIoError> {
    let refused = |error: crate::PublishError| KafkaIoError::Runtime(format!("a record was not repeated: {error}"));
    let mut waiting: Vec<Delivery> = Vec::with_capacity(batch.len());
    for raw in batch.iter() {
        waiting.push(producer.publish(topic, Some(partition), &Encoded::copy_of(&raw)).map_err(refused)?);
    }
    for delivery in waiting {
        delivery.await.map_err(refused)?;
    }
    Ok(())
}
