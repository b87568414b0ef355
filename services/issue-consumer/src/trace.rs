//! One trace from the HTTP request to the database's commit and to the event of the outcome: the traces of a batch's requests, and a span
//! that links to them.

use contracts::TraceParent;
use tracing::Span;

use crate::batch::Batch;

/// To how many traces the span of a batch links.
const LINKS_MAX: usize = 128;

/// The traces of requests, by the offsets of the records that were decided. Only those that somebody records are kept: the others cost nothing
/// to carry on, but would have to be stored with each row of the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces(Vec<(i64, TraceParent)>);

impl Traces {
    /// Adds the trace of the record at `offset`, which stands behind all that are there.
    pub fn push(&mut self, offset: i64, trace: TraceParent) {
        self.0.push((offset, trace));
    }

    /// Adds what stands behind all that are there.
    pub fn append(&mut self, later: &mut Self) {
        self.0.append(&mut later.0);
    }

    /// The trace of the record at `offset`.
    #[must_use]
    pub fn at(&self, offset: i64) -> Option<TraceParent> {
        let index = self.0.binary_search_by_key(&offset, |(offset, _)| *offset).ok()?;
        self.0.get(index).map(|(_, trace)| *trace)
    }

    /// Those of the records from `from` to before `to`.
    #[must_use]
    pub fn within(&self, from: i64, to: i64) -> Self {
        let index = |bound: i64| self.0.partition_point(|(offset, _)| *offset < bound);
        Self(self.0.get(index(from)..index(to)).unwrap_or_default().to_vec())
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = TraceParent> {
        self.0.iter().map(|(_, trace)| *trace)
    }
}

impl FromIterator<(i64, TraceParent)> for Traces {
    /// In any order.
    fn from_iter<I: IntoIterator<Item = (i64, TraceParent)>>(traces: I) -> Self {
        let mut traces: Vec<_> = traces.into_iter().collect();
        traces.sort_unstable_by_key(|(offset, _)| *offset);
        Self(traces)
    }
}

/// A span around the decision of a batch: a part of the trace of the first request that is recorded, with links to all of them. A span can have
/// one parent only, and one that begins a trace of its own would mostly be sampled away. Where no request is recorded, there is none.
#[must_use]
pub fn batch_span(batch: &Batch, partition: i32) -> Span {
    if !service_kit::trace::enabled() {
        return Span::none();
    }
    let Some(first) = batch.traces().iter().next() else { return Span::none() };
    let span = tracing::info_span!("decide_batch", partition, records = batch.len());
    service_kit::trace::continue_from(&span, &first.to_string());
    for trace in batch.traces().iter().take(LINKS_MAX) {
        service_kit::trace::link_to(&span, &trace.to_string());
    }
    span
}
