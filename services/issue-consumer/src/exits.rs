//! The ways out of a partition: to another partition of the log, and to the dead letter topic. A record has left when a broker has said so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicI32},
};

use domain::{coupon::Place, ids::CouponCode};
use kafka_io::{CommandProducer, Delivery, PublishError};

use crate::{
    batch::Slice,
    metric,
    outgoing::{Delivered, Outgoing, Way},
};

/// Where records go that leave the partition.
#[derive(Clone)]
pub struct Exits {
    /// The partition that is left.
    pub partition: i32,
    /// The producer.
    pub producer: CommandProducer,
    /// The log itself, for forwarded records.
    pub created: String,
    /// The dead letter topic.
    pub dead_letter: String,
    /// How many partitions the log has now.
    pub partitions: Arc<AtomicI32>,
}

/// A copy of at most this size is always taken to be within what topics take: if one is refused for its size, it shared a request with
/// a larger one, or the topic has to be changed. Whatever a gateway was promised an outcome for is far below it.
const ORDINARY_BYTES_MAX: usize = 64 * 1024;

/// How large a record turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Size {
    /// Refused for its size together with others; a broker refuses all that share a request, so it goes once more alone.
    Suspect,
    /// No topic takes a whole copy; with the reason, where the record was to be forwarded.
    TooLarge(Option<String>),
}

/// Records on their way out.
pub struct Passing {
    left: Vec<Outgoing>,
    sizes: BTreeMap<i64, Size>,
}

impl Passing {
    /// All are still to go.
    #[must_use]
    pub const fn new(left: Vec<Outgoing>) -> Self {
        Self { left, sizes: BTreeMap::new() }
    }

    /// Takes note of a refusal for the size. True if the record goes once more at once, in another way.
    fn refused_for_size(&mut self, out: Outgoing, bytes: usize, why: &str) -> bool {
        let offset = out.offset;
        match self.sizes.get(&offset) {
            Some(Size::Suspect) => {
                let (letter, forward_failed) = out.too_large(why);
                self.sizes.insert(offset, Size::TooLarge(forward_failed));
                self.left.push(letter);
                true
            }
            None if bytes > ORDINARY_BYTES_MAX => {
                self.sizes.insert(offset, Size::Suspect);
                self.left.push(out);
                true
            }
            Some(Size::TooLarge(_)) | None => false,
        }
    }
}

impl Exits {
    /// Tries to pass on what is left, and notes in `done` what was acknowledged.
    ///
    /// # Errors
    /// Why something is left that may go later.
    pub async fn pass_on(
        &self,
        slice: &Slice<'_>,
        passing: &mut Passing,
        done: &mut BTreeMap<i64, Delivered>,
    ) -> Result<(), String> {
        let mut reason = String::new();
        while reason.is_empty() && !passing.left.is_empty() {
            let left = std::mem::take(&mut passing.left);
            let (alone, together): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|out| passing.sizes.get(&out.offset) == Some(&Size::Suspect));
            self.send(slice, together, passing, done, &mut reason).await;
            for out in alone {
                self.send(slice, vec![out], passing, done, &mut reason).await;
            }
        }
        if reason.is_empty() {
            return Ok(());
        }
        let topics: BTreeSet<&str> = passing.left.iter().map(|out| self.target(&out.way).0).collect();
        for topic in topics {
            self.producer.look_for(topic).await;
        }
        Err(reason)
    }

    /// Sends these at the same time and waits for all.
    async fn send(
        &self,
        slice: &Slice<'_>,
        outs: Vec<Outgoing>,
        passing: &mut Passing,
        done: &mut BTreeMap<i64, Delivered>,
        reason: &mut String,
    ) {
        let mut sent = Vec::with_capacity(outs.len());
        for out in outs {
            let whole = !matches!(passing.sizes.get(&out.offset), Some(Size::TooLarge(_)));
            let (bytes, delivery) = self.publish(slice, &out, whole);
            sent.push((out, bytes, delivery));
        }
        for (out, bytes, delivery) in sent {
            let acknowledged = match delivery {
                Ok(delivery) => delivery.await,
                Err(error) => Err(error),
            };
            match acknowledged {
                Ok(place) => {
                    report(&out, self.partition, place);
                    service_kit::failpoint!("consumer.dead_letter.acknowledged", if matches!(out.way, Way::DeadLetter { .. }));
                    service_kit::failpoint!("consumer.forward.acknowledged", if matches!(out.way, Way::Partition(_)));
                    let too_large = match passing.sizes.remove(&out.offset) {
                        Some(Size::TooLarge(forward_failed)) => forward_failed,
                        Some(Size::Suspect) | None => None,
                    };
                    done.insert(out.offset, Delivered { place, too_large });
                }
                Err(error) => {
                    let goes_at_once = matches!(error, PublishError::TooLarge(_))
                        && passing.refused_for_size(out.clone(), bytes, &error.to_string());
                    if !goes_at_once {
                        *reason = error.to_string();
                        passing.left.push(out);
                    }
                }
            }
        }
    }

    /// Publishes the record's copy, whole or without its value; and how large that is.
    fn publish(&self, slice: &Slice<'_>, out: &Outgoing, whole: bool) -> (usize, Result<Delivery, PublishError>) {
        let Some(raw) = slice.batch().raw_at(out.offset) else {
            return (0, Err(PublishError::Refused(format!("no record at offset {} of the batch", out.offset))));
        };
        let encoded = if whole { out.encode(&raw) } else { out.encode_without_value(&raw) };
        let (topic, partition) = self.target(&out.way);
        (encoded.size_bytes(), self.producer.publish(topic, partition, &encoded))
    }

    fn target(&self, way: &Way) -> (&str, Option<i32>) {
        match way {
            Way::Partition(to) => (&self.created, Some(*to)),
            // Beside the log's partition number, as far as the topic has it; the key alone may be missing or random.
            Way::DeadLetter { .. } => (&self.dead_letter, None),
        }
    }
}

fn report(out: &Outgoing, partition: i32, place: Place) {
    let coupon = out.coupon.as_ref().map(CouponCode::as_str);
    match &out.way {
        Way::Partition(to) => {
            metric::passed_on("forwarded");
            tracing::debug!(partition, offset = out.offset, to, coupon, "forwarded");
        }
        Way::DeadLetter { cause, detail } => {
            metric::passed_on(cause.as_str());
            let request = out.request.map(|id| id.to_string());
            tracing::warn!(partition, offset = out.offset, cause = cause.as_str(), detail, coupon, request, %place, "dead letter");
        }
    }
}
