//! A payment's turn as a span, whose trace goes on with the outcomes that were decided in it.

use tracing::{Span, field::Empty};

use super::claim::Claimed;

/// Around all that is done about a payment, from its claim to the claim's end. Where spans go nowhere, there is none. Ids are texts, because
/// a row that cannot be read has no others.
pub(super) fn turn(order: &str, payment: &str, provider: &str) -> Span {
    if !service_kit::trace::enabled() {
        return Span::none();
    }
    tracing::info_span!("reconcile_payment", orderId = order, paymentId = payment, provider, outcome = Empty)
}

/// The same of a claim that can be read.
pub(super) fn turn_of(claimed: &Claimed) -> Span {
    turn(claimed.order.as_str(), claimed.payment.as_str(), claimed.provider.as_str())
}
