//! Plays one case: its orders at a gateway of its own, its events one after the other, then quiet, then the judgement.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use contracts::order::OrderPlaced;
use domain::{clock::SystemClock, coupon::LogIncarnation, payment::Currency};
use payment_reconciler::{
    Line,
    callbacks::{CallbackSettings, Desk, DeskError, Sweeper, Taken},
    error::LineError,
    intake::{IntakeStore, resolve},
    line::run::{Report, Scope},
};
use pg_simulator::{Answer, NewPayment, Simulator};
use postgres_io::Db;
use serde_json::json;
use testkit::World;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    http::{Stage as Operators, stage_over_gateway},
    interleavings::{Event, Plan},
    interleavings_gateway::{callback, script},
    interleavings_judge::{WATCH, against_the_tables},
    interleavings_replica::{CUT_OFF, OVERTAKEN, Replica, StopAfter},
    money::MoneyCheck,
    orders::{Sql, attempt, db, order},
    refund_stage::{AMOUNT, DAY, HOUR, MINUTE, SECOND, gateway, line, patient, reference},
};

/// Replicas that go step by step.
const REPLICAS: usize = 3;

/// How long an operator waits for what somebody else holds, in milliseconds.
const OPERATORS_WAIT_MS: u64 = 50;

/// The most time that passes in a case: what fails at its beginning is still swept at its end.
const TIME_MAX: i64 = 4 * DAY;

/// Runs that a case needs at most to become quiet, with the time before each; and then those in which nothing may change any more.
const ROUNDS: usize = 90;

/// What all cases share: a database, and the operators' interface beside it.
pub struct Shop {
    world: World,
    sql: Sql,
    db: Db,
    cases: AtomicU32,
    overtaken: AtomicU32,
    cut_off: AtomicU32,
}

impl Shop {
    pub async fn open() -> Self {
        let world = World::of_tables("interleavings").await;
        let sql = Sql::of(&world).await;
        sql.run(WATCH).await;
        Self {
            db: db(&world).await,
            sql,
            world,
            cases: AtomicU32::new(1),
            overtaken: AtomicU32::new(0),
            cut_off: AtomicU32::new(0),
        }
    }

    /// What happened in all cases so far, and how often.
    pub async fn moved(&self) -> BTreeMap<String, i64> {
        let moves = "SELECT json_object_agg(what, times)::text FROM ( \
            SELECT concat_ws(' ', CASE WHEN payment_id IS NULL THEN 'order' ELSE 'payment' END, was, became) AS what, count(*) AS times \
            FROM moved GROUP BY 1 \
            UNION ALL SELECT 'refund sent again under its key', count(*) FROM refund WHERE sends > 1 \
            UNION ALL SELECT 'refund made again under a new key', count(*) FROM refund WHERE attempt > 1) w";
        let mut moved: BTreeMap<String, i64> = serde_json::from_str(&self.sql.text(moves).await).unwrap();
        moved.insert("step of somebody who lost the lease".to_owned(), self.overtaken.load(Ordering::Relaxed).into());
        moved.insert("step cut off".to_owned(), self.cut_off.load(Ordering::Relaxed).into());
        moved
    }
}

/// A case under way.
struct Game<'a> {
    shop: &'a Shop,
    plan: &'a Plan,
    /// What the ids of its orders, payments and products begin with.
    name: String,
    simulator: Simulator,
    desk: Desk,
    operators: Operators,
    sweeper: Sweeper,
    intake: IntakeStore,
    healthy: Arc<Line>,
    other: Arc<Line>,
    replicas: Vec<Replica>,
    orders: Vec<OrderPlaced>,
    placed: Vec<bool>,
    passed_ms: i64,
    callbacks: u32,
    told_last: usize,
    last_run: String,
    history: String,
}

/// Plays a case.
///
/// # Errors
/// What is wrong, with all that happened.
pub async fn play(shop: &Shop, plan: &Plan, events: &[Event]) -> Result<(), String> {
    let mut game = Game::begin(shop, plan).await;
    let played = Box::pin(game.all(events)).await;
    // The cases behind it do not know its gateway; nobody is to be shown its payments each time.
    shop.sql.run(&format!("UPDATE payment SET next_check_at = NULL, hinted_at = NULL WHERE provider = '{}pg'", game.name)).await;
    played.map_err(|wrong| format!("{wrong}\nafter\n{}", game.history))
}

