//! The span of a batch. It links to the requests in it, so that one trace leads from the HTTP request to the database's commit.

use tracing::Span;

use crate::batch::Batch;

/// A span around the decision of a batch: a part of the trace of the first request that is recorded, with links to all of them. A span can have
/// one parent only, and one that begins a trace of its own would mostly be sampled away. Where no request is recorded, there is none.
#[must_use]
pub fn batch_span(batch: &Batch, partition: i32) -> Span {
    let Some(first) = batch.traces().first().filter(|_| service_kit::trace::enabled()) else {
        return Span::none();
    };
    let span = tracing::info_span!("decide_batch", partition, records = batch.len());
    service_kit::trace::continue_from(&span, &first.to_string());
    for trace in batch.traces() {
        service_kit::trace::link_to(&span, &trace.to_string());
    }
    span
}
