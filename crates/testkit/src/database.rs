//! A database for each test, copied from one that was migrated once.

use std::fs;

use stack::{Postgres, paths};
use tokio::sync::OnceCell;

/// The database that others are copied from.
const TEMPLATE: &str = "trueup_template";

/// Makes a migrated database and gives its address.
///
/// # Panics
/// A migration or the copy fails.
pub async fn create(server: &'static Postgres, name: &str) -> String {
    static MIGRATED: OnceCell<()> = OnceCell::const_new();
    MIGRATED.get_or_init(|| async { run(move || migrate_template(server)).await }).await;
    let name = name.to_owned();
    run(move || {
        // Copying takes a lock on the template; PostgreSQL waits for it by itself.
        server.psql("postgres", &format!("CREATE DATABASE \"{name}\" TEMPLATE {TEMPLATE}")).expect("a copy of the template");
        server.url_of(&name)
    })
    .await
}

fn migrate_template(server: &Postgres) {
    server.psql("postgres", &format!("CREATE DATABASE {TEMPLATE}")).expect("a template");
    let folder = paths::workspace().expect("the workspace").join("migrations");
    let mut migrations: Vec<_> =
        fs::read_dir(folder).expect("migrations").flatten().map(|entry| entry.path().join("up.sql")).collect();
    migrations.sort();
    for migration in migrations.iter().filter(|file| file.is_file()) {
        let sql = fs::read_to_string(migration).expect("a migration");
        server.psql(TEMPLATE, &sql).unwrap_or_else(|error| panic!("{}: {error:#}", migration.display()));
    }
}

async fn run<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(call).await.expect("a blocking call of a test")
}
