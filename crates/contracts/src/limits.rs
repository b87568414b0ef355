//! Bounds of what a record may hold. A record outside of them is unusable, not truncated.

/// The longest value that is decoded, in bytes. The largest command needs about one kilobyte.
pub const VALUE_BYTES_MAX: usize = 16 * 1024;

/// The longest coupon name, in characters.
pub const NAME_CHARS_MAX: usize = 200;

/// The longest name of an operator, in characters.
pub const ACTOR_CHARS_MAX: usize = 128;

/// The most seats a coupon can have.
pub const TOTAL_MAX: i64 = 1_000_000_000_000;

/// The longest explanation in a dead letter's header, in characters.
pub const DETAIL_CHARS_MAX: usize = 256;

/// The longest order that is decoded, in bytes: 500 lines with the longest ids fit.
pub const ORDER_BYTES_MAX: usize = 192 * 1024;

/// The most lines of an order, before equal products are summed.
pub const ORDER_LINES_MAX: usize = 500;

/// The most attempts to pay an order.
pub const ORDER_PAYMENTS_MAX: usize = 20;

/// The most pieces of one product in an order.
pub const QUANTITY_MAX: i64 = 1_000_000_000;

/// The longest name of a payment method, in characters.
pub const METHOD_CHARS_MAX: usize = 32;

/// The longest secret of a payment's deposit callbacks, in characters.
pub const DEPOSIT_SECRET_CHARS_MAX: usize = 200;
