//! `trueup drill-payments`: orders, payers, lost callbacks, the money check afterwards, and the audit of its own time.

pub mod book;
pub mod gateway;
pub mod judge;
pub mod plan;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use contracts::{Envelope, order::encode_order_placed};
use domain::clock::{Clock, SystemClock, Timestamp};
use kafka_io::{CommandProducer, ProducerSettings};
use serde::Serialize;
use serde_json::json;

use self::{
    gateway::Gateway,
    judge::{Evidence, judge},
    plan::{Fate, Plan},
};
use crate::{
    cli::DrillPaymentsArgs,
    exit::Exit,
    output,
    payments::{audit_at_rest, audited},
    pg,
    settings::Settings,
};

/// How often the drill looks whether all is at rest.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often it says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// How long the records may take to be acknowledged.
const FLUSH_LIMIT: Duration = Duration::from_secs(30);

/// Findings that are printed, at most.
const FINDINGS_SHOWN: usize = 20;

/// What came of a drill.
#[derive(Debug, Serialize)]
pub struct Report {
    /// `clean` or `difference`.
    pub verdict: &'static str,
    /// With what its ids begin.
    pub stamp: String,
    /// Orders that were placed.
    pub orders: usize,
    /// Of them completed.
    pub completed: usize,
    /// Of them failed.
    pub failed: usize,
    /// Payments that were given back.
    pub refunded: usize,
    /// Payments of which the gateway never told us anything: only asking found out.
    pub callbacks_lost: usize,
    /// From the first payer's payment until all was at rest, in seconds.
    pub seconds: f64,
    /// What must not be, in words.
    pub findings: Vec<String>,
    /// The audit of the drill's time, of each gateway's list against the book.
    pub audits: serde_json::Value,
    /// Why there was no audit.
    pub audit_reason: Option<String>,
}

/// Runs the drill and prints its report; the exit status is the verdict.
///
/// # Errors
/// Something that the drill needs cannot be reached.
pub async fn run(settings: &Settings, args: &DrillPaymentsArgs, json: bool) -> Result<Exit> {
    let (report, exit) = drill(settings, args, json).await?;
    if json {
        output::print_json(&report)?;
    } else {
        print!("{}", report.render());
    }
    Ok(exit)
}

/// Runs the drill; the exit status is the worse of the money check's and the audit's.
///
/// # Errors
/// As [`run`].
pub async fn drill(settings: &Settings, args: &DrillPaymentsArgs, quiet: bool) -> Result<(Report, Exit)> {
    let now = SystemClock.now();
    let stamp = format!("d{:x}", now.unix_ms());
    let plan = Plan::new(&stamp, args.orders, now)?;
    let gateway = Gateway::new(args.simulator.as_deref().unwrap_or(&settings.simulator))?;
    let db = settings.database().await?;
    let mut connection = pg::connection(&db, settings).await?;
    for (product, stock) in &plan.products {
        book::add_product(&mut connection, product, *stock).await.context("products")?;
    }
    gateway.place(&plan.orders.iter().map(plan::Planned::placement).collect::<Vec<_>>()).await?;
    publish(settings, &plan).await?;
    wait(&mut connection, &stamp, args, quiet, "orders came in", |orders, _open| orders >= i64::from(args.orders)).await?;

    let began = Instant::now();
    let payers = plan.orders.iter().filter(|planned| planned.fate != Fate::Unpaid);
    gateway.pay(&payers.map(plan::Planned::reference).collect::<Vec<_>>()).await?;
    for planned in plan.orders.iter().filter(|planned| planned.fate == Fate::Unpaid) {
        gateway.close(planned.reference()).await?;
    }
    wait(&mut connection, &stamp, args, quiet, "orders are at rest", |_orders, open| open == 0).await?;
    let seconds = began.elapsed().as_secs_f64();

    let evidence = evidence(&mut connection, &gateway, &plan, &stamp).await?;
    let findings = judge(&evidence);
    let count = |is: &dyn Fn(&book::PaymentRow) -> bool| evidence.payments.iter().filter(|row| is(row)).count();
    // Gateways that tell whole seconds are asked from the beginning of this one.
    let from = Timestamp::from_unix_ms(now.unix_ms().div_euclid(1_000).saturating_mul(1_000)).to_datetime();
    let deadline = Instant::now() + Duration::from_millis(args.settle_ms);
    let audited = audit_at_rest(settings, (from, SystemClock.now().to_datetime()), deadline).await;
    let exit = if findings.is_empty() { Exit::Done } else { Exit::Difference }.worse(audited.exit);
    let report = Report {
        verdict: exit.verdict(),
        audits: audited.reports,
        audit_reason: audited.reason,
        orders: plan.orders.len(),
        completed: count(&|row| row.order_state == "COMPLETED"),
        failed: count(&|row| row.order_state == "FAILED"),
        refunded: count(&|row| row.state == "REFUNDED"),
        callbacks_lost: count(&|row| !row.called_back),
        seconds,
        stamp,
        findings: findings.iter().map(ToString::to_string).collect(),
    };
    Ok((report, exit))
}