impl<'a> Game<'a> {
    async fn begin(shop: &'a Shop, plan: &'a Plan) -> Self {
        // What others did a moment ago does not count to the bound of automatic refunds.
        shop.sql.time_passes(11 * MINUTE).await;
        let name = format!("i{}-", shop.cases.fetch_add(1, Ordering::Relaxed));
        let provider = format!("{name}pg");
        let simulator = Simulator::start().unwrap();
        let mut own = patient();
        own.asking.tries = 2;
        own.refunds.automatic_max = plan.automatic_max;
        let lines: Vec<_> =
            (1..=3).map(|holder| line(&shop.world, &simulator, plan.kind, &provider, holder, own.clone())).collect();
        let adapter = gateway(&simulator, plan.kind, &provider);
        let generous = CallbackSettings {
            unsigned_per_s: 10_000,
            unsigned_burst: 10_000,
            unknown_burst: 10_000,
            ..CallbackSettings::default()
        };
        let waiting = Arc::new(AtomicU32::new(0));
        let desk = Desk::new(shop.db.clone(), Arc::new(SystemClock), generous.clone(), [adapter], Arc::clone(&waiting));
        let incarnation = LogIncarnation { cluster_id: "c".to_owned(), topic_id: "t".to_owned() };
        let mut game = Self {
            shop,
            plan,
            desk,
            operators: stage_over_gateway(&shop.world, &lines[2], &provider, OPERATORS_WAIT_MS).await,
            sweeper: Sweeper::new(shop.db.clone(), Uuid::from_u128(1), generous, waiting),
            intake: IntakeStore::new(shop.db.clone(), "orders".to_owned(), incarnation),
            replicas: (0..REPLICAS)
                .map(|number| Replica::new(Arc::clone(&lines[number % 2]), provider.parse().unwrap()))
                .collect(),
            healthy: Arc::clone(&lines[2]),
            other: Arc::clone(&lines[0]),
            simulator,
            orders: Vec::new(),
            placed: vec![false; plan.orders.len()],
            passed_ms: 0,
            callbacks: 0,
            told_last: 0,
            last_run: String::new(),
            history: String::new(),
            name,
        };
        game.open_the_shop(&provider).await;
        game
    }

    async fn open_the_shop(&mut self, provider: &str) {
        let insert = "INSERT INTO product (product_id, stock) VALUES ($1, $2)";
        self.shop.sql.execute(insert, &[&self.product(), &self.plan.stock]).await;
        for (number, attempts) in self.plan.orders.iter().enumerate() {
            let mut order = order(&format!("{}o{number}", self.name));
            order.lines = [(self.product().parse().unwrap(), 2)].into();
            order.payments.clear();
            for (place, one) in attempts.iter().enumerate() {
                let payment = format!("{}p{number}{place}", self.name);
                let script = script(self.plan, one);
                self.simulator.place(NewPayment::new(reference(&payment), AMOUNT, Currency::KRW, script)).unwrap();
                order.payments.push(attempt(&payment, provider, &reference(&payment)));
            }
            self.orders.push(order);
        }
    }

    fn product(&self) -> String {
        format!("{}book", self.name)
    }

    fn payments(&self) -> impl Iterator<Item = (usize, String)> {
        self.orders
            .iter()
            .enumerate()
            .flat_map(|(number, order)| order.payments.iter().map(move |attempt| (number, attempt.payment.to_string())))
    }

    /// The attempt with this number, round and round, and its order's.
    fn payment(&self, number: usize) -> (usize, String) {
        self.payments().nth(number % self.payments().count()).unwrap()
    }

