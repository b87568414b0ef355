//! Where a partition starts: its decided position, held against the log that is there.

use domain::coupon::LogIncarnation;
use kafka_io::Watermarks;
use postgres_io::PostgresSettings;
use tokio_postgres::Client;

use crate::{board::Alarm, error::StoreError};

const READ: &str = "SELECT next_offset, cluster_id, topic_id FROM consumer_position WHERE topic = $1 AND partition = $2";

const BEGIN: &str = "INSERT INTO consumer_position (topic, partition, next_offset, cluster_id, topic_id) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (topic, partition) DO NOTHING";

/// The positions table, by a connection of its own.
pub struct Positions {
    client: Client,
    topic: String,
}

impl Positions {
    /// Connects.
    ///
    /// # Errors
    /// [`StoreError`], when the database cannot be reached.
    pub async fn connect(settings: &PostgresSettings, topic: String) -> Result<Self, StoreError> {
        Ok(Self { client: crate::connect::client(settings).await?, topic })
    }

    /// The offset to start from, or the alarm that keeps the partition from starting. A partition without a position starts at
    /// the log's first offset, which is said aloud if that is not 0.
    ///
    /// # Errors
    /// [`StoreError`], when the database cannot be asked.
    pub async fn open(&self, partition: i32, log: &LogIncarnation, marks: Watermarks) -> Result<Result<i64, Alarm>, StoreError> {
        let fault = |error: tokio_postgres::Error| StoreError::from_postgres(&error);
        for _ in 0..2 {
            if let Some(row) = self.client.query_opt(READ, &[&self.topic, &partition]).await.map_err(fault)? {
                let decided =
                    LogIncarnation { cluster_id: row.try_get(1).map_err(fault)?, topic_id: row.try_get(2).map_err(fault)? };
                return Ok(check(row.try_get(0).map_err(fault)?, &decided, log, marks));
            }
            if marks.low > 0 {
                tracing::warn!(
                    partition,
                    low = marks.low,
                    "no position yet, and the log does not begin at 0: earlier records are gone"
                );
            }
            let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                [&self.topic, &partition, &marks.low, &log.cluster_id, &log.topic_id];
            self.client.execute(BEGIN, &params).await.map_err(fault)?;
        }
        Err(StoreError::Transient("the position row came and went".to_owned()))
    }
}

fn check(position: i64, decided: &LogIncarnation, log: &LogIncarnation, marks: Watermarks) -> Result<i64, Alarm> {
    if decided != log {
        return Err(Alarm::OtherLog { decided: decided.to_string(), found: log.to_string() });
    }
    if position < marks.low {
        return Err(Alarm::BelowLogStart { position, low: marks.low });
    }
    if position > marks.high {
        return Err(Alarm::BeyondLogEnd { position, high: marks.high });
    }
    Ok(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(topic_id: &str) -> LogIncarnation {
        LogIncarnation { cluster_id: "cluster".to_owned(), topic_id: topic_id.to_owned() }
    }

    #[test]
    fn a_position_has_to_fit_the_log() {
        let marks = Watermarks { low: 5, high: 9 };
        for good in [5, 7, 9] {
            assert_eq!(check(good, &log("a"), &log("a"), marks), Ok(good));
        }
        assert!(matches!(check(4, &log("a"), &log("a"), marks), Err(Alarm::BelowLogStart { position: 4, low: 5 })));
        assert!(matches!(check(10, &log("a"), &log("a"), marks), Err(Alarm::BeyondLogEnd { position: 10, high: 9 })));
        assert!(matches!(check(7, &log("a"), &log("b"), marks), Err(Alarm::OtherLog { .. })));
    }
}
