//! From the delivery report to whoever waits for it.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use domain::coupon::Place;
use futures::task::AtomicWaker;
use metrics::Counter;
use rdkafka::{
    ClientContext, Message, Statistics,
    error::KafkaError,
    producer::{DeliveryResult, NoCustomPartitioner, ProducerContext},
    types::RDKafkaErrorCode,
};

use crate::{
    error::PublishError,
    ffi::{self, Persistence},
};

/// One record under way: a single allocation that the client carries as its opaque.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    outcome: OnceLock<Result<Place, PublishError>>,
    waker: AtomicWaker,
}

impl Slot {
    fn resolve(&self, outcome: Result<Place, PublishError>) {
        // A delivery report comes once; a second one would change nothing.
        if self.outcome.set(outcome).is_ok() {
            self.waker.wake();
        }
    }
}

/// The acknowledgement of one record, or why there is none. It always ends: at the latest when the delivery time-out is
/// over or the producer is dropped. Dropping it does not call the record back.
#[derive(Debug)]
#[must_use = "without the acknowledgement nobody knows whether the record is in the log"]
pub struct Delivery {
    pub(crate) slot: Arc<Slot>,
}

impl Future for Delivery {
    type Output = Result<Place, PublishError>;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(outcome) = self.slot.outcome.get() {
            return Poll::Ready(outcome.clone());
        }
        self.slot.waker.register(context.waker());
        // The report may have come between the look and the registration.
        self.slot.outcome.get().map_or(Poll::Pending, |outcome| Poll::Ready(outcome.clone()))
    }
}

/// Takes the reports of one producer.
pub(crate) struct DeliveryContext {
    down: AtomicBool,
    delivered: Counter,
    refused: Counter,
    unknown: Counter,
}

impl DeliveryContext {
    pub(crate) fn new() -> Self {
        let counter = |result: &'static str| metrics::counter!("trueup_kafka_publish_total", "result" => result);
        Self {
            down: AtomicBool::new(false),
            delivered: counter("delivered"),
            refused: counter("refused"),
            unknown: counter("unknown"),
        }
    }

    /// Whether the last sign of the brokers was a bad one.
    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    pub(crate) fn set_down(&self, down: bool) {
        if self.down.swap(down, Ordering::Relaxed) != down {
            if down {
                tracing::warn!("kafka is not answering");
            } else {
                tracing::info!("kafka answers again");
            }
        }
    }

    fn failure(&self, error: &KafkaError, persistence: Persistence) -> PublishError {
        let code = error.rdkafka_error_code();
        if matches!(
            code,
            Some(
                RDKafkaErrorCode::MessageTimedOut
                    | RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::RequestTimedOut
                    | RDKafkaErrorCode::AllBrokersDown
            )
        ) {
            self.set_down(true);
        }
        let reason = error.to_string();
        match persistence {
            Persistence::No if code == Some(RDKafkaErrorCode::Fatal) => PublishError::Fatal(reason),
            Persistence::No if code == Some(RDKafkaErrorCode::MessageSizeTooLarge) => PublishError::TooLarge(reason),
            Persistence::No => PublishError::Refused(reason),
            // An error about a persisted record should not exist; claiming less than is known is the safe side.
            Persistence::Possibly | Persistence::Yes => PublishError::Unknown(reason),
        }
    }
}

impl ClientContext for DeliveryContext {
    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.set_down(true);
        } else {
            tracing::warn!(%error, reason, "kafka producer");
        }
    }
}

impl ProducerContext<NoCustomPartitioner> for DeliveryContext {
    type DeliveryOpaque = Arc<Slot>;

    fn delivery(&self, report: &DeliveryResult<'_>, slot: Arc<Slot>) {
        let outcome = match report {
            Ok(message) => {
                self.delivered.increment(1);
                if self.is_down() {
                    self.set_down(false);
                }
                Ok(Place { partition: message.partition(), offset: message.offset() })
            }
            Err((error, message)) => {
                let failure = self.failure(error, ffi::persistence(message));
                if failure.may_be_persisted() {
                    self.unknown.increment(1)
                } else {
                    self.refused.increment(1)
                }
                tracing::debug!(%error, kind = failure.label(), "publish failed");
                Err(failure)
            }
        };
        slot.resolve(outcome);
    }
}