async fn publish(settings: &Settings, plan: &Plan) -> Result<()> {
    let producer = CommandProducer::new(&settings.kafka, &ProducerSettings::default()).with_context(|| settings.kafka_hint())?;
    let topic = &settings.kafka.topics.order_placed;
    let mut deliveries = Vec::with_capacity(plan.orders.len());
    for planned in &plan.orders {
        let envelope = Envelope { source: "/trueup/drill", time: planned.order.placed_at, trace_parent: None };
        let record = encode_order_placed(&planned.order, &envelope);
        deliveries.push(producer.publish(topic, None, &record).with_context(|| format!("{topic}: {}", settings.kafka_hint()))?);
    }
    producer.flush(FLUSH_LIMIT).await.with_context(|| settings.kafka_hint())?;
    for delivery in deliveries {
        delivery.await.with_context(|| format!("an order was not taken by {topic}"))?;
    }
    Ok(())
}

/// Waits until `done` says so. At the deadline it goes on all the same: the judge names what is missing.
async fn wait(
    connection: &mut pg::Connection,
    stamp: &str,
    args: &DrillPaymentsArgs,
    quiet: bool,
    what: &str,
    done: impl Fn(i64, i64) -> bool,
) -> Result<()> {
    let (began, limit) = (Instant::now(), Duration::from_millis(args.settle_ms));
    let mut said = began;
    loop {
        let (orders, open) = book::progress(connection, stamp).await?;
        if done(orders, open) {
            return Ok(());
        }
        if !quiet && said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            eprintln!("  {:>4} s  {orders} of {} orders came in, {open} are open", began.elapsed().as_secs(), args.orders);
        }
        if began.elapsed() >= limit {
            eprintln!("  gave up after {} s waiting until all {what}: {orders} came in, {open} are open", limit.as_secs());
            ensure!(orders > 0, "no order came in: does payment-reconciler run, and is its intake on?");
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn evidence(connection: &mut pg::Connection, gateway: &Gateway, plan: &Plan, stamp: &str) -> Result<Evidence> {
    let payments = book::payments(connection, stamp).await?;
    let products = book::products(connection, stamp).await?;
    let mut moved = BTreeMap::new();
    for planned in &plan.orders {
        if let Some(money) = gateway.moved(planned.reference()).await? {
            moved.insert(planned.reference().to_owned(), money);
        }
    }
    let fates = plan.orders.iter().map(|planned| (planned.order.order.as_str().to_owned(), planned.fate)).collect();
    Ok(Evidence { payments, products, moved, fates })
}

impl Report {
    /// The report as text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = format!(
            "payments drill {}: {} orders by {}, {} callbacks never came\n  {} completed, {} failed, {} payments refunded, at rest after {:.1} s\n",
            self.stamp,
            self.orders,
            plan::PROVIDERS.join(", "),
            self.callbacks_lost,
            self.completed,
            self.failed,
            self.refunded,
            self.seconds
        );
        for finding in self.findings.iter().take(FINDINGS_SHOWN) {
            text.push_str(&format!("  {finding}\n"));
        }
        let more = self.findings.len().saturating_sub(FINDINGS_SHOWN);
        if more > 0 {
            text.push_str(&format!("  … and {more} more\n"));
        }
        text.push_str(&format!("money check: {}\n", if self.findings.is_empty() { "clean" } else { "NOT clean" }));
        match &self.audit_reason {
            Some(reason) => text.push_str(&format!("audit: cannot tell ({reason})\n")),
            None => text.push_str(&format!("audit of the drill's time:\n{}", audited(&json!({ "audits": self.audits })))),
        }
        text
    }
}
