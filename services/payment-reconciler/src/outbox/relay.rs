//! Reads what waits, publishes it, marks it.

use std::{collections::BTreeSet, time::Duration};

use contracts::{
    Envelope,
    payment::{PaymentOutcome, encode_payment_outcome},
};
use domain::clock::{Clock, SystemClock};
use kafka_io::{CommandProducer, Delivery};
use postgres_io::Db;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    OutboxSettings,
    store::{self, Waiting},
};
use crate::{error::LineError, task_lease::TaskLease, waiting::Retry};

/// Who speaks in the envelope of an event.
const SOURCE: &str = "/trueup/payment-reconciler";
/// The task's name among the leases.
const TASK: &str = "outbox";
/// The most rows that cannot be told and are passed over; with more, something else is wrong and the relay stops.
const PASSED_MAX: usize = 1_000;
/// Statements that delete old rows between two looks at what waits.
const CLEAN_STATEMENTS_MAX: usize = 10;

/// What one look brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// Rows that waited.
    pub found: usize,
    /// Rows that the broker has now.
    pub told: usize,
}

/// What became of old events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Rows that are gone.
    pub deleted: usize,
    /// Whether no old one is left.
    pub is_all: bool,
}

/// Tells the outbox.
pub struct Relay {
    db: Db,
    lease: TaskLease,
    producer: CommandProducer,
    topic: String,
    settings: OutboxSettings,
    /// Rows that no program of this version can tell; they stay, and are said aloud.
    passed: BTreeSet<i64>,
}

impl Relay {
    /// Tells `db`'s outbox to `topic`, in the name of `holder`.
    #[must_use]
    pub fn new(db: Db, holder: Uuid, producer: CommandProducer, topic: String, settings: OutboxSettings) -> Self {
        let lease = TaskLease::new(db.clone(), holder);
        Self { db, lease, producer, topic, settings, passed: BTreeSet::new() }
    }

