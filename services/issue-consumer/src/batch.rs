//! A batch: consecutive records of one partition, read, and cut into what can be decided and what cannot be used.

use std::collections::BTreeMap;

use contracts::{Decoded, LogKey, RawRecord, RecordBatch, Unusable, decode};
use domain::coupon::{Body, LogIncarnation, Record};

use crate::trace::Traces;

/// Raw records as they were fetched, chunk by chunk, with the index of each chunk's first record.
#[derive(Debug, Default)]
struct Chunks {
    chunks: Vec<(usize, RecordBatch)>,
    len: usize,
    bytes: usize,
}

impl Chunks {
    fn push(&mut self, chunk: RecordBatch) {
        if chunk.is_empty() {
            return;
        }
        let base = self.len;
        self.len = self.len.saturating_add(chunk.len());
        self.bytes = self.bytes.saturating_add(chunk.size_bytes());
        self.chunks.push((base, chunk));
    }

    fn get(&self, index: usize) -> Option<RawRecord<'_>> {
        let chunk = self.chunks.partition_point(|(base, _)| *base <= index).checked_sub(1)?;
        let (base, chunk) = self.chunks.get(chunk)?;
        chunk.get(index.saturating_sub(*base))
    }
}

/// Consecutive records of one partition.
#[derive(Debug, Default)]
pub struct Batch {
    raw: Chunks,
    records: Vec<Record>,
    unusable: BTreeMap<i64, Unusable>,
    traces: Traces,
}

impl Batch {
    /// Reads the records.
    #[must_use]
    pub fn read(raw: RecordBatch, log_key: &LogKey, log: &LogIncarnation) -> Self {
        let mut batch = Self { records: Vec::with_capacity(raw.len()), ..Self::default() };
        for record in raw.iter() {
            if let Some(trace) = record.recorded_trace() {
                batch.traces.push(record.offset, trace);
            }
            match decode(&record, log_key, log) {
                Decoded::Usable(usable) => batch.records.push(usable),
                Decoded::Unusable(unusable) => {
                    batch.records.extend(final_by_id(&record, &unusable));
                    batch.unusable.insert(record.offset, unusable);
                }
            }
        }
        batch.raw.push(raw);
        batch
    }

    /// Puts `later`, which follows in the log, behind this one.
    pub fn append(&mut self, mut later: Self) {
        for (_, chunk) in later.raw.chunks {
            self.raw.push(chunk);
        }
        self.records.append(&mut later.records);
        self.unusable.append(&mut later.unusable);
        self.traces.append(&mut later.traces);
    }

    /// How many bytes of keys, values and headers it holds.
    #[must_use]
    pub const fn size_bytes(&self) -> usize {
        self.raw.bytes
    }

    /// All of it.
    #[must_use]
    pub fn whole(&self) -> Slice<'_> {
        let from = self.raw.get(0).map_or(0, |record| record.offset);
        let to = self.raw.get(self.raw.len.saturating_sub(1)).map_or(0, |record| record.offset.saturating_add(1));
        Slice { batch: self, from, to }
    }

    /// How many records it holds, usable or not.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.raw.len
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.raw.len == 0
    }

    /// The traces of its records, as far as somebody records them.
    #[must_use]
    pub const fn traces(&self) -> &Traces {
        &self.traces
    }

    /// The record at `offset` as it was read.
    #[must_use]
    pub fn raw_at(&self, offset: i64) -> Option<RawRecord<'_>> {
        self.raw.get(self.index_of(offset)).filter(|record| record.offset == offset)
    }

    /// The index of the first record at or after `offset`.
    fn index_of(&self, offset: i64) -> usize {
        let (mut low, mut high) = (0, self.raw.len);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.raw.get(middle).is_some_and(|record| record.offset < offset) {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        low
    }
}

/// A record that cannot be used still makes its request final, if it can be read which one it is.
fn final_by_id(raw: &RawRecord<'_>, unusable: &Unusable) -> Option<Record> {
    let (coupon, id) = (unusable.coupon.clone()?, unusable.request?);
    let body = Body::Unusable(domain::coupon::Unusable { id, coupon, member: unusable.member.clone() });
    Some(Record { place: raw.place(), at: domain::clock::Timestamp::from_unix_ms(raw.timestamp_ms), body })
}

