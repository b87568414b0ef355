//! The steps at which a fault drill stops, slows or kills this service; see docs/failpoints.md.

use service_kit::failpoint::Step;

/// Every step of the payment line.
pub const STEPS: &[Step] = &[
    Step::new("payment.claimed", "a payment is claimed; its gateway is not asked"),
    Step::new("payment.asked", "the gateway has answered; no transaction is open"),
    Step::new("payment.commit.before", "everything is written, order and payment are locked; COMMIT is not sent"),
    Step::new("payment.commit.done", "COMMIT is done; nothing that follows from it has begun"),
    Step::new("payment.refund.sending", "a refund is marked as being sent; it is not sent"),
    Step::new("payment.refund.sent", "the gateway has answered to a refund; its answer is not recorded"),
    Step::new(
        "payment.refund.confirming",
        "the gateway shows that the money is back, order and payment are locked; nothing says so yet",
    ),
];
