//! The pool of diesel connections.

use std::time::Duration;

use diesel::ConnectionError;
use diesel_async::{
    AsyncPgConnection,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
        deadpool::{BuildError, Object, Pool, PoolError},
    },
};
use futures::FutureExt;

use crate::{connect::raw_client, settings::PostgresSettings};

/// A connection of the pool; it goes back when dropped.
pub type Connection = Object<AsyncPgConnection>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The pool cannot be made.
    #[error("the pool cannot be made: {0}")]
    Build(#[from] BuildError),
    /// The server does not answer, or all connections are in use.
    #[error("no connection to PostgreSQL: {0}")]
    Pool(#[from] PoolError),
}

/// PostgreSQL, by a bounded pool. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    pool: Pool<AsyncPgConnection>,
}

impl Db {
    /// Makes the pool. It connects at first use, so that a database that is away is no failure here.
    ///
    /// # Errors
    /// [`DbError::Build`].
    pub async fn connect(settings: &PostgresSettings) -> Result<Self, DbError> {
        let mut config = ManagerConfig::default();
        // Without a query for each check-out: a broken connection shows at its first statement, which callers have to expect anyway.
        config.recycling_method = RecyclingMethod::Fast;
        let kept = settings.clone();
        config.custom_setup = Box::new(move |_| {
            let settings = kept.clone();
            async move {
                let client = raw_client(&settings).await.map_err(|error| ConnectionError::BadConnection(error.to_string()))?;
                AsyncPgConnection::try_from(client).await
            }
            .boxed()
        });
        // The address stands in the settings that the set-up holds; the manager only passes it on.
        let manager = AsyncDieselConnectionManager::new_with_config(String::new(), config);
        let wait = Some(Duration::from_millis(settings.pool_wait_ms));
        let pool = Pool::builder(manager)
            .max_size(settings.pool_size)
            .wait_timeout(wait)
            .create_timeout(Some(Duration::from_millis(settings.connect_timeout_ms)))
            .runtime(deadpool::Runtime::Tokio1)
            .build()?;
        Ok(Self { pool })
    }

    /// A connection.
    ///
    /// # Errors
    /// [`DbError::Pool`], after `pool_wait_ms` or `connect_timeout_ms` at the latest.
    pub async fn conn(&self) -> Result<Connection, DbError> {
        Ok(self.pool.get().await?)
    }
}
