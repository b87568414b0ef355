//! The service's metrics, by name, so that each is written in one place only. The README lists them.

use std::time::Duration;

use contracts::Cause;
use domain::coupon::Decisions;
use metrics::{counter, gauge, histogram};

/// Records between a stage of a partition and what it follows: `deciding`, `publishing`, `settling`.
pub fn lag(partition: i32, stage: &'static str, records: i64) {
    // A lag above 2^52 would be rounded; a log is never that long.
    let records = u32::try_from(records.max(0)).map_or(f64::MAX, f64::from);
    gauge!("trueup_consumer_lag_records", "partition" => partition.to_string(), "stage" => stage).set(records);
}

/// A partition stopped with an alarm, or was opened again after one.
pub fn alarm(partition: i32, reason: &'static str, on: bool) {
    let value = if on { 1.0 } else { 0.0 };
    gauge!("trueup_consumer_partition_alarm", "partition" => partition.to_string(), "reason" => reason).set(value);
}

/// A batch was committed.
pub fn committed(decisions: &Decisions, records: usize, took: Duration) {
    counter!("trueup_consumer_batches_total").increment(1);
    histogram!("trueup_consumer_batch_records").record(u32::try_from(records).map_or(f64::MAX, f64::from));
    histogram!("trueup_consumer_batch_seconds").record(took);
    let mut outcomes: Vec<(&'static str, u64)> = Vec::new();
    for new in &decisions.rows {
        let name = new.row.outcome.as_str();
        match outcomes.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => outcomes.push((name, 1)),
        }
    }
    for (outcome, count) in outcomes {
        counter!("trueup_consumer_outcomes_total", "outcome" => outcome).increment(count);
    }
    let commands = u64::try_from(decisions.commands.len()).unwrap_or(0);
    counter!("trueup_consumer_commands_total").increment(commands);
    counter!("trueup_consumer_told_again_total").increment(u64::try_from(decisions.told.len()).unwrap_or(0));
}

/// A record was passed on: `forwarded`, or a dead letter's cause.
pub fn passed_on(way: &'static str) {
    counter!("trueup_consumer_passed_on_total", "way" => way).increment(1);
}

/// The ways of records are there from the start, so that an alert on their increase sees the first one.
pub fn ways_from_the_start() {
    for way in Cause::ALL.map(Cause::as_str).into_iter().chain(["forwarded"]) {
        counter!("trueup_consumer_passed_on_total", "way" => way).increment(0);
    }
}

/// Something was tried again.
pub fn retried(stage: &'static str) {
    counter!("trueup_consumer_retries_total", "stage" => stage).increment(1);
}

/// A batch was decided again with everything loaded, or in halves.
pub fn decided_again(reason: &'static str) {
    counter!("trueup_consumer_decided_again_total", "reason" => reason).increment(1);
}

/// A worker found that somebody else decides its partition.
pub fn zombie() {
    counter!("trueup_consumer_zombie_stops_total").increment(1);
}

/// Outcomes were announced; `from_memory` tells if they were read back from the ledger.
pub fn published(rows: usize, from_memory: bool) {
    let source = if from_memory { "memory" } else { "ledger" };
    counter!("trueup_consumer_published_total", "source" => source).increment(u64::try_from(rows).unwrap_or(0));
}

/// The gate was told of ledger rows.
pub fn settled(items: usize) {
    counter!("trueup_consumer_settled_total").increment(u64::try_from(items).unwrap_or(0));
}

/// A gate was found cold by the settler.
pub fn cold_gate() {
    counter!("trueup_consumer_cold_gates_total").increment(1);
}
