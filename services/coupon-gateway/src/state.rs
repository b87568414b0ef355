//! What every handler can reach, shared by all worker threads.

use std::sync::Arc;

use contracts::LogKey;
use domain::clock::Clock;
use kafka_io::CommandProducer;
use postgres_io::Db;

use crate::{admin::Admin, config::Settings, identity::Identity, limits::Limits};

/// What every handler can reach, shared by all worker threads.
pub struct AppState {
    /// The settings that the process was started with.
    pub settings: Settings,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// PostgreSQL.
    pub db: Db,
    /// Appends to the log.
    pub producer: Arc<CommandProducer>,
    /// Signs records of the log.
    pub log_key: LogKey,
    /// Who is asking.
    pub identity: Identity,
    /// How often one may ask.
    pub limits: Limits,
    /// The operators and their tokens.
    pub admin: Admin,
}
