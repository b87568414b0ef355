//! The gateway's transaction list against the book, both ways.
//!
//! Each line of the list has to be in the book: money of payments that nobody knows here, refunds that were made at the gateway's own dashboard,
//! and amounts that differ are found. Each entry of the book has to be in the list, or the gateway has to say so when it is asked about
//! the payment itself, because lists come late. What cannot be read to its end is never called clean.

mod auditor;
mod book;
mod compare;
mod list;
mod nightly;
mod nights;
mod settings;
mod store;
mod totals;

pub use auditor::{AuditReport, Auditor, Span, VERDICTS, Wish};
pub use compare::{Difference, Entry, Line, compare};
pub use nightly::Nightly;
pub use nights::overdue;
pub use settings::AuditSettings;
pub use totals::{DayTotal, totals};
