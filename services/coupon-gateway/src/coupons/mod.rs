//! The coupons that this process holds, and what it may answer about them by itself.

mod cache;
mod fingerprints;
mod refresh;
mod view;

pub use cache::{CouponCache, Unknown};
pub use fingerprints::{Fingerprinter, Fingerprints};
pub use refresh::Refresher;
pub use view::{CouponView, Outside, SoldOut};
