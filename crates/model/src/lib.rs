//! The coupon line as two models, whose every order of events [stateright] explores.
//!
//! [`mod@line`] is the whole line: members, gate, log, fold, settlers, reconcilers and what may befall them; the database is one atomic thing in it.
//! [`books`] is that database seen from within: transactions, locks and what a statement sees, so that it may be one atomic thing in the other.
//! Both decide by the domain's own [`domain::coupon::decide`]. Each step names the code that it stands for; `docs/model.md` has the table.
#![allow(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::expect_used,
    reason = "a model is a test: its numbers are tiny, and an index out of bounds has to stop it"
)]

pub mod books;
pub mod check;
pub mod fold;
pub mod gate;
pub mod line;
