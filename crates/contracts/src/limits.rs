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
