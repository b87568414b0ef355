//! Announces outcomes: follows the ledger by told offset, at least once, each event acknowledged before the cursor moves.

use std::{sync::Arc, time::Duration};

use contracts::{Encoded, Envelope, encode_outcome};
use domain::{
    clock::Clock,
    coupon::{NewRow, Outcome},
};
use kafka_io::{CommandProducer, Delivery, PublishError};
use service_kit::retry::Retry;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    board::PartitionStatus,
    feed::{Feed, Step},
    ledger::Ledger,
    memory::Memory,
    metric,
    trace::Traces,
};

/// Who speaks in the envelope of an event.
const SOURCE: &str = "/trueup/issue-consumer";
/// Rows that are read from the ledger at once.
const PAGE_ROWS: i64 = 2_000;
/// Events that ask for room together.
const PART_EVENTS: usize = 1_000;
/// How long a moved cursor may wait until it is saved. A crash announces what lies between once more.
const SAVE_WITHIN: Duration = Duration::from_millis(50);

/// The publisher of one partition.
pub struct Publisher {
    /// The ledger.
    pub ledger: Arc<Ledger>,
    /// The producer.
    pub producer: CommandProducer,
    /// The memory that bounds what is under way.
    pub memory: Arc<Memory>,
    /// The topic of issues.
    pub issued: String,
    /// The topic of refusals.
    pub rejected: String,
    /// What it reports.
    pub status: Arc<PartitionStatus>,
    /// The time of events.
    pub clock: Arc<dyn Clock>,
    /// Ends it.
    pub cancel: CancellationToken,
}

impl Publisher {
    /// Follows the ledger until it is cancelled or the decider has ended and everything is announced.
    pub async fn run(self, mut feed: Feed) {
        let Some(mut cursor) = self.load_cursor().await else { return };
        let mut saved = cursor;
        let mut save_at = Instant::now() + SAVE_WITHIN;
        let mut retry = Retry::new();
        self.status.set_published(cursor);
        loop {
            let step = tokio::select! {
                biased;
                () = self.cancel.cancelled() => break,
                () = tokio::time::sleep_until(save_at), if saved < cursor => {
                    saved = self.save(saved, cursor).await;
                    save_at = Instant::now() + SAVE_WITHIN;
                    continue;
                }
                step = feed.next(cursor) => step,
            };
            let moved = match step {
                None => break,
                Some(Step::Fresh(fresh)) => {
                    let rows: Vec<&NewRow> = fresh.rows.iter().filter(|new| new.told_offset >= cursor).collect();
                    self.announce(&rows, &fresh.traces, true).await.map(|()| fresh.to)
                }
                Some(Step::ReadTo(to)) => self.announce_from_ledger(cursor, to).await,
            };
            match moved {
                Ok(to) => {
                    if saved == cursor {
                        save_at = Instant::now() + SAVE_WITHIN;
                    }
                    cursor = to;
                    self.status.set_published(cursor);
                    retry = Retry::new();
                }
                Err(reason) => {
                    feed.fall_behind();
                    metric::retried("publishing");
                    tracing::warn!(partition = self.status.partition, cursor, reason, "announcing outcomes waits");
                    self.producer.look_for(&self.issued).await;
                    self.producer.look_for(&self.rejected).await;
                    if !retry.wait(&self.cancel).await {
                        break;
                    }
                }
            }
        }
        self.save(saved, cursor).await;
    }

    async fn load_cursor(&self) -> Option<i64> {
        let mut retry = Retry::new();
        loop {
            match self.ledger.published().await {
                Ok(cursor) => return Some(cursor.unwrap_or(0)),
                Err(error) => {
                    metric::retried("publishing");
                    tracing::warn!(partition = self.status.partition, %error, "reading the publisher's cursor waits");
                    if !retry.wait(&self.cancel).await {
                        return None;
                    }
                }
            }
        }
    }

    /// Saves the cursor, if it moved; returns what is saved. A failure only means that it is tried again later.
    async fn save(&self, saved: i64, cursor: i64) -> i64 {
        if saved == cursor {
            return saved;
        }
        match self.ledger.move_published(cursor).await {
            Ok(()) => cursor,
            Err(error) => {
                metric::retried("saving_cursor");
                tracing::warn!(partition = self.status.partition, cursor, %error, "saving the publisher's cursor waits");
                saved
            }
        }
    }

    /// Announces one page and returns the cursor behind it.
    async fn announce_from_ledger(&self, from: i64, to: i64) -> Result<i64, String> {
        let (rows, traces) = self.ledger.rows(from, to, None, PAGE_ROWS).await.map_err(|error| error.to_string())?;
        self.announce(&rows.iter().collect::<Vec<_>>(), &traces, false).await?;
        let full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= PAGE_ROWS);
        Ok(rows.last().filter(|_| full).map_or(to, |last| last.told_offset.saturating_add(1)))
    }

    async fn announce(&self, rows: &[&NewRow], traces: &Traces, from_memory: bool) -> Result<(), String> {
        let now = self.clock.now();
        let mut waiting = Waiting::default();
        service_kit::failpoint!("consumer.publish.before", return Err("failpoint".to_owned()));
        let mut rest = rows;
        while !rest.is_empty() {
            let wanted = rest.len().min(PART_EVENTS);
            let room = match self.memory.try_events(wanted) {
                Some(room) => Some(room),
                // Others may wait for what is held here, so nothing is held while it is waited for.
                None => {
                    waiting.acknowledged().await?;
                    self.memory.events(wanted).await
                }
            };
            let part = room.as_ref().map_or(1, OwnedSemaphorePermit::num_permits);
            waiting.rooms.extend(room);
            let (part, later) = rest.split_at(part.min(rest.len()));
            for new in part {
                let envelope = Envelope { source: SOURCE, time: now, trace_parent: traces.at(new.row.place.offset) };
                self.publish(&encode_outcome(&new.row, &envelope), new.row.outcome, &mut waiting).await?;
            }
            rest = later;
        }
        waiting.acknowledged().await?;
        service_kit::failpoint!("consumer.publish.acknowledged", return Err("failpoint".to_owned()));
        metric::published(rows.len(), from_memory);
        Ok(())
    }

    async fn publish(&self, event: &Encoded, outcome: Outcome, waiting: &mut Waiting) -> Result<(), String> {
        let topic = match outcome {
            Outcome::Issued { .. } => &self.issued,
            Outcome::Refused { .. } => &self.rejected,
        };
        loop {
            match self.producer.publish(topic, None, event) {
                Ok(delivery) => {
                    waiting.deliveries.push(delivery);
                    return Ok(());
                }
                // A full queue empties while what is in it is awaited; with nothing of ours in it, waiting is up to the caller.
                Err(PublishError::Refused(_)) if !waiting.deliveries.is_empty() => waiting.acknowledged().await?,
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// Events under way, and the room that they take.
#[derive(Default)]
struct Waiting {
    deliveries: Vec<Delivery>,
    rooms: Vec<OwnedSemaphorePermit>,
}

impl Waiting {
    /// Waits until every event is acknowledged, and gives their room back.
    async fn acknowledged(&mut self) -> Result<(), String> {
        for delivery in self.deliveries.drain(..) {
            delivery.await.map_err(|error| error.to_string())?;
        }
        self.rooms.clear();
        Ok(())
    }
}