    /// Tells until `stop`. What is in flight is awaited and marked before it returns.
    pub async fn run(mut self, stop: CancellationToken, beat: impl Fn() + Send + Sync) {
        // There from the start, so that an alert on its increase sees the first one.
        metrics::counter!("trueup_payment_outbox_unreadable_total").increment(0);
        let poll = Duration::from_millis(self.settings.poll_ms);
        let batch = usize::try_from(self.settings.batch_events_max).unwrap_or(usize::MAX);
        let mut retry = Retry::new();
        let mut clean_at = Instant::now();
        while !stop.is_cancelled() {
            beat();
            let looked = async {
                let told = self.run_once().await?;
                if Instant::now() >= clean_at && told.is_some() {
                    let cleaned = self.clean().await?;
                    if cleaned.is_all {
                        clean_at = Instant::now() + Duration::from_millis(self.settings.cleanup_interval_ms);
                    }
                }
                Ok::<_, LineError>(told)
            };
            match looked.await {
                // What is less than a batch waits for company: told one by one under load, outcomes took the broker a fifth of all processor time.
                Ok(Some(told)) if told.told > 0 && told.found >= batch => retry = Retry::new(),
                Ok(Some(told)) if told.found > 0 && told.told == 0 => {
                    if !retry.wait(&stop).await {
                        break;
                    }
                }
                Ok(_) => {
                    retry = Retry::new();
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(poll) => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "telling outcomes waits");
                    if !retry.wait(&stop).await {
                        break;
                    }
                }
            }
        }
        if let Err(error) = self.lease.give_back(TASK, false).await {
            tracing::debug!(%error, "the lease of the outbox ends by itself");
        }
    }

    /// One look; none when another replica tells.
    ///
    /// # Errors
    /// PostgreSQL. What Kafka did not take is only told less.
    pub async fn run_once(&mut self) -> Result<Option<Told>, LineError> {
        let ttl = Duration::from_millis(self.settings.lease_ms);
        if !self.lease.acquire(TASK, ttl, Duration::ZERO).await? {
            // Whoever tells says how old the oldest is; an age that this one saw before it lost the task would stay for ever.
            metrics::gauge!("trueup_payment_outbox_oldest_seconds").set(0.0);
            return Ok(None);
        }
        let passed: Vec<i64> = self.passed.iter().copied().collect();
        let rows = store::waiting(&self.db, &passed, self.settings.batch_events_max).await?;
        metrics::gauge!("trueup_payment_outbox_oldest_seconds").set(rows.first().map_or(0.0, |row| row.age_s.max(0.0)));
        let found = rows.len();
        let readable = self.read(rows);
        let mut told = 0_usize;
        for wave in waves(readable) {
            let acknowledged = self.publish(&wave).await;
            if !acknowledged.is_empty() {
                store::mark(&self.db, &acknowledged).await?;
                told = told.saturating_add(acknowledged.len());
            }
            // What came behind a failed event of the same order must not overtake it.
            if acknowledged.len() < wave.len() {
                break;
            }
            self.lease.acquire(TASK, ttl, Duration::ZERO).await?;
        }
        metrics::counter!("trueup_payment_outbox_told_total").increment(u64::try_from(told).unwrap_or(u64::MAX));
        Ok(Some(Told { found, told }))
    }

    fn read(&mut self, rows: Vec<Waiting>) -> Vec<(Waiting, PaymentOutcome)> {
        let mut readable = Vec::with_capacity(rows.len());
        for row in rows {
            let outcome = PaymentOutcome::from_json(&row.event_type, &row.payload);
            match outcome {
                Ok(outcome) if outcome.order().as_str() == row.event_key => readable.push((row, outcome)),
                other => {
                    let reason = other.err().map_or_else(|| "its key is not its order".to_owned(), |error| error.to_string());
                    tracing::error!(outbox_id = row.outbox_id, event_type = row.event_type, reason, "an event cannot be told");
                    metrics::counter!("trueup_payment_outbox_unreadable_total").increment(1);
                    if self.passed.len() < PASSED_MAX {
                        self.passed.insert(row.outbox_id);
                    }
                }
            }
        }
        readable
    }

    /// Publishes at most one event of an order; the ids that the broker has.
    async fn publish(&self, wave: &[(Waiting, PaymentOutcome)]) -> Vec<i64> {
        let mut waiting: Vec<(i64, Delivery)> = Vec::with_capacity(wave.len());
        for (row, outcome) in wave {
            let trace_parent = row.headers.get("traceparent").and_then(serde_json::Value::as_str);
            let envelope = Envelope {
                source: SOURCE,
                time: SystemClock.now(),
                trace_parent: trace_parent.and_then(|text| text.parse().ok()),
            };
            match self.producer.publish(&self.topic, None, &encode_payment_outcome(row.event_id, outcome, &envelope)) {
                Ok(delivery) => waiting.push((row.outbox_id, delivery)),
                Err(error) => {
                    tracing::warn!(%error, "an outcome was not taken by the producer");
                    break;
                }
            }
        }
        let mut acknowledged = Vec::with_capacity(waiting.len());
        for (outbox_id, delivery) in waiting {
            match delivery.await {
                Ok(_) => acknowledged.push(outbox_id),
                Err(error) => tracing::warn!(outbox_id, %error, "an outcome was not acknowledged; it is told again"),
            }
        }
        acknowledged
    }

    /// Deletes what was told long ago, in bounded statements and so many of them at a time: what is to be told does not wait for the rest.
    ///
    /// # Errors
    /// PostgreSQL.
    pub async fn clean(&self) -> Result<Cleaned, LineError> {
        let rows_max = self.settings.cleanup_events_max;
        let mut cleaned = Cleaned::default();
        for _ in 0..CLEAN_STATEMENTS_MAX {
            let gone = store::delete_old(&self.db, self.settings.retention_hours, rows_max).await?;
            cleaned.deleted = cleaned.deleted.saturating_add(gone);
            cleaned.is_all = u32::try_from(gone).is_ok_and(|gone| gone < rows_max);
            if cleaned.is_all {
                break;
            }
        }
        Ok(cleaned)
    }
}

/// Splits events into waves with at most one event of an order each: a producer that fails one event may still deliver the next.
fn waves(events: Vec<(Waiting, PaymentOutcome)>) -> Vec<Vec<(Waiting, PaymentOutcome)>> {
    let mut waves: Vec<Vec<(Waiting, PaymentOutcome)>> = Vec::new();
    let mut depth = std::collections::BTreeMap::<String, usize>::new();
    for event in events {
        let index = depth.entry(event.0.event_key.clone()).and_modify(|depth| *depth = depth.saturating_add(1)).or_insert(0);
        match waves.get_mut(*index) {
            Some(wave) => wave.push(event),
            None => waves.push(vec![event]),
        }
    }
    waves
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use domain::clock::Timestamp;

    use super::*;

    #[test]
    fn an_order_has_one_event_in_a_wave_and_keeps_its_order() {
        let event = |outbox_id, key: &str| {
            let outcome = PaymentOutcome::OrderFailed {
                order: key.parse().unwrap(),
                reason: "payment_failed".to_owned(),
                at: Timestamp::from_unix_ms(0),
            };
            let row = Waiting {
                outbox_id,
                event_id: Uuid::from_u128(7),
                event_type: outcome.event_type().to_owned(),
                event_key: key.to_owned(),
                payload: outcome.to_json(),
                headers: serde_json::json!({}),
                age_s: 0.0,
            };
            (row, outcome)
        };
        let waves = waves(vec![event(1, "a"), event(2, "b"), event(3, "a"), event(4, "a"), event(5, "c")]);
        let ids: Vec<Vec<i64>> = waves.iter().map(|wave| wave.iter().map(|(row, _)| row.outbox_id).collect()).collect();
        assert_eq!(ids, [vec![1, 2, 5], vec![3], vec![4]]);
    }
}
