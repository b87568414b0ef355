//! Waiting until the line is at rest: all that is in the log is decided, announced, and settled in the gates.

use std::time::{Duration, Instant};

use anyhow::Result;
use domain::ids::CouponCode;
use kafka_io::LogClient;
use redis_io::{Gate, GateState};

use crate::places::Places;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Waits until all is at rest; why it is not, if it is not in time.
pub async fn wait(places: &Places, codes: &[CouponCode], limit: Duration) -> Option<String> {
    let deadline = Instant::now() + limit;
    loop {
        let why = match look(places, codes).await {
            Ok(None) => return None,
            Ok(Some(why)) => why,
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() >= deadline {
            return Some(why);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Why it is not at rest.
async fn look(places: &Places, codes: &[CouponCode]) -> Result<Option<String>> {
    let database = places.database().await?;
    let log = places.log_client()?;
    if let Some(why) = undecided(places, &database, &log).await? {
        return Ok(Some(why));
    }
    let gate = Gate::connect(&places.redis).await?;
    for code in codes {
        let row = database
            .query_one(
                "SELECT c.admission, p.next_offset, (SELECT count(*) FROM coupon_request r WHERE r.coupon_code = c.coupon_code \
                 AND r.told_offset >= coalesce(f.next_offset, 0)) FROM coupon c JOIN consumer_position p ON p.topic = $2 AND p.partition = \
                 c.partition LEFT JOIN publisher_position f ON f.topic = $2 AND f.partition = c.partition WHERE c.coupon_code = $1",
                &[&code.as_str(), &places.log_topic()],
            )
            .await?;
        let (admission, position, untold): (String, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if untold > 0 {
            return Ok(Some(format!("{untold} outcomes of {code} are not announced")));
        }
        if admission != "reserved" {
            continue;
        }
        let status = gate.status(code).await?;
        if status.state != GateState::Open {
            return Ok(Some(format!("the gate of {code} is {}", status.state.as_str())));
        }
        if status.cursor != Some(position) {
            return Ok(Some(format!("the settler of {code} is at {:?}, decided is {position}", status.cursor)));
        }
        if status.pending > 0 {
            return Ok(Some(format!("{} reservations of {code} are pending", status.pending)));
        }
    }
    Ok(None)
}

async fn undecided(places: &Places, database: &tokio_postgres::Client, log: &LogClient) -> Result<Option<String>> {
    let topic = places.log_topic();
    let rows = database.query("SELECT partition, next_offset FROM consumer_position WHERE topic = $1", &[&topic]).await?;
    for partition in 0..log.partition_count(topic).await? {
        let end = log.watermarks(topic, partition).await?.high;
        let mut position = 0;
        for row in &rows {
            if row.try_get::<_, i32>(0)? == partition {
                position = row.try_get(1)?;
            }
        }
        if position < end {
            return Ok(Some(format!("partition {partition} is decided up to {position}, the log ends at {end}")));
        }
    }
    Ok(None)
}
