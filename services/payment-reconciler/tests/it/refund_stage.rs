//! A line between a database and a simulator, asked in one of its dialects, with the clock in the test's hands.

use std::sync::Arc;

use contracts::order::OrderPlaced;
use domain::payment::{Attention, Currency, Money, PaymentId, PgAnswer, PgPayment, PgRefund, RefundId};
use payment_providers::{
    ProviderKind, ProviderSettings, Providers,
    port::{PaymentProvider, ProviderError},
};
use payment_reconciler::{
    Line,
    config::LineSettings,
    error::LineError,
    line::run::{Report, Scope},
};
use pg_simulator::{NewPayment, Options, Script, Simulator};
use serde_json::json;
use testkit::{World, create_payment_topics, kafka_brokers, kafka_settings};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    http::Stage as Operators,
    line_world::CALLBACK_SECRET,
    money::MoneyCheck,
    orders::{Sql, attempt, order, settings},
    scripted::Scripted,
};

pub const KINDS: [ProviderKind; 3] = [ProviderKind::Generic, ProviderKind::Toss, ProviderKind::Stripe];

pub const SECOND: i64 = 1_000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// What every order of a stage costs.
pub const AMOUNT: i64 = 15_000;

/// Looks that anything here takes at most to become quiet.
const LOOKS_MAX: usize = 80;

pub struct Stage {
    pub world: World,
    pub sql: Sql,
    pub simulator: Simulator,
    pub line: Arc<Line>,
}

/// The settings as they are by default, but for pauses that a test would really have to wait for.
pub fn patient() -> LineSettings {
    let mut own = LineSettings::default();
    own.asking.try_delay_ms = 1;
    own.asking.rate_per_second = 10_000;
    own
}

/// A simulator in one of its dialects, as an account of this name; its callbacks are signed with the tests' secret.
pub fn gateway(simulator: &Simulator, kind: ProviderKind, name: &str) -> Arc<dyn PaymentProvider> {
    let url = match kind {
        ProviderKind::Generic => simulator.generic_url(),
        ProviderKind::Toss => simulator.toss_url(),
        ProviderKind::Stripe => simulator.stripe_url(),
    };
    let mut settings = ProviderSettings::new(kind, url, Options::API_KEY);
    settings.callback_secret = CALLBACK_SECRET.into();
    Providers::one(name, &settings).unwrap()
}

/// A line of its own over a simulator's dialect, as one replica has it.
pub fn line(world: &World, simulator: &Simulator, kind: ProviderKind, name: &str, holder: u128, own: LineSettings) -> Arc<Line> {
    Line::new(&settings(world), vec![gateway(simulator, kind, name)], Uuid::from_u128(holder), own).unwrap()
}

/// What a payment is known by at the gateway: letters, digits and `_`, at least six, as all three of them take it.
pub fn reference(payment: &str) -> String {
    format!("ref_{}", payment.replace('-', "_"))
}

impl Stage {
    pub async fn new(name: &str, kind: ProviderKind) -> Self {
        Self::with(name, kind, patient()).await
    }

    /// A shop with a hundred books, and a gateway called `sim`.
    pub async fn with(name: &str, kind: ProviderKind, own: LineSettings) -> Self {
        testkit::show_logs();
        service_kit::install_crypto_provider();
        let world = World::of_tables(name).await;
        let simulator = Simulator::start().unwrap();
        let line = line(&world, &simulator, kind, "sim", 1, own);
        let sql = Sql::of(&world).await;
        sql.run("INSERT INTO product (product_id, stock) VALUES ('book', 100), ('rarity', 1)").await;
        Self { world, sql, simulator, line }
    }

    /// The same with topics of its own on the shared Kafka, which its processes use.
    pub async fn with_topics(mut self) -> Self {
        self.world.kafka = kafka_settings(&kafka_brokers(), &self.world.name);
        create_payment_topics(&self.world.kafka, 4).await;
        self
    }

    /// An order of two books with one attempt.
    pub async fn place(&self, id: &str, script: Script) {
        self.place_of(id, "book", vec![script]).await;
    }

    /// An order of two pieces with its attempts `p-id`, `p-id-2` and so on.
    pub async fn place_of(&self, id: &str, product: &str, scripts: Vec<Script>) {
        let mut order: OrderPlaced = order(id);
        order.lines = [(product.parse().unwrap(), 2)].into();
        order.payments.clear();
        for (number, script) in scripts.into_iter().enumerate() {
            let payment = if number == 0 { format!("p-{id}") } else { format!("p-{id}-{}", number + 1) };
            self.simulator.place(NewPayment::new(reference(&payment), AMOUNT, Currency::KRW, script)).unwrap();
            let mut attempt = attempt(&payment, "sim", &reference(&payment));
            attempt.method = "card".to_owned();
            order.payments.push(attempt);
        }
        self.sql.place(&order).await;
    }

    /// A run of this moment.
    pub async fn run(&self) -> Report {
        self.turn(Scope::Run).await.unwrap()
    }

    /// A run or a look, which may fail.
    pub async fn turn(&self, scope: Scope) -> Result<Report, LineError> {
        Box::pin(self.line.run_once(scope, &CancellationToken::new())).await
    }

