//! The Redis gate: a fast guess in front of the log, which alone decides.
//!
//! Every write goes through one of the scripts in `lua/`, and each of them first asks the server for its run id: a gate that
//! was opened under another one is *cold* and gives no answers, because a restart may have brought an old file back.
//!
//! | script | by | does nothing unless |
//! | --- | --- | --- |
//! | reserve | gateway | the gate is open under this run id |
//! | release | the call that reserved | it is that very reservation, and nobody was handed it since |
//! | | reconciler, giving up | it is that very reservation |
//! | settle | settler | it starts at the gate's cursor (else it gets that cursor back) |
//! | `begin_load` | reconciler | the gate is cold |
//! | shut | reconciler | the gate is open at the cursor that was judged |
//! | load, open | reconciler | its token is still there, and the run id is the one it began under |
//! | add | reconciler | the gate is open under this run id |
//! | remove | reconciler | the cursor is not past the snapshot it judged by, and the member is not pending |
//! | holds, `pending_of`, status | reconciler, gateway | (they write nothing) |
//! | `pending_older_than` | reconciler | the gate is open under this run id |

mod compare;
mod connection;
mod error;
mod gate;
mod inspect;
pub mod keys;
mod maintain;
mod release;
mod reply;
mod script;
mod settings;

pub use compare::{Removal, Step};
pub use domain::failure::ErrorKind;
pub use error::GateError;
pub use gate::{Gate, GateRules, RESERVE_MEMBERS_MAX, Reserve, SETTLE_ITEMS_MAX, Settle, SettleItem, SettleKind};
pub use inspect::Held;
pub use maintain::{GateState, GateStatus, LOAD_MEMBERS_MAX, LoadToken, PENDING_PAGE_MAX};
pub use release::Reservation;
pub use settings::RedisSettings;
