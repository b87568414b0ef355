//! Payment gateways (PG) behind one port. Adapters translate and nothing else: what follows from an answer is decided in `domain::payment`.

mod callback;
mod factory;
mod generic;
mod http;
pub mod port;
mod settings;
mod stripe;
pub mod tables;
mod toss;
mod words;

pub use callback::digest;
pub use factory::{BuildError, Providers};
pub use settings::{ProviderKind, ProviderSettings, SettingsProblem};
