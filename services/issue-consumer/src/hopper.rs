//! Where decoded records gather while the batch before them commits: the longer that takes, the larger the next batch is, and nobody
//! waits for a batch to fill up.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kafka_io::BatchLimits;
use tokio::sync::Notify;

use crate::{batch::Batch, memory::Share};

#[derive(Default)]
struct Slot {
    batch: Batch,
    share: Share,
    closed: bool,
}

/// One batch in the making, between the intake and the decider of a partition.
pub struct Hopper {
    slot: Mutex<Slot>,
    limits: BatchLimits,
    filled: Notify,
    taken: Notify,
}

impl Hopper {
    /// An empty one. A batch may pass the limits by the last chunk that was put in.
    #[must_use]
    pub fn new(limits: BatchLimits) -> Self {
        Self { slot: Mutex::default(), limits, filled: Notify::new(), taken: Notify::new() }
    }

    /// Waits until there is room, and says for how many records. None when nobody takes batches any more. Cancel safe.
    pub async fn room(&self) -> Option<usize> {
        loop {
            let taken = self.taken.notified();
            {
                let slot = self.lock();
                if slot.closed {
                    return None;
                }
                if !self.is_full(&slot.batch) {
                    return Some(self.limits.records_max.saturating_sub(slot.batch.len()).max(1));
                }
            }
            taken.await;
        }
    }

    /// Waits until no batch is put in any more. Cancel safe.
    pub async fn closed(&self) {
        loop {
            let taken = self.taken.notified();
            if self.lock().closed {
                return;
            }
            taken.await;
        }
    }

    /// Puts the records that follow behind what is there, with the memory that they take.
    pub fn put(&self, chunk: Batch, share: Share) {
        let mut slot = self.lock();
        slot.batch.append(chunk);
        slot.share.merge(share);
        drop(slot);
        self.filled.notify_one();
    }

    /// No batch is put in, or taken, any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
        self.taken.notify_one();
    }

    /// Waits for records and takes them. A batch that is not full waits for more for as long as the limits say. None when the
    /// intake has ended and everything is taken. Cancel safe.
    pub async fn take(&self) -> Option<(Batch, Share)> {
        let mut waited = self.limits.wait.is_zero();
        loop {
            let filled = self.filled.notified();
            {
                let mut slot = self.lock();
                if !slot.batch.is_empty() && (waited || slot.closed || self.is_full(&slot.batch)) {
                    let taken = (std::mem::take(&mut slot.batch), std::mem::take(&mut slot.share));
                    self.taken.notify_one();
                    return Some(taken);
                }
                if slot.closed {
                    return None;
                }
                if !slot.batch.is_empty() {
                    waited = true;
                }
            }
            if waited {
                self.until_full(self.limits.wait).await;
            } else {
                filled.await;
            }
        }
    }

    async fn until_full(&self, wait: Duration) {
        let full = async {
            loop {
                let filled = self.filled.notified();
                if self.is_full(&self.lock().batch) {
                    return;
                }
                filled.await;
            }
        };
        // Over the time or not: what is there is taken then.
        let _ = tokio::time::timeout(wait, full).await;
    }

    const fn is_full(&self, batch: &Batch) -> bool {
        batch.len() >= self.limits.records_max || batch.size_bytes() >= self.limits.bytes_max
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        // Nothing that holds the lock can leave a batch half appended: appending moves vectors and does not fail.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use contracts::{LogKey, RecordBatch};
    use domain::coupon::LogIncarnation;

    use super::*;

    fn chunk(from: i64, count: i64) -> Batch {
        let mut raw = RecordBatch::new();
        for offset in from..from + count {
            raw.push((0, offset, 1), Some(b"c"), Some(br#"{"userId":"u","couponId":"c"}"#), []);
        }
        let log = LogIncarnation { cluster_id: "c".to_owned(), topic_id: "t".to_owned() };
        Batch::read(raw, &LogKey::parse("a-secret-that-is-long-enough-for-this").unwrap(), &log)
    }

    fn hopper(records_max: usize, wait: Duration) -> Hopper {
        Hopper::new(BatchLimits { records_max, bytes_max: 1 << 20, wait })
    }

    #[tokio::test]
    async fn what_gathers_is_taken_together_and_in_order() {
        let hopper = hopper(10, Duration::ZERO);
        hopper.put(chunk(5, 3), Share::default());
        hopper.put(chunk(8, 4), Share::default());
        assert_eq!(hopper.room().await, Some(3));
        let (batch, _) = hopper.take().await.unwrap();
        let whole = batch.whole();
        assert_eq!((whole.from, whole.to, whole.records().len()), (5, 12, 7));
        for offset in 5..12 {
            assert_eq!(batch.raw_at(offset).unwrap().offset, offset);
        }
        let (first, second) = whole.halves().unwrap();
        assert_eq!((first.len(), second.len(), first.to), (3, 4, second.from));
        hopper.close();
        assert!(hopper.take().await.is_none() && hopper.room().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_waits_for_company_and_a_full_one_does_not() {
        let hopper = hopper(4, Duration::from_secs(1));
        let started = tokio::time::Instant::now();
        hopper.put(chunk(0, 4), Share::default());
        assert_eq!(hopper.take().await.unwrap().0.len(), 4);
        assert_eq!(started.elapsed(), Duration::ZERO);
        hopper.put(chunk(4, 1), Share::default());
        assert_eq!(hopper.take().await.unwrap().0.len(), 1);
        assert_eq!(started.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test]
    async fn the_intake_waits_while_it_is_full() {
        let hopper = hopper(2, Duration::ZERO);
        hopper.put(chunk(0, 2), Share::default());
        let (room, batch) = futures::join!(hopper.room(), hopper.take());
        assert_eq!((room, batch.unwrap().0.len()), (Some(2), 2));
    }
}
