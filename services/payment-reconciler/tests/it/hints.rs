//! Callbacks that come while their payment is being asked about: each is followed by an ask that begins behind it.

use std::sync::{Arc, atomic::AtomicU32};

use domain::{clock::SystemClock, payment::PgAnswer};
use payment_providers::ProviderKind;
use payment_reconciler::{
    callbacks::{CallbackSettings, Desk, Sweeper, Taken},
    line::{
        ask::Question,
        claim::Claimed,
        run::Scope,
        settle::{Mode, Next},
    },
};
use pg_simulator::{Call, Fault, Script};
use stack::ports;
use testkit::eventually;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    interleavings_gateway::callback,
    line_world::{Process, becomes, calls, stage_that_calls_back},
    orders::{PATIENCE, db},
    refund_stage::{SECOND, Stage, gateway, reference},
};

/// A stage with an open payment `p-a`, and a desk for its gateway's callbacks.
struct Hints {
    stage: Stage,
    desk: Desk,
    sweeper: Sweeper,
}

impl Hints {
    async fn on(name: &str) -> Self {
        let stage = Stage::new(name, ProviderKind::Generic).await;
        stage.place("a", Script::open()).await;
        let (settings, waiting) = (CallbackSettings::default(), Arc::new(AtomicU32::new(0)));
        let (db, adapter) = (db(&stage.world).await, gateway(&stage.simulator, ProviderKind::Generic, "sim"));
        let desk = Desk::new(db.clone(), Arc::new(SystemClock), settings.clone(), [adapter], Arc::clone(&waiting));
        Self { stage, desk, sweeper: Sweeper::new(db, Uuid::from_u128(1), settings, waiting) }
    }

    async fn told(&self, event: &str) -> Taken {
        let (body, headers) = callback(ProviderKind::Generic, event, &reference("p-a"));
        self.desk.take("sim", &headers, body.as_bytes()).await.unwrap()
    }

    /// What is hinted at or due is claimed; none if nothing is.
    async fn claim(&self) -> Option<Claimed> {
        let began = self.stage.line.now().await.unwrap();
        self.stage.line.claim(&"sim".parse().unwrap(), Scope::Due, 1, began, false).await.unwrap().pop()
    }

    async fn ask(&self, claimed: &Claimed) -> PgAnswer {
        Box::pin(self.stage.line.ask(claimed, Question::Status, &CancellationToken::new())).await.unwrap()
    }

    async fn settle(&self, claimed: &Claimed, answer: &PgAnswer) {
        let applied = Box::pin(self.stage.line.settle(claimed, answer, Mode::Normal)).await.unwrap();
        assert_eq!(applied.next, Next::Done);
    }

