//! Names of topics, headers and event types. They are wire format: a change breaks what is in the logs.

/// The log of commands, by its default name. Key: coupon code. `LogAppendTime`.
pub const TOPIC_CREATED: &str = "coupon_created";
/// Outcomes that gave a coupon. Key: coupon code.
pub const TOPIC_ISSUED: &str = "coupon_issued";
/// Outcomes that did not. Key: coupon code.
pub const TOPIC_REJECTED: &str = "coupon_rejected";
/// Records of the log that could not be used, with their cause.
pub const TOPIC_DEAD_LETTER: &str = "coupon_created_dlt";
/// Orders whose payments are to be looked after. Key: order id. `LogAppendTime`.
pub const TOPIC_ORDER_PLACED: &str = "order_placed";
/// Orders that could not be used, with their cause.
pub const TOPIC_ORDER_PLACED_DEAD_LETTER: &str = "order_placed_dlt";
/// What became of orders and their payments. One topic, so that an order's outcomes stay in their order. Key: order id.
pub const TOPIC_PAYMENT_OUTCOME: &str = "payment_outcome";
/// Partitions of each topic unless settings say otherwise.
pub const PARTITIONS_DEFAULT: i32 = 12;

/// `CloudEvents`: version of the envelope.
pub const CE_SPECVERSION: &str = "ce_specversion";
/// `CloudEvents`: the event's id; for requests and commands, their own id.
pub const CE_ID: &str = "ce_id";
/// `CloudEvents`: the full name of the protobuf message.
pub const CE_TYPE: &str = "ce_type";
/// `CloudEvents`: who wrote it.
pub const CE_SOURCE: &str = "ce_source";
/// `CloudEvents`: when it was written, RFC 3339. Rules never read it; they read the broker's append time.
pub const CE_TIME: &str = "ce_time";
/// Media type of the value.
pub const CONTENT_TYPE: &str = "content-type";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// base64url of the HMAC-SHA256 over event type, event id, key and value.
pub const SIGNATURE: &str = "trueup-signature";
/// On a forwarded foreign record: the request id it got where it first landed.
pub const REQUEST_ID: &str = "trueup-request-id";
/// On a forwarded record or dead letter: where the record first landed, as `partition@offset`.
pub const ORIGIN: &str = "trueup-origin";
/// On a dead letter: where in the log it was refused, as `partition@offset`.
pub const PLACE: &str = "trueup-place";
/// On a dead letter: the cause, a stable code.
pub const CAUSE: &str = "trueup-cause";
/// On a dead letter: the cause in words.
pub const CAUSE_DETAIL: &str = "trueup-cause-detail";
/// How many bytes the value had of a record that was too large for the dead letter topic, and went there without it.
pub const VALUE_BYTES: &str = "trueup-value-bytes";

/// Value of [`CE_SPECVERSION`].
pub const SPECVERSION: &str = "1.0";
/// Value of [`CONTENT_TYPE`] on our own records.
pub const PROTOBUF: &str = "application/protobuf";

/// A member asks for a coupon.
pub const TYPE_REQUEST: &str = "trueup.coupon.v1.CouponIssueRequestEvent";
/// An operator defines a coupon.
pub const TYPE_DEFINE: &str = "trueup.coupon.v1.DefineCoupon";
/// An operator changes a coupon.
pub const TYPE_CHANGE: &str = "trueup.coupon.v1.ChangeCoupon";
/// An operator cancels a request.
pub const TYPE_CANCEL: &str = "trueup.coupon.v1.CancelRequest";
/// A member has the coupon.
pub const TYPE_ISSUED: &str = "trueup.coupon.v1.CouponIssued";
/// A member did not get the coupon.
pub const TYPE_REJECTED: &str = "trueup.coupon.v1.CouponRejected";
/// An order was placed.
pub const TYPE_ORDER_PLACED: &str = "trueup.order.v1.OrderPlaced";
/// An order is paid and its stock is taken.
pub const TYPE_ORDER_COMPLETED: &str = "trueup.payment.v1.OrderCompleted";
/// An order will never be completed.
pub const TYPE_ORDER_FAILED: &str = "trueup.payment.v1.OrderFailed";
/// Money is back at the payer.
pub const TYPE_PAYMENT_REFUNDED: &str = "trueup.payment.v1.PaymentRefunded";
/// A person has to look at an order.
pub const TYPE_ORDER_NEEDS_ATTENTION: &str = "trueup.payment.v1.OrderNeedsAttention";
