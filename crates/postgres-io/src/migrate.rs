//! The schema, run by its own job (`trueup migrate`), never by the first pod that starts.

use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::{
    connect::{ConnectError, raw_client},
    settings::PostgresSettings,
};

/// The folder migrations/, as it was when this was built.
const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../migrations");

/// Held while migrations run, so that two jobs at the same time are harmless. Any number that nobody else uses.
const LOCK: i64 = 0x7472_7565_7570;

/// Migrations may build indexes: they get this long, in milliseconds, instead of a statement's usual time.
const STATEMENT_TIMEOUT_MS: u64 = 600_000;

/// Why the schema is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// diesel does not take the connection.
    #[error("no connection: {0}")]
    Connection(#[from] diesel::ConnectionError),
    /// The lock cannot be had.
    #[error("the lock for migrations: {0}")]
    Lock(#[from] diesel::result::Error),
    /// A migration fails; it is rolled back.
    #[error("a migration failed: {0}")]
    Migration(String),
    /// The migrating thread ended without a result.
    #[error("the migration was cut off")]
    CutOff,
}

/// Brings the schema up to date; the versions that it applied, none if it was. The session's end gives the lock back. Needs a
/// multi-threaded tokio runtime.
///
/// # Errors
/// [`MigrateError`].
pub async fn migrate(settings: &PostgresSettings) -> Result<Vec<String>, MigrateError> {
    let settings = PostgresSettings {
        statement_timeout_ms: STATEMENT_TIMEOUT_MS,
        lock_timeout_ms: STATEMENT_TIMEOUT_MS,
        ..settings.clone()
    };
    let mut connection = AsyncPgConnection::try_from(raw_client(&settings).await?).await?;
    connection.batch_execute(&format!("SELECT pg_advisory_lock({LOCK})")).await?;
    let applied = tokio::task::spawn_blocking(move || {
        let mut harness = AsyncMigrationHarness::new(connection);
        let versions = harness.run_pending_migrations(MIGRATIONS).map_err(|error| MigrateError::Migration(error.to_string()))?;
        Ok(versions.iter().map(ToString::to_string).collect())
    });
    applied.await.map_err(|_| MigrateError::CutOff)?
}