    /// Claims, asks and settles what a hint made due.
    async fn looked_after(&self, why: &str) {
        let claimed = self.claim().await.expect(why);
        let answer = self.ask(&claimed).await;
        self.settle(&claimed, &answer).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_that_comes_during_an_ask_that_a_callback_caused_is_followed_by_another_ask() {
    let hints = Hints::on("hint-in-ask").await;
    assert_eq!(hints.told("e1").await, Taken::Stored);
    let claimed = hints.claim().await.unwrap();
    let answer = hints.ask(&claimed).await;
    hints.stage.simulator.pay(&reference("p-a")).unwrap();
    assert_eq!(hints.told("e2").await, Taken::Stored);
    hints.settle(&claimed, &answer).await;
    assert_eq!(hints.stage.states("a").await, "PENDING PENDING", "the answer was older than the payer's money");
    hints.looked_after("the second callback asks for another look").await;
    assert_eq!(hints.stage.states("a").await, "COMPLETED SUCCESS");
    hints.stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_that_comes_too_soon_and_during_an_ask_waits_for_its_turn() {
    let hints = Hints::on("hint-too-soon").await;
    hints.told("e1").await;
    hints.looked_after("the first callback").await;
    // Hinted at again, as an operator may have it, and asked about although the last ask was a moment ago.
    hints.stage.sql.run("UPDATE payment SET hinted_at = payment_now()").await;
    let claimed = hints.claim().await.unwrap();
    let answer = hints.ask(&claimed).await;
    hints.stage.simulator.pay(&reference("p-a")).unwrap();
    hints.told("e2").await;
    hints.settle(&claimed, &answer).await;
    assert!(hints.claim().await.is_none(), "it was asked about too short ago");
    hints.stage.sql.time_passes(SECOND).await;
    assert_eq!(hints.sweeper.run_once().await.unwrap().unwrap().hinted, 1);
    hints.looked_after("the callback that waited").await;
    assert_eq!(hints.stage.states("a").await, "COMPLETED SUCCESS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_whose_time_comes_during_an_ask_is_not_swallowed() {
    let hints = Hints::on("hint-swept").await;
    hints.told("e1").await;
    hints.looked_after("the first callback").await;
    hints.stage.sql.run("UPDATE payment SET hinted_at = payment_now()").await;
    hints.told("e2").await;
    let claimed = hints.claim().await.unwrap();
    // One that was made to wait before the claim, and whose time comes while its answer is under way.
    hints.stage.sql.run("UPDATE payment_callback SET hint_at = payment_now() WHERE event_id = 'e2'").await;
    let answer = hints.ask(&claimed).await;
    hints.stage.simulator.pay(&reference("p-a")).unwrap();
    hints.sweeper.run_once().await.unwrap();
    hints.settle(&claimed, &answer).await;
    hints.looked_after("the hint that was swept").await;
    assert_eq!(hints.stage.states("a").await, "COMPLETED SUCCESS");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paid_leaves_no_hint_behind() {
    let hints = Hints::on("hint-of-success").await;
    hints.stage.simulator.pay(&reference("p-a")).unwrap();
    hints.told("e1").await;
    let claimed = hints.claim().await.unwrap();
    let answer = hints.ask(&claimed).await;
    hints.told("e2").await;
    hints.settle(&claimed, &answer).await;
    assert_eq!(hints.stage.states("a").await, "COMPLETED SUCCESS");
    assert_eq!(hints.stage.sql.number("SELECT count(*) FROM payment WHERE hinted_at IS NOT NULL").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_makes_a_payment_due_again_no_more_often_than_any_other_callback() {
    let hints = Hints::on("hint-repeated").await;
    hints.told("e1").await;
    hints.looked_after("the first callback").await;
    assert_eq!(hints.told("e1").await, Taken::Repeated);
    assert!(hints.claim().await.is_none(), "not at once");
    hints.stage.sql.time_passes(SECOND).await;
    hints.stage.simulator.pay(&reference("p-a")).unwrap();
    hints.sweeper.run_once().await.unwrap();
    hints.looked_after("the gateway repeats what it was not answered").await;
    assert_eq!(hints.stage.states("a").await, "COMPLETED SUCCESS");
    assert_eq!(hints.told("e1").await, Taken::Repeated);
    assert!(hints.claim().await.is_none(), "a success is not asked about");
}

/// The schedule would have it asked about hours later: only the callback can complete it in time.
#[tokio::test(flavor = "multi_thread")]
async fn a_payer_who_pays_while_the_gateway_is_slow_does_not_wait_for_the_schedule() {
    let port = ports::free().unwrap();
    let stage = stage_that_calls_back("hint-slow", port).await;
    stage.place("a", Script::open().fault(Call::Query, 1, Fault::Slow(1_500))).await;
    let own = [
        ("LINE__RUN__STALE_AFTER_MS", "86400000"),
        ("LINE__RUN__LEASE_MS", "60000"),
        ("LINE__ASKING__TRY_TIMEOUT_MS", "20000"),
        ("LINE__POLICY__OPEN_OTHERWISE__FIRST_MS", "86400000"),
        ("LINE__POLICY__OPEN_OTHERWISE__LONGEST_MS", "86400000"),
        ("CALLBACKS__SIGNED_GAP_MS", "100"),
        ("CALLBACKS__SWEEP_INTERVAL_MS", "50"),
    ];
    let process = Process::start_on(&stage, port, &own, &[]);
    stage.sql.run("UPDATE payment SET hinted_at = payment_now()").await;
    eventually(PATIENCE, "it is being asked about", || async { calls(&stage, "a").query == 1 }).await;
    stage.simulator.pay(&reference("p-a")).unwrap();
    becomes(&stage, "a", "COMPLETED SUCCESS").await;
    assert_eq!(calls(&stage, "a").at_once_max, 1);
    drop(process);
    stage.money().holds().await;
}
