//! Records of the log as people can read them.

use anyhow::Context;
use contracts::{RawRecord, RecordBatch, names};
use kafka_io::LogReader;
use serde::Serialize;

use crate::settings::Settings;

/// Bytes of a value that are shown.
const SHOWN_BYTES_MAX: usize = 4_096;

/// A record as JSON and text.
#[derive(Debug, Clone, Serialize)]
pub struct RecordView {
    /// `partition@offset`.
    pub place: String,
    /// When the broker appended it.
    pub appended_at: String,
    /// The key as text.
    pub key: Option<String>,
    /// The headers; a value that is no text is shown in hexadecimal.
    pub headers: Vec<(String, Option<String>)>,
    /// How long the value is.
    pub value_bytes: usize,
    /// The value as text, where it is text.
    pub value_text: Option<String>,
    /// The value in hexadecimal, where it is none.
    pub value_hex: Option<String>,
}

impl RecordView {
    /// Makes it readable.
    #[must_use]
    pub fn new(raw: &RawRecord<'_>) -> Self {
        let value = raw.value.unwrap_or_default();
        let shown = value.get(..SHOWN_BYTES_MAX).unwrap_or(value);
        let text = std::str::from_utf8(shown).ok().filter(|text| !text.chars().any(char::is_control)).map(str::to_owned);
        let value_hex = text.is_none().then(|| hex(shown));
        Self {
            place: raw.place().to_string(),
            appended_at: domain::clock::Timestamp::from_unix_ms(raw.timestamp_ms).to_string(),
            key: raw.key.map(readable),
            headers: raw.headers.into_iter().map(|(name, value)| (readable(name), value.map(readable))).collect(),
            value_bytes: value.len(),
            value_text: text,
            value_hex,
        }
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).and_then(|(_, value)| value.as_deref())
    }

    /// The trace that the record belongs to.
    #[must_use]
    pub fn trace_id(&self) -> Option<String> {
        let parsed = self.header(names::TRACEPARENT)?.parse::<contracts::TraceParent>().ok()?;
        Some(parsed.trace_id_hex())
    }
}

fn readable(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control)).map_or_else(|| hex(bytes), str::to_owned)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads the one record at a place; none when the log does not have it (any more).
///
/// # Errors
/// Kafka cannot be reached.
pub async fn read_one(settings: &Settings, topic: &str, partition: i32, offset: i64) -> anyhow::Result<Option<RecordBatch>> {
    let marks = settings.log_client()?.watermarks(topic, partition).await.with_context(|| settings.kafka_hint())?;
    if offset < marks.low || offset >= marks.high {
        return Ok(None);
    }
    let mut reader = LogReader::open(&settings.kafka, topic, partition, offset, offset.saturating_add(1))?;
    let batch = reader.next_batch(1).await.with_context(|| settings.kafka_hint())?;
    Ok(batch.filter(|batch| batch.first().is_some_and(|record| record.offset == offset)))
}
