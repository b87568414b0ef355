//! A payment gateway (PG) to try things with. It speaks three dialects (the generic HTTP contract, Toss Payments, Stripe), answers by a script
//! for each payment, and keeps a ledger of money in which doubles show.
//!
//! As a binary it is `pg-simulator`; in tests it runs inside the process: [`Simulator::start`].

mod account;
mod admin;
mod callbacks;
mod control;
mod dialect;
mod faults;
mod ledger;
mod load;
mod payment;
mod respond;
mod script;
mod server;
mod state;

pub use callbacks::{CallbackSettings, CallbackTarget};
pub use control::{Control, ControlError, Counts, Money, PaymentView};
pub use faults::{Congestion, Latency, Outage};
pub use ledger::{By, Entry, EntryKind};
pub use payment::{NewPayment, RefundView};
pub use script::{Answer, Call, Fault, FaultRule, Method, RefundScript, Script, Step};
pub use server::{Options, Simulator};
pub use state::{Dialect, Limits};
