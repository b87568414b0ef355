//! A consumer in this process or as a process of its own, and SQL.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use domain::ids::CouponCode;
use issue_consumer::{Service, board::Board, config::Settings};
use stack::{Lifetime, ServiceProcess};
use testkit::{Running, World, eventually_some};
pub use testkit::{Writer, asks, change, encoded, encoded_cancel, encoded_change, member, request};

/// How long anything may take; the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The environment of a consumer in a world, to be changed.
pub fn environment(world: &World) -> BTreeMap<String, String> {
    world.consumer_environment()
}

pub fn settings(environment: &BTreeMap<String, String>) -> Settings {
    testkit::settings("ISSUE_CONSUMER", environment)
}

/// A consumer in this process.
pub struct Consumer {
    pub board: Arc<Board>,
    running: Running<anyhow::Error>,
}

impl Consumer {
    pub async fn start(world: &World) -> Self {
        Self::with(&environment(world)).await
    }

    pub async fn with(environment: &BTreeMap<String, String>) -> Self {
        testkit::show_logs();
        service_kit::install_crypto_provider();
        let service = Service::new(settings(environment)).await.expect("a consumer");
        Self { board: service.board(), running: Running::start(|cancel| service.run(cancel)) }
    }

    pub async fn stop(self) {
        self.running.stop().await;
    }
}

/// A consumer as a process of its own.
pub fn spawn(environment: &BTreeMap<String, String>, name: &str, folder: &std::path::Path) -> ServiceProcess {
    let port = stack::ports::free().expect("a port");
    let mut environment = environment.clone();
    environment.insert("ISSUE_CONSUMER__HTTP__LISTEN".to_owned(), format!("127.0.0.1:{port}"));
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_issue-consumer"));
    ServiceProcess::spawn(name, binary, &environment, port, &folder.join(format!("{name}.log")), Lifetime::Owned)
        .expect("a process")
}

/// SQL of the test's own. It connects anew when the server was restarted.
pub struct Sql {
    url: String,
    client: tokio::sync::Mutex<Option<tokio_postgres::Client>>,
}

impl Sql {
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), client: tokio::sync::Mutex::new(None) }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn try_number(&self, query: &str) -> Result<i64, String> {
        let mut slot = self.client.lock().await;
        let client = match slot.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => {
                let (client, connection) =
                    tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.map_err(|error| error.to_string())?;
                tokio::spawn(connection);
                client
            }
        };
        let row = client.query_one(query, &[]).await.map_err(|error| format!("{error:?}"))?;
        *slot = Some(client);
        Ok(row.try_get::<_, Option<i64>>(0).map_err(|error| format!("{query}: {error}"))?.unwrap_or(0))
    }

    pub async fn number(&self, query: &str) -> i64 {
        self.try_number(query).await.unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    pub async fn execute(&self, text: &str) {
        let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.expect("a connection");
        tokio::spawn(connection);
        client.batch_execute(text).await.unwrap_or_else(|error| panic!("{text}: {error:?}"));
    }

    /// Waits until the query gives the number.
    pub async fn until(&self, query: &str, number: i64) {
        eventually_some(PATIENCE, &format!("{query} = {number}"), || async {
            match self.try_number(query).await {
                Ok(found) if found == number => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }

    pub async fn rows(&self, coupon: &CouponCode) -> i64 {
        self.number(&format!("SELECT count(*) FROM coupon_request WHERE coupon_code = '{coupon}'")).await
    }

    pub async fn until_rows(&self, coupon: &CouponCode, rows: i64) {
        self.until(&format!("SELECT count(*) FROM coupon_request WHERE coupon_code = '{coupon}'"), rows).await;
    }

    pub async fn outcomes(&self, coupon: &CouponCode, outcome: &str) -> i64 {
        let query = format!("SELECT count(*) FROM coupon_request WHERE coupon_code = '{coupon}' AND outcome = '{outcome}'");
        self.number(&query).await
    }
}
