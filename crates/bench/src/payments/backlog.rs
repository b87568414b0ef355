//! Stale orders in the database and at the simulator, and how long it takes until they are settled.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use domain::payment::Currency;
use pg_simulator::{NewPayment, Script, Simulator};
use tokio_postgres::Client;

/// How often it is looked whether all is settled.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long a backlog may take before the measurement is given up.
const LIMIT: Duration = Duration::from_secs(600);

/// A backlog of one measurement; its ids begin with `prefix`.
pub struct Backlog<'a> {
    client: &'a Client,
    prefix: String,
    orders: u32,
}

impl<'a> Backlog<'a> {
    /// Orders that were placed twenty minutes ago and paid meanwhile, one piece of one of 50 products each, in one transaction.
    ///
    /// # Errors
    /// PostgreSQL or the simulator refuses.
    pub async fn place(&self, simulator: &Simulator) -> Result<()> {
        let Self { client, prefix, orders } = self;
        let sql = format!(
            "INSERT INTO product (product_id, initial_stock, stock)
                 SELECT '{prefix}p' || n, 1000000, 1000000 FROM generate_series(0, 49) n;
             BEGIN;
             INSERT INTO customer_order (order_id, amount, currency, created_at)
                 SELECT '{prefix}' || lpad(n::text, 7, '0'), 1000, 'KRW', now() - interval '20 minutes' + n * interval '1 microsecond'
                 FROM generate_series(1, {orders}) n;
             INSERT INTO order_line (order_id, product_id, quantity)
                 SELECT '{prefix}' || lpad(n::text, 7, '0'), '{prefix}p' || (n % 50), 1 FROM generate_series(1, {orders}) n;
             INSERT INTO payment (payment_id, order_id, provider, reference, amount, currency, created_at)
                 SELECT order_id, order_id, 'generic', order_id, amount, currency, created_at
                 FROM customer_order WHERE starts_with(order_id, '{prefix}');
             COMMIT;
             ANALYZE customer_order, order_line, payment;
             CHECKPOINT"
        );
        client.batch_execute(&sql).await.context("a backlog")?;
        for reference in self.references() {
            simulator.place(NewPayment::new(reference, 1_000, Currency::KRW, Script::paid()))?;
        }
        Ok(())
    }

    /// A backlog, placed or to be placed.
    #[must_use]
    pub fn of(client: &'a Client, prefix: &str, orders: u32) -> Self {
        Self { client, prefix: prefix.to_owned(), orders }
    }

    /// What the gateway knows the payments by, in the order of their age.
    pub fn references(&self) -> impl Iterator<Item = String> + use<'_, 'a> {
        (1..=self.orders).map(|number| format!("{}{number:07}", self.prefix))
    }

    /// PostgreSQL's time: what happens later is a part of the measurement.
    ///
    /// # Errors
    /// PostgreSQL does not answer.
    pub async fn now(&self) -> Result<f64> {
        Ok(self.client.query_one("SELECT extract(epoch FROM clock_timestamp())::float8", &[]).await?.try_get(0)?)
    }

    /// Waits until all orders are completed; seconds from the beginning of the first run after `since` until the last order was completed.
    ///
    /// # Errors
    /// They are not all completed in time, or an order ended otherwise.
    pub async fn settled(&self, since: f64, replicas: i64) -> Result<f64> {
        let began = Instant::now();
        let runs = "SELECT count(*), min(extract(epoch FROM started_at))::float8 FROM payment_run
                    WHERE extract(epoch FROM started_at)::float8 >= $1::float8";
        // A run is reported when it ends. To count the orders reads them all: it is done when there is something to be seen.
        let start = loop {
            let row = self.client.query_one(runs, &[&since]).await?;
            if row.try_get::<_, i64>(0)? >= replicas && self.count("PENDING").await? == 0 {
                break row.try_get::<_, f64>(1)?;
            }
            ensure!(began.elapsed() < LIMIT, "{} orders are not settled after {LIMIT:?}", self.count("PENDING").await?);
            tokio::time::sleep(LOOK_EVERY).await;
        };
        ensure!(self.count("COMPLETED").await? == i64::from(self.orders), "not all orders were completed");
        let last = "SELECT max(extract(epoch FROM updated_at))::float8 FROM customer_order WHERE starts_with(order_id, $1)";
        let end: f64 = self.client.query_one(last, &[&self.prefix]).await?.try_get(0)?;
        Ok(end - start)
    }

    async fn count(&self, state: &str) -> Result<i64> {
        let sql = "SELECT count(*) FROM customer_order WHERE starts_with(order_id, $1) AND state = $2";
        Ok(self.client.query_one(sql, &[&self.prefix, &state]).await?.try_get(0)?)
    }
}
