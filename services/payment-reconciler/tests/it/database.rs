//! A migrated database for a test, and plain clients on it.

use domain::secret::Secret;
use postgres_io::{PostgresSettings, raw_client};
use tokio_postgres::Client;

/// Settings of a new, migrated database.
pub async fn database(name: &str) -> PostgresSettings {
    let url = testkit::database::create(testkit::postgres(), &testkit::unique(name)).await;
    PostgresSettings { url: Secret::new(url), ..PostgresSettings::default() }
}

/// A client on a new, migrated database.
pub async fn client(name: &str) -> Client {
    raw_client(&database(name).await).await.unwrap()
}