/// A part of a batch that is decided in one transaction.
#[derive(Debug, Clone, Copy)]
pub struct Slice<'a> {
    batch: &'a Batch,
    /// The offset of its first record.
    pub from: i64,
    /// The offset behind its last record: the decided position after it.
    pub to: i64,
}

impl<'a> Slice<'a> {
    /// The batch that it is a part of.
    #[must_use]
    pub const fn batch(&self) -> &'a Batch {
        self.batch
    }

    /// The records that can be decided, in order.
    #[must_use]
    pub fn records(&self) -> &'a [Record] {
        let start = self.batch.records.partition_point(|record| record.place.offset < self.from);
        let end = self.batch.records.partition_point(|record| record.place.offset < self.to);
        self.batch.records.get(start..end).unwrap_or_default()
    }

    /// The traces of its records, as far as somebody records them.
    #[must_use]
    pub fn traces(&self) -> Traces {
        self.batch.traces.within(self.from, self.to)
    }

    /// The records that cannot be used, by offset.
    pub fn unusable(&self) -> impl Iterator<Item = (i64, &'a Unusable)> + use<'a> {
        self.batch.unusable.range(self.from..self.to).map(|(offset, unusable)| (*offset, unusable))
    }

    /// The offset of its first record; `from` may lie in a gap before it.
    #[must_use]
    pub fn first_offset(&self) -> i64 {
        self.batch.raw.get(self.batch.index_of(self.from)).map_or(self.from, |record| record.offset)
    }

    /// How many records it holds, usable or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batch.index_of(self.to).saturating_sub(self.batch.index_of(self.from))
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Two halves with at least one record each; none if it has only one.
    #[must_use]
    pub fn halves(&self) -> Option<(Self, Self)> {
        let (start, end) = (self.batch.index_of(self.from), self.batch.index_of(self.to));
        if end.saturating_sub(start) < 2 {
            return None;
        }
        let cut = self.batch.raw.get(usize::midpoint(start, end))?.offset;
        Some((Self { to: cut, ..*self }, Self { from: cut, ..*self }))
    }

    /// The same records from `from` on; what is before was decided already.
    #[must_use]
    pub fn starting_at(&self, from: i64) -> Self {
        Self { from: from.clamp(self.from, self.to), ..*self }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use contracts::{Envelope, TraceParent, encode_request};
    use domain::{
        clock::Timestamp,
        coupon::Request,
        ids::{CouponCode, MemberId, RequestId},
    };

    use super::*;

    #[test]
    fn traces_are_kept_where_they_are_recorded_and_found_by_their_place() {
        let key = LogKey::parse("a-secret-that-is-long-enough-for-this").unwrap();
        let log = LogIncarnation { cluster_id: "c".to_owned(), topic_id: "t".to_owned() };
        let trace = |n: u8| TraceParent { trace_id: u128::from(n) + 1, span_id: 7, flags: n % 2 };
        let read = |numbers: std::ops::Range<u8>| {
            let mut raw = RecordBatch::new();
            for n in numbers {
                let coupon = CouponCode::new("c").unwrap();
                let member = MemberId::new(format!("m{n}")).unwrap();
                let id = RequestId::from_idempotency_key(&coupon, &member, "k");
                let envelope = Envelope { source: "/t", time: Timestamp::default(), trace_parent: Some(trace(n)) };
                let record = encode_request(&Request { id, coupon, member, admitted: false }, None, &key, &envelope);
                raw.push_raw(&record.at(0, i64::from(n), 1));
            }
            Batch::read(raw, &key, &log)
        };
        let mut both = read(0..10);
        both.append(read(10..20));
        for n in 0..20 {
            assert_eq!(both.traces().at(i64::from(n)), Some(trace(n)).filter(|trace| trace.sampled()), "{n}");
        }
        let some: Vec<TraceParent> = both.traces().within(5, 11).iter().collect();
        assert_eq!(some, [trace(5), trace(7), trace(9)]);
        assert_eq!(both.traces().within(20, 30), Traces::default());
    }
}
