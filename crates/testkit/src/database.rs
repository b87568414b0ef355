//! A database for each test, copied from one that was migrated once.

use domain::secret::Secret;
use postgres_io::PostgresSettings;
use stack::Postgres;
use tokio::sync::OnceCell;

/// The database that others are copied from.
const TEMPLATE: &str = "trueup_template";

/// Makes a migrated database and gives its address.
///
/// # Panics
/// A migration or the copy fails.
pub async fn create(server: &'static Postgres, name: &str) -> String {
    static MIGRATED: OnceCell<()> = OnceCell::const_new();
    MIGRATED.get_or_init(|| migrate_template(server)).await;
    let name = name.to_owned();
    psql(server, format!("CREATE DATABASE \"{name}\" TEMPLATE {TEMPLATE}")).await;
    server.url_of(&name)
}

async fn migrate_template(server: &'static Postgres) {
    psql(server, format!("CREATE DATABASE {TEMPLATE}")).await;
    let settings = PostgresSettings { url: Secret::new(server.url_of(TEMPLATE)), ..PostgresSettings::default() };
    postgres_io::migrate(&settings).await.expect("the template's migrations");
}

/// psql waits for its server, which must not happen on a thread that runs tests.
async fn psql(server: &'static Postgres, sql: String) {
    let run = move || server.psql("postgres", &sql).map(drop);
    tokio::task::spawn_blocking(run).await.expect("a blocking call of a test").expect("SQL of the test's set-up");
}
