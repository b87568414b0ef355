//! Appending to the log and waiting for the acknowledgement.

use contracts::Encoded;
use domain::{clock::Timestamp, coupon::Place};
use kafka_io::PublishError;

use crate::{mailbox::Mailbox, state::AppState};

/// Why a record is not known to be in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAppended {
    /// It is not in the log and never will be.
    Refused,
    /// It may be in the log.
    Unknown,
}

impl AppState {
    /// Whether an append may be tried; while not, it is better to refuse before anything is reserved.
    #[must_use]
    pub fn log_is_up(&self, now: Timestamp) -> bool {
        self.producer.is_up() && !self.log_health.hangs(now)
    }

    /// Appends a record to `partition` of the log and waits for the acknowledgement, at most the producer's delivery
    /// time-out; with a mailbox, it is woken together with the other requests of a worker thread. Dropping the future does
    /// not call the record back.
    ///
    /// # Errors
    /// See [`NotAppended`].
    pub async fn append(
        &self,
        partition: i32,
        record: &Encoded,
        now: Timestamp,
        mailbox: Option<&Mailbox>,
    ) -> Result<Place, NotAppended> {
        service_kit::failpoint!("gateway.append.before", return Err(NotAppended::Refused));
        let delivery = match self.producer.publish(&self.settings.kafka.topics.created, Some(partition), record) {
            Ok(delivery) => delivery,
            Err(error) => return Err(not_appended(&error)),
        };
        let waiting = self.log_health.start(now);
        let outcome = match mailbox {
            Some(mailbox) => mailbox.wait(delivery).await,
            None => delivery.await,
        };
        match outcome {
            Ok(place) => {
                waiting.acknowledged(self.clock.now());
                service_kit::failpoint!("gateway.append.acknowledged", return Err(NotAppended::Unknown));
                Ok(place)
            }
            Err(error) => Err(not_appended(&error)),
        }
    }
}

fn not_appended(error: &PublishError) -> NotAppended {
    if error.may_be_persisted() {
        tracing::warn!(%error, "publish failed: it is not known whether the record is in the log");
        NotAppended::Unknown
    } else {
        tracing::warn!(%error, "publish failed: the record is not in the log");
        NotAppended::Refused
    }
}
