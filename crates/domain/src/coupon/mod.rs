//! First-come-first-served coupons: what they are, what may be asked of them, and how the log decides.

mod command;
mod decide;
mod model;
mod outcome;

pub use command::{Body, Cancel, Change, Define, Record, Request, Unusable};
pub use decide::{CouponFold, Decisions, Defined, FoldState, Forward, Here, NewRow, decide};
pub use model::{Admission, Coupon, CouponStatus, LogIncarnation, Place};
pub use outcome::{CommandKind, CommandOutcome, CommandRow, LedgerRow, Outcome, Refusal, RequestStatus, Told};