    /// Time passes, then a run is made.
    pub async fn run_after(&self, ms: i64) -> Report {
        self.sql.time_passes(ms).await;
        self.run().await
    }

    /// Runs after each of so many equal times.
    pub async fn run_for(&self, ms: i64, every_ms: i64) {
        for _ in 0..ms / every_ms {
            self.run_after(every_ms).await;
        }
    }

    /// Runs every ten minutes until nothing is open any more.
    pub async fn becomes_quiet(&self) {
        let open = "SELECT (SELECT count(*) FROM customer_order WHERE state = 'PENDING') \
            + (SELECT count(*) FROM payment WHERE state IN ('PENDING', 'REFUNDING'))";
        for _ in 0..LOOKS_MAX {
            self.run_after(10 * MINUTE + SECOND).await;
            if self.sql.number(open).await == 0 {
                return;
            }
        }
        self.money().holds().await;
        panic!("something is open, which the money check did not find");
    }

    /// Order and payments, such as `FAILED REFUNDED`.
    pub async fn states(&self, id: &str) -> String {
        let query = format!(
            "SELECT o.state || ' ' || string_agg(p.state, ' ' ORDER BY p.payment_id) FROM customer_order o JOIN payment p USING (order_id) \
             WHERE order_id = '{id}' GROUP BY o.state"
        );
        self.sql.text(&query).await
    }

    /// A column of a payment or its refund, as text.
    pub async fn of_payment(&self, payment: &str, column: &str) -> String {
        let query = format!(
            "SELECT ({column})::text FROM payment p LEFT JOIN refund r USING (payment_id) WHERE payment_id = '{payment}'"
        );
        self.sql.text(&query).await
    }

    /// Why an operator is shown a payment; empty if nobody is.
    pub async fn attention(&self, payment: &str) -> String {
        self.of_payment(payment, "attention_reason").await
    }

    /// How often a refund of this payment was asked for at the gateway, done or not.
    pub fn refund_calls(&self, payment: &str) -> u32 {
        self.simulator.calls(&reference(payment)).refund
    }

    /// The keys under which money of this payment went back, in order.
    pub fn keys(&self, payment: &str) -> Vec<String> {
        let reference = reference(payment);
        let refund = RefundId::of_payment(&payment.parse::<PaymentId>().unwrap());
        let own = |key: Option<String>| key.map(|key| key.replace(refund.as_str(), "own")).unwrap_or_default();
        let refunds = self.simulator.payment(&reference).unwrap().refunds;
        refunds.into_iter().map(|refund| own(refund.key)).collect()
    }

    pub fn money(&self) -> MoneyCheck<'_> {
        MoneyCheck::of(&self.sql, &self.simulator)
    }
}

/// So many won.
pub const fn won(amount: i64) -> Money {
    Money::new(amount, Currency::KRW)
}

/// A stage whose gateway answers what the test writes down. The simulator beside it is asked nothing.
pub async fn scripted(name: &str, own: LineSettings) -> (Stage, Arc<Scripted>) {
    let stage = Stage::new(name, ProviderKind::Generic).await;
    let pg = Scripted::named("sim");
    let provider = Arc::clone(&pg) as Arc<dyn PaymentProvider>;
    let line = Line::new(&settings(&stage.world), vec![provider], Uuid::from_u128(1), own).unwrap();
    (Stage { line, ..stage }, pg)
}

/// The same, spoken to by orders.
pub struct Said {
    pub stage: Stage,
    pub gateway: Arc<Scripted>,
}

impl Said {
    /// At most two automatic refunds in ten minutes.
    pub async fn new(name: &str) -> Self {
        let mut own = patient();
        own.refunds.automatic_max = 2;
        let (stage, gateway) = scripted(name, own).await;
        Self { stage, gateway }
    }

    /// What is said about an order's payment from now on.
    pub fn says(&self, id: &str, pg: PgPayment) {
        self.gateway.says(&reference(&format!("p-{id}")), Ok(PgAnswer::Found(pg)));
    }

    /// What is said to refunds from now on.
    pub fn to_refunds(&self, said: Result<PgRefund, ProviderError>) {
        *self.gateway.to_refunds.lock().unwrap() = Some(said);
    }

    /// The keys under which refunds were asked for so far.
    pub fn refunds(&self) -> Vec<String> {
        self.gateway.refunds.lock().unwrap().clone()
    }

    /// Why an operator is shown an order's payment; empty if nobody is.
    pub async fn attention(&self, id: &str) -> String {
        self.stage.attention(&format!("p-{id}")).await
    }

    /// How often this reason was told.
    pub async fn told(&self, reason: Attention) -> i64 {
        let told = format!(
            "SELECT count(*) FROM outbox WHERE event_type LIKE '%NeedsAttention' AND payload::text LIKE '%{}%'",
            reason.as_str()
        );
        self.stage.sql.number(&told).await
    }

    /// Releases every refund that is held.
    pub async fn release_all(&self, operators: &Operators) {
        let held = self.stage.sql.text("SELECT string_agg(refund_id, ' ') FROM refund WHERE held").await;
        for id in held.split_whitespace() {
            let released = operators.post(&format!("/v1/admin/refunds/{id}/release"), json!({"reason": "it was meant so"})).await;
            assert_eq!(released.status, 200, "{}", released.text);
        }
    }
}
