//! What became of a request: by ticket, by member, as a stream.

mod events;
mod fields;
mod handlers;

pub use events::ticket_events;
pub use fields::outcome_fields;
pub use handlers::{by_member, by_ticket, coupon, coupon_json, coupons_of_member};
