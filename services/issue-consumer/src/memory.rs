//! The memory that all partitions of a process share: for records in work, and for events under way.
//!
//! A busy partition may use all of it while the others are idle; several busy ones share. Each partition may always hold one chunk of
//! records without asking, so that none of them waits for another to get on.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a record takes beside its own bytes while it is in work: the decoded record, what the fold looks up for it, its row, and that row
/// on its way into COPY.
const RECORD_BYTES: usize = 1_000;
/// What a row takes that waits for a follower.
const ROW_BYTES: usize = 300;
/// What an event takes that waits for its acknowledgement, with the client's own structures.
const EVENT_BYTES: usize = 1_300;
/// The part of the memory that events have.
const EVENTS_PART: usize = 4;
/// The unit of the semaphore, so that its numbers stay small.
const UNIT_BYTES: usize = 1_024;

/// The memory of one process.
#[derive(Debug)]
pub struct Memory {
    records: Arc<Semaphore>,
    record_units: u32,
    events: Arc<Semaphore>,
    events_max: u32,
}

impl Memory {
    /// Memory for so many bytes: three parts for records, one for events.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let for_events = bytes_max / EVENTS_PART;
        let events_max = small(for_events / EVENT_BYTES).max(1);
        let record_units = small(bytes_max.saturating_sub(for_events) / UNIT_BYTES).max(1);
        Self { records: semaphore(record_units), record_units, events: semaphore(events_max), events_max }
    }

    /// How many events may be under way at a time, over all partitions.
    #[must_use]
    pub const fn events_max(&self) -> u32 {
        self.events_max
    }

    /// Room for `count` events (no more than there can be), if there is any now.
    #[must_use]
    pub fn try_events(&self, count: usize) -> Option<OwnedSemaphorePermit> {
        self.events.clone().try_acquire_many_owned(small(count).min(self.events_max)).ok()
    }

    /// Waits for room for `count` events (no more than there can be). Hold no other room meanwhile.
    pub async fn events(&self, count: usize) -> Option<OwnedSemaphorePermit> {
        self.events.clone().acquire_many_owned(small(count).min(self.events_max)).await.ok()
    }
}

fn semaphore(permits: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(usize::try_from(permits).unwrap_or(1)))
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX).min(1 << 28)
}

/// One partition's way to the memory.
#[derive(Debug, Clone)]
pub struct PartitionMemory {
    memory: Arc<Memory>,
    own: Arc<Semaphore>,
}

impl PartitionMemory {
    /// A partition's way to `memory`.
    #[must_use]
    pub fn new(memory: Arc<Memory>) -> Self {
        Self { memory, own: semaphore(1) }
    }

    /// Waits for the memory of a chunk of `records` whose bytes are `bytes`; if others have it all, until this partition holds no other
    /// chunk without it. Cancel safe.
    pub async fn take(&self, records: usize, bytes: usize) -> Share {
        let bytes = bytes.saturating_add(records.saturating_mul(RECORD_BYTES));
        let units = small(bytes / UNIT_BYTES).min(self.memory.record_units);
        // Neither semaphore is ever closed; if one were, the chunk would go without its share.
        tokio::select! {
            biased;
            shared = self.memory.records.clone().acquire_many_owned(units) => Share { shared: shared.ok(), own: None },
            own = self.own.clone().acquire_owned() => Share { shared: None, own: own.ok() },
        }
    }
}

/// Memory that is taken, given back when it is dropped.
#[derive(Debug, Default)]
pub struct Share {
    shared: Option<OwnedSemaphorePermit>,
    own: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Takes another share of the same memory into this one.
    pub fn merge(&mut self, other: Self) {
        match (&mut self.shared, other.shared) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (mine @ None, theirs) => *mine = theirs,
            (Some(_), None) => {}
        }
        self.own = self.own.take().or(other.own);
    }

    /// Splits off what `rows` rows take that go on without their records; what was taken without asking stays behind.
    #[must_use]
    pub fn for_rows(&mut self, rows: usize) -> Self {
        let units = rows.saturating_mul(ROW_BYTES) / UNIT_BYTES;
        let shared = self.shared.as_mut().and_then(|mine| {
            let units = units.min(mine.num_permits());
            mine.split(units)
        });
        Self { shared, own: None }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_partition_may_have_it_all_and_another_still_gets_on() {
        let memory = Arc::new(Memory::new(4 * 100 * UNIT_BYTES));
        let (busy, late) = (PartitionMemory::new(memory.clone()), PartitionMemory::new(memory));
        let mut all = busy.take(0, 299 * UNIT_BYTES).await;
        assert!(all.own.is_none());
        // The second chunk of the busy one is its own, and a third one has to wait.
        let own = busy.take(0, 2 * UNIT_BYTES).await;
        assert!(own.own.is_some() && busy.take(0, 2 * UNIT_BYTES).now_or_never().is_none());
        let first = late.take(0, 2 * UNIT_BYTES).await;
        assert!(first.own.is_some() && late.take(0, 2 * UNIT_BYTES).now_or_never().is_none());
        // What goes back is there for whoever waits.
        let rows = all.for_rows(200);
        assert_eq!(rows.shared.as_ref().unwrap().num_permits(), 200 * ROW_BYTES / UNIT_BYTES);
        drop(all);
        let second = late.take(0, 100 * UNIT_BYTES).await;
        assert_eq!(second.shared.as_ref().unwrap().num_permits(), 100);
        let mut merged = first;
        merged.merge(second);
        assert!(merged.own.is_some() && merged.shared.is_some());
    }

    #[tokio::test]
    async fn nobody_waits_for_more_than_there_is() {
        let memory = Arc::new(Memory::new(4 * 10 * UNIT_BYTES));
        let partition = PartitionMemory::new(memory.clone());
        assert_eq!(partition.take(1_000_000, 0).await.shared.unwrap().num_permits(), 30);
        let events = memory.events(1_000_000).await.unwrap();
        assert!(memory.try_events(1).is_none());
        drop(events);
        assert!(memory.try_events(1).is_some());
    }
}
