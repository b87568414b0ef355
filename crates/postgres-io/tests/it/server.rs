//! One server for all tests of this binary, a migrated database for each.

use std::{
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicU32, Ordering},
};

use domain::secret::Secret;
use postgres_io::{PostgresSettings, migrate, raw_client};
use stack::{Lifetime, Postgres, ports, postgres::Durability};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio_postgres::Client;

static SERVER: OnceCell<(Postgres, TempDir)> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Settings of a new, migrated database.
pub async fn database() -> PostgresSettings {
    let (server, _) = SERVER.get_or_init(start).await;
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    server.psql("postgres", &format!("CREATE DATABASE {name}")).unwrap();
    let settings = PostgresSettings { url: Secret::new(server.url_of(&name)), ..PostgresSettings::default() };
    migrate(&settings).await.unwrap();
    settings
}

async fn start() -> (Postgres, TempDir) {
    tokio::task::spawn_blocking(|| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let server =
            Postgres::start(&folder.path().join("pg"), ports::free().unwrap(), Durability::ProcessDeath, Lifetime::Owned)
                .unwrap();
        (server, folder)
    })
    .await
    .unwrap()
}

/// A client on a new, migrated database that holds a coupon `c` of two seats.
pub async fn with_coupon() -> Client {
    let client = raw_client(&database().await).await.unwrap();
    let coupon = "INSERT INTO coupon (coupon_code, name, admission, partition, total_quantity, rules_offset, defined_by) \
                  VALUES ('c', 'C', 'queued', 0, 2, 0, 'test')";
    client.batch_execute(coupon).await.unwrap();
    client
}