    async fn all(&mut self, events: &[Event]) -> Result<(), String> {
        self.happens(Event::Placed(0)).await?;
        for event in events {
            self.happens(*event).await?;
            self.nothing_was_given_back_twice()?;
        }
        self.becomes_quiet().await?;
        // Those that stood still go on, with what they knew; then the line looks for late money and for what came back until nobody asks any more.
        for replica in 0..REPLICAS {
            while !self.replicas[replica].is_idle() {
                self.happens(Event::Step(replica)).await?;
            }
        }
        for _ in 0..12 {
            self.round(13 * HOUR).await?;
        }
        self.becomes_quiet().await?;
        let payments = self
            .orders
            .iter()
            .map(|order| (order.order.to_string(), order.payments.iter().map(|attempt| attempt.payment.to_string()).collect()));
        let wrong = against_the_tables(&self.shop.sql, &self.name, &payments.collect::<BTreeMap<_, _>>()).await;
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    fn note(&mut self, told: impl std::fmt::Display) {
        let _ = writeln!(self.history, "  {:>7} s {told}", self.passed_ms / SECOND);
    }

    /// What holds at every moment.
    fn nothing_was_given_back_twice(&self) -> Result<(), String> {
        for (_, payment) in self.payments() {
            let money = self.simulator.money(&reference(&payment));
            if money.held() < 0 || money.captures > 1 {
                return Err(format!("{payment}: {money:?}"));
            }
        }
        Ok(())
    }

    async fn happens(&mut self, event: Event) -> Result<(), String> {
        let sql = &self.shop.sql;
        let told = match event {
            Event::Placed(number) => self.placed(number % self.orders.len()).await?,
            Event::Cancelled(number) => {
                let order = self.orders[number % self.orders.len()].order.as_str().to_owned();
                let cancel =
                    "UPDATE customer_order SET state = 'CANCELLED', reason = 'USER' WHERE order_id = $1 AND state = 'PENDING'";
                format!("{} of {order} by the user", sql.execute(cancel, &[&order]).await)
            }
            Event::CancelledByOperator(number, restock) => {
                self.cancelled_by_operator(number % self.orders.len(), restock).await?
            }
            Event::Paid(number) => self.paid(number),
            Event::Failed(number) => self.failed(number),
            Event::GivenBackAtTheDashboard(number) => self.given_back_at_the_dashboard(number).await,
            // A careless gateway does not forget, too: then nobody could know.
            Event::KeysForgotten if self.plan.is_careless => "not".to_owned(),
            Event::KeysForgotten => {
                self.simulator.forget_keys();
                String::new()
            }
            Event::Callback(number) => self.callback(number).await?,
            Event::CallbacksSwept => self.callbacks_swept().await?,
            Event::StockSet(stock) => {
                let set =
                    "INSERT INTO product (product_id, stock) VALUES ($1, $2) ON CONFLICT (product_id) DO UPDATE SET stock = $2";
                format!("{} products", sql.execute(set, &[&self.product(), &stock]).await)
            }
            Event::ProductDeleted => {
                format!("{} products", sql.execute("DELETE FROM product WHERE product_id = $1", &[&self.product()]).await)
            }
            Event::Released => self.released().await,
            Event::TimePasses(ms) => {
                let ms = ms.min(TIME_MAX - self.passed_ms);
                self.passed_ms += ms;
                sql.time_passes(ms).await;
                String::new()
            }
            Event::Run => told(self.run_of(&self.healthy, &CancellationToken::new()).await)?,
            Event::RunTogether => {
                let stop = CancellationToken::new();
                let (one, other) = futures::join!(self.run_of(&self.healthy, &stop), self.run_of(&self.other, &stop));
                format!("{} beside {}", told(one)?, told(other)?)
            }
            Event::RunStopped(polls) => {
                let stop = CancellationToken::new();
                told(StopAfter::new(self.run_of(&self.healthy, &stop), polls, stop.clone()).await)?
            }
            Event::Step(replica) => self.replicas[replica % REPLICAS].step().await?,
            Event::CutOff(replica, polls) => self.replicas[replica % REPLICAS].step_cut_off(polls).await?,
            Event::Killed(replica) => {
                self.replicas[replica % REPLICAS].kill();
                String::new()
            }
        };
        self.shop.overtaken.fetch_add(u32::from(told.ends_with(OVERTAKEN)), Ordering::Relaxed);
        self.shop.cut_off.fetch_add(u32::from(told == CUT_OFF), Ordering::Relaxed);
        self.note(format!("{event:?} {told}"));
        Ok(())
    }

    /// The order service tells of an order: as the intake does it, and again. Once it is there, nothing more is to be written.
    async fn placed(&mut self, number: usize) -> Result<String, String> {
        let order = self.orders[number].clone();
        let known = self.intake.look(&[&order]).await.map_err(|error| error.to_string())?;
        let resolution = resolve(&[Ok(order.clone())], known);
        let counts = (resolution.insert.len(), resolution.repeated, resolution.letters.len());
        if counts != if self.placed[number] { (0, 1, 0) } else { (1, 0, 0) } {
            return Err(format!("the intake would do {counts:?} with {}", order.order));
        }
        if !self.placed[number] {
            self.shop.sql.place(&order).await;
            self.placed[number] = true;
        }
        Ok(format!("{}: {counts:?}", order.order))
    }

    /// After a fresh ask, as the operators' interface has it; refused if it is not completed, or if the gateway does not answer.
    async fn cancelled_by_operator(&self, number: usize, restock: bool) -> Result<String, String> {
        let order = &self.orders[number].order;
        let wish = json!({"reason": "a case", "action": "cancel", "restock": restock});
        let answer = self.operators.post(&format!("/v1/admin/orders/{order}/resolve"), wish).await;
        if answer.status == 500 { Err(answer.text) } else { Ok(format!("{order}: {}", answer.status)) }
    }

    /// Once a payment, also late: a gateway may book what it had called failed.
    fn paid(&mut self, number: usize) -> String {
        let (_, payment) = self.payment(number);
        if self.simulator.money(&reference(&payment)).captures == 0 {
            self.simulator.pay(&reference(&payment)).unwrap();
        }
        payment
    }

    fn failed(&mut self, number: usize) -> String {
        let (_, payment) = self.payment(number);
        if self.simulator.money(&reference(&payment)).captures == 0 {
            self.simulator.tell(&reference(&payment), Answer::Failed).unwrap();
        }
        payment
    }

    /// A person gives back at the gateway what nobody is going to sell: of a success, that would be for the audit.
    async fn given_back_at_the_dashboard(&mut self, number: usize) -> String {
        let (_, payment) = self.payment(number);
        let over = format!(
            "SELECT count(*) FROM payment JOIN customer_order o USING (order_id) WHERE payment_id = '{payment}' AND o.state IN ('CANCELLED', 'FAILED')"
        );
        if self.plan.is_careless || self.shop.sql.number(&over).await == 0 {
            return "not".to_owned();
        }
        format!("{payment}: {:?}", self.simulator.refund_at_dashboard(&reference(&payment), None).map(|refund| refund.amount))
    }

    async fn callback(&mut self, number: usize) -> Result<String, String> {
        // Every third one is a repeat of the one before.
        self.callbacks += 1;
        let is_repeat = self.callbacks.is_multiple_of(3);
        let (_, payment) = self.payment(if is_repeat { self.told_last } else { number });
        self.told_last = if is_repeat { self.told_last } else { number };
        let event = format!("{}e{}", self.name, self.callbacks - u32::from(is_repeat));
        let (body, headers) = callback(self.plan.kind, &event, &reference(&payment));
        match self.desk.take(&format!("{}pg", self.name), &headers, body.as_bytes()).await {
            Ok(taken) => {
                if matches!(taken, Taken::Stored | Taken::Repeated) && self.is_placed(&payment) {
                    self.is_asked_about_again(&payment).await?;
                }
                Ok(format!("{payment} {event}: {taken:?}"))
            }
            Err(DeskError::TooMany) => Ok(format!("{payment}: too many")),
            Err(error) => Err(format!("a callback of {payment}: {error}")),
        }
    }

    fn is_placed(&self, payment: &str) -> bool {
        self.payments().any(|(order, known)| known == payment && self.placed[order])
    }

    /// Hints that waited get their turn, and none of them is lost by that.
    async fn callbacks_swept(&self) -> Result<String, String> {
        let waiting = format!(
            "SELECT coalesce(string_agg(DISTINCT payment_id, ' '), '') FROM payment_callback \
             WHERE starts_with(payment_id, '{}') AND hint_at IS NOT NULL",
            self.name
        );
        let waited = self.shop.sql.text(&waiting).await;
        let swept = self.sweeper.run_once().await.map_err(|error| error.to_string())?;
        for payment in waited.split_whitespace() {
            self.is_asked_about_again(payment).await?;
        }
        Ok(format!("{swept:?}"))
    }

    /// Behind a hint, the payment is going to be asked about by an ask that has not begun: a hint waits that no claim was made with.
    async fn is_asked_about_again(&self, payment: &str) -> Result<(), String> {
        let hint = format!(
            "SELECT CASE WHEN state = 'SUCCESS' OR EXISTS (SELECT FROM payment_callback c WHERE c.payment_id = p.payment_id AND hint_at IS NOT NULL) \
             THEN 'will be' WHEN hinted_at IS NULL THEN 'is not hinted at' \
             ELSE fence || ' ' || (extract(epoch FROM hinted_at) * 1000000)::bigint END FROM payment p WHERE payment_id = '{payment}'"
        );
        let hint = self.shop.sql.text(&hint).await;
        let of_a_claim = self.replicas.iter().filter_map(Replica::claimed).find(|claimed| {
            let at = claimed.hinted_at.map(|at| at.timestamp_micros()).unwrap_or_default();
            claimed.payment.as_str() == payment && format!("{} {at}", claimed.fence) == hint
        });
        if hint == "is not hinted at" || of_a_claim.is_some() {
            return Err(format!("a callback of {payment} is lost: {hint}, of the claim {of_a_claim:?}"));
        }
        Ok(())
    }

    /// An operator lets go what is held, and tries again what was refused.
    async fn released(&mut self) -> String {
        let waiting = format!(
            "SELECT string_agg(refund_id, ' ') FROM refund JOIN payment USING (payment_id) \
             WHERE starts_with(payment_id, '{}') AND (held OR refund.state = 'MANUAL' AND attention_reason <> 'refund_needs_payer')",
            self.name
        );
        let ids = self.shop.sql.text(&waiting).await;
        for id in ids.split_whitespace() {
            self.operators.post(&format!("/v1/admin/refunds/{id}/release"), json!({"reason": "a case"})).await;
        }
        ids
    }

    async fn run_of(&self, line: &Arc<Line>, stop: &CancellationToken) -> Result<Report, LineError> {
        Box::pin(line.run_once(Scope::Run, stop)).await
    }

    /// Time passes, people do what is theirs, and a healthy replica makes a run.
    async fn round(&mut self, ms: i64) -> Result<(), String> {
        self.shop.sql.time_passes(ms).await;
        self.passed_ms += ms;
        let deposits = format!(
            "SELECT string_agg(payment_id, ' ') FROM refund JOIN payment USING (payment_id) \
             WHERE starts_with(payment_id, '{}') AND attention_reason = 'refund_needs_payer'",
            self.name
        );
        for payment in self.shop.sql.text(&deposits).await.split_whitespace() {
            // Refused if it is on its way already.
            let _ = self.simulator.refund_at_dashboard(&reference(payment), None);
        }
        self.released().await;
        let told = told(self.run_of(&self.healthy, &CancellationToken::new()).await)?;
        // One that is like the one before it says nothing.
        if told != self.last_run {
            self.note(format!("a run: {told}"));
            self.last_run = told;
        }
        self.nothing_was_given_back_twice()
    }

    /// Every order is told of, every payer has paid or gives up, and runs are made until the money check finds nothing.
    async fn becomes_quiet(&mut self) -> Result<(), String> {
        for number in 0..self.orders.len() {
            self.happens(Event::Placed(number)).await?;
        }
        let payments: Vec<String> = self.payments().map(|(_, payment)| payment).collect();
        for payment in &payments {
            let view = self.simulator.payment(&reference(payment)).unwrap();
            if view.money.captures == 0 && matches!(view.answer, Answer::Open | Answer::Deposit | Answer::Failed) {
                self.simulator.tell(&reference(payment), Answer::Expired).unwrap();
            }
        }
        let mut found = Vec::new();
        for round in 0..ROUNDS {
            self.round(if round < ROUNDS / 2 { 11 * MINUTE } else { 13 * HOUR }).await?;
            let check = MoneyCheck::of_those(&self.shop.sql, &self.simulator, &self.name);
            found = check.findings().await;
            if found.is_empty() {
                return Ok(());
            }
        }
        Err(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }
}

/// What a run came to, for the history.
fn told(report: Result<Report, LineError>) -> Result<String, String> {
    let report = report.map_err(|error| format!("a run failed: {error}"))?;
    let mut outcomes: Vec<String> = report.outcomes.iter().map(|(outcome, count)| format!("{outcome:?} {count}")).collect();
    outcomes.sort_unstable();
    Ok(outcomes.join(", "))
}
