//! The span of a batch. It links to the requests in it, so that one trace leads from the HTTP request to the database's commit.

use tracing::Span;

use crate::batch::Batch;

/// A span around the decision of a batch. Without a collector no trace parents are kept, and there is no span.
#[must_use]
pub fn batch_span(batch: &Batch, partition: i32) -> Span {
    if !service_kit::trace::enabled() {
        return Span::none();
    }
    let span = tracing::info_span!("decide_batch", partition, records = batch.len());
    for trace in batch.traces() {
        service_kit::trace::link_to(&span, &trace.to_string());
    }
    span
}
