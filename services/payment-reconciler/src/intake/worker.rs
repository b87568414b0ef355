//! One partition: reads batches, passes on what cannot be used, writes the rest with the position.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use contracts::{
    Cause, RecordBatch, dead_letter,
    order::{OrderPlaced, UnusableOrder, decode_order_placed},
};
use kafka_io::{BatchLimits, CommandProducer, Delivery, GroupPartition, KafkaIoError};
use tokio_util::sync::CancellationToken;

use super::{
    batch::{Letter, Resolution, resolve},
    store::{IntakeStore, Range, WriteError},
};
use crate::waiting::Retry;

/// How often a slice is looked at again after somebody wrote its rows first; then its data are to blame.
const COLLISIONS_MAX: u32 = 5;

/// Why a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// It was asked to.
    Cancelled,
    /// Somebody else moved the position: open the partition again.
    Moved,
    /// It must not go on before somebody has looked.
    Alarm(String),
}

/// The worker of one partition.
pub(super) struct Worker {
    pub records: GroupPartition,
    pub store: IntakeStore,
    pub producer: CommandProducer,
    pub dead_letters: String,
    pub limits: BatchLimits,
    /// The next offset to take; what is committed in PostgreSQL, never more.
    pub position: Arc<AtomicI64>,
    pub cancel: CancellationToken,
    /// Called after each step, for liveness.
    pub beat: Arc<dyn Fn() + Send + Sync>,
}

/// Records of a batch, read.
struct Batch {
    raw: RecordBatch,
    read: Vec<Result<OrderPlaced, UnusableOrder>>,
}

impl Worker {
    /// Works until it is cancelled or must not go on. A batch that was begun is ended or rolled back before it returns.
    pub async fn run(mut self) -> End {
        let mut retry = Retry::new();
        loop {
            let raw = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return End::Cancelled,
                raw = self.records.next_batch(self.limits) => raw,
            };
            (self.beat)();
            match raw {
                Ok(raw) => {
                    retry = Retry::new();
                    let read = raw.iter().map(|raw| decode_order_placed(&raw)).collect();
                    if let Err(end) = self.take(&Batch { raw, read }).await {
                        return end;
                    }
                }
                Err(KafkaIoError::OutOfRange { detail, .. }) => return End::Alarm(detail),
                Err(KafkaIoError::Fenced(_)) => return End::Moved,
                Err(error) => {
                    tracing::warn!(partition = self.records.partition(), %error, "fetching orders waits");
                    if !retry.wait(&self.cancel).await {
                        return End::Cancelled;
                    }
                }
            }
        }
    }

    /// Takes a batch, in slices: as large as they are while all goes well, down to one record where the database refuses data.
    async fn take(&self, batch: &Batch) -> Result<(), End> {
        let (mut from, mut size) = (0, batch.read.len());
        let (mut retry, mut collisions) = (Retry::new(), 0);
        let mut refused: Option<String> = None;
        while from < batch.read.len() {
            let to = from.saturating_add(size).min(batch.read.len());
            let refusal = match self.attempt(batch, from..to, refused.take()).await {
                Ok(()) => {
                    (from, retry, collisions) = (to, Retry::new(), 0);
                    size = size.saturating_mul(2);
                    continue;
                }
                Err(WriteError::Moved(_)) => return Err(End::Moved),
                Err(WriteError::Fatal(reason)) => return Err(End::Alarm(reason)),
                Err(WriteError::Collision(detail)) if collisions >= COLLISIONS_MAX => Some(detail),
                Err(WriteError::Data(detail)) => Some(detail),
                Err(error) => {
                    collisions += u32::from(matches!(error, WriteError::Collision(_)));
                    tracing::warn!(partition = self.records.partition(), %error, "taking orders waits");
                    metrics::counter!("trueup_payment_intake_retries_total").increment(1);
                    None
                }
            };
            match refusal {
                Some(_) if to.saturating_sub(from) > 1 => size = to.saturating_sub(from) / 2,
                Some(detail) => refused = Some(detail),
                None => {
                    (self.beat)();
                    if !retry.wait(&self.cancel).await {
                        return Err(End::Cancelled);
                    }
                }
            }
        }
        Ok(())
    }

    /// One look, one flight of dead letters, one transaction. With `refused`, its only record goes to the dead letters.
    async fn attempt(&self, batch: &Batch, slice: std::ops::Range<usize>, refused: Option<String>) -> Result<(), WriteError> {
        let read = batch.read.get(slice.clone()).unwrap_or_default();
        let resolution = match refused {
            Some(detail) => {
                let order = read.first().and_then(|record| record.as_ref().ok()).map(|order| order.order.clone());
                let unusable = UnusableOrder::new(Cause::RefusedByDatabase, detail, order);
                Resolution { letters: vec![Letter { index: 0, unusable }], ..Resolution::default() }
            }
            None => {
                let usable: Vec<&OrderPlaced> = read.iter().filter_map(|record| record.as_ref().ok()).collect();
                resolve(read, self.store.look(&usable).await?)
            }
        };
        self.pass_on(batch, slice.start, &resolution.letters).await?;
        let place = |index: usize| batch.raw.get(index).map(|raw| raw.offset);
        let (Some(_), Some(last)) = (place(slice.start), place(slice.end.saturating_sub(1))) else { return Ok(()) };
        let range = Range {
            partition: self.records.partition(),
            from: self.position.load(Ordering::Acquire),
            to: last.saturating_add(1),
        };
        // A task of its own: a future that is dropped in a transaction would leave its rows locked.
        let store = self.store.clone();
        let (next, resolution) = (range.to, Arc::new(resolution));
        let orders = Arc::clone(&resolution);
        let written = tokio::spawn(async move { store.write(&range, &orders.insert).await }).await;
        written.map_err(|_| WriteError::Transient("the transaction's task ended without a result".to_owned()))??;
        self.position.store(next, Ordering::Release);
        tell(&resolution);
        Ok(())
    }

    /// Puts dead letters into their topic and waits until the broker has them.
    async fn pass_on(&self, batch: &Batch, first: usize, letters: &[Letter]) -> Result<(), WriteError> {
        let mut waiting: Vec<Delivery> = Vec::with_capacity(letters.len());
        let unsent = |error: kafka_io::PublishError| WriteError::Transient(format!("a dead letter: {error}"));
        for letter in letters {
            let Some(raw) = batch.raw.get(first.saturating_add(letter.index)) else { continue };
            let UnusableOrder { cause, detail, order } = &letter.unusable;
            let order = order.as_ref().map_or("", |order| order.as_str());
            tracing::error!(place = %raw.place(), order, %cause, detail, "an order cannot be used; it goes to the dead letters");
            let record = dead_letter(&raw, *cause, detail);
            waiting.push(self.producer.publish(&self.dead_letters, None, &record).map_err(unsent)?);
        }
        for delivery in waiting {
            delivery.await.map_err(unsent)?;
        }
        Ok(())
    }
}

/// Counts what was committed.
fn tell(resolution: &Resolution) {
    let count = |result: &'static str, number: usize| {
        metrics::counter!("trueup_payment_intake_orders_total", "result" => result)
            .increment(u64::try_from(number).unwrap_or(u64::MAX));
    };
    count("taken", resolution.insert.len());
    count("repeated", resolution.repeated);
    for letter in &resolution.letters {
        let cause = letter.unusable.cause.as_str();
        metrics::counter!("trueup_payment_intake_dead_letters_total", "cause" => cause).increment(1);
    }
}
