//! Where a partition starts: its position in PostgreSQL, held against the log that is there.

use diesel::{OptionalExtension, QueryableByName, sql_query, sql_types};
use diesel_async::RunQueryDsl;
use domain::coupon::LogIncarnation;
use kafka_io::Watermarks;
use postgres_io::Db;

use super::store::WriteError;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = sql_types::BigInt)]
    next_offset: i64,
    #[diesel(sql_type = sql_types::Text)]
    cluster_id: String,
    #[diesel(sql_type = sql_types::Text)]
    topic_id: String,
}

/// The offset to start from, or why the partition must not start. A partition without a position starts at the log's first offset,
/// which is said aloud if that is not 0.
///
/// # Errors
/// The database cannot be asked.
pub(super) async fn open(
    db: &Db,
    topic: &str,
    partition: i32,
    log: &LogIncarnation,
    marks: Watermarks,
) -> Result<Result<i64, String>, WriteError> {
    let mut connection = db.conn().await?;
    for _ in 0..2 {
        let row: Option<Row> =
            sql_query("SELECT next_offset, cluster_id, topic_id FROM consumer_position WHERE topic = $1 AND partition = $2")
                .bind::<sql_types::Text, _>(topic)
                .bind::<sql_types::Integer, _>(partition)
                .get_result(&mut connection)
                .await
                .optional()?;
        if let Some(row) = row {
            let taken = LogIncarnation { cluster_id: row.cluster_id, topic_id: row.topic_id };
            return Ok(check(row.next_offset, &taken, log, marks));
        }
        if marks.low > 0 {
            tracing::warn!(topic, partition, low = marks.low, "no position yet, and earlier orders are gone from the log");
        }
        sql_query(
            "INSERT INTO consumer_position (topic, partition, next_offset, cluster_id, topic_id) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (topic, partition) DO NOTHING",
        )
        .bind::<sql_types::Text, _>(topic)
        .bind::<sql_types::Integer, _>(partition)
        .bind::<sql_types::BigInt, _>(marks.low)
        .bind::<sql_types::Text, _>(&log.cluster_id)
        .bind::<sql_types::Text, _>(&log.topic_id)
        .execute(&mut connection)
        .await?;
    }
    Err(WriteError::Transient("the position row came and went".to_owned()))
}

fn check(position: i64, taken: &LogIncarnation, log: &LogIncarnation, marks: Watermarks) -> Result<i64, String> {
    if taken != log {
        return Err(format!("the position belongs to another log ({taken}, not {log})"));
    }
    if position < marks.low {
        return Err(format!("orders from {position} to {} are gone from the log", marks.low));
    }
    if position > marks.high {
        return Err(format!("the position {position} is beyond the log's end {}", marks.high));
    }
    Ok(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_has_to_fit_the_log() {
        let log = |topic_id: &str| LogIncarnation { cluster_id: "cluster".to_owned(), topic_id: topic_id.to_owned() };
        let marks = Watermarks { low: 5, high: 9 };
        for good in [5, 7, 9] {
            assert_eq!(check(good, &log("a"), &log("a"), marks), Ok(good));
        }
        for (position, found) in [(4, "a"), (10, "a"), (7, "b")] {
            assert!(check(position, &log("a"), &log(found), marks).is_err(), "{position} of {found}");
        }
    }
}
