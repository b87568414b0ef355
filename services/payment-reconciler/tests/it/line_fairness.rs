//! Nobody waits for somebody else's payment: not for one that always fails, not for one that takes long, and not for many hints.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::payment::Currency;
use payment_providers::{ProviderKind, ProviderSettings, Providers};
use payment_reconciler::{
    Line,
    config::LineSettings,
    line::run::{Report, Scope},
};
use pg_simulator::{Call, Fault, NewPayment, Options, Outage, Script, Simulator};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    line_world::{becomes, calls},
    orders::{PATIENCE, attempt, order, settings},
    refund_stage::{AMOUNT, MINUTE, Stage, patient, reference},
};

/// An ask that ends long after the test.
const NEVER_MS: u64 = 600_000;

fn quick() -> LineSettings {
    let mut own = patient();
    own.run.stale_after_ms = 0;
    own.run.interval_ms = 20;
    own.run.due_interval_ms = 20;
    own.asking.try_timeout_ms = 2 * NEVER_MS;
    own.asking.tries = 1;
    own.run.lease_ms = i64::try_from(3 * NEVER_MS).unwrap();
    assert!(own.faults().is_empty(), "{:?}", own.faults());
    own
}

/// The line of a stage at work, until this is dropped or ended.
struct AtWork {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl AtWork {
    fn of(line: &Arc<Line>) -> Self {
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(Arc::clone(line).repeat(stop.clone())), stop }
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("the line ends").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_always_fail_keep_no_other_from_its_turn() {
    let stage = Stage::new("poison", ProviderKind::Generic).await;
    // More of them than slots, and the oldest: each looks like the next one to be asked about, for ever.
    for number in 0..15 {
        stage.place(&format!("poison{number}"), Script::paid().fault(Call::Query, u32::MAX, Fault::Malformed)).await;
    }
    for number in 0..15 {
        stage.place(&format!("o{number}"), Script::paid()).await;
    }
    let run = tokio::time::timeout(PATIENCE, stage.run_after(11 * MINUTE));
    let report = run.await.expect("the run ends");
    assert_eq!((report.found, report.successes(), report.failures()), (30, 15, 15), "{report:?}");
    for number in 0..15 {
        assert_eq!(stage.states(&format!("o{number}")).await, "COMPLETED SUCCESS");
    }
    for _ in 0..120 {
        stage.run_after(MINUTE).await;
    }
    for number in 0..15 {
        let id = format!("poison{number}");
        assert_eq!(
            (stage.states(&id).await.as_str(), stage.attention(&format!("p-{id}")).await.as_str()),
            ("PENDING PENDING", "unreadable_answer")
        );
        let asked = calls(&stage, &id).query;
        assert!((9..=20).contains(&asked), "{id}: asked {asked} times in two hours, with growing delays up to a quarter of one");
        stage.simulator.set_script(&format!("ref_p_{id}"), Script::paid()).unwrap();
    }
    stage.becomes_quiet().await;
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_payment_delays_only_itself() {
    let stage = Stage::with("slow", ProviderKind::Generic, quick()).await;
    stage.place("slow", Script::paid().taking_ms(NEVER_MS)).await;
    for number in 0..40 {
        stage.place(&format!("o{number}"), Script::paid().taking_ms(5)).await;
    }
    let line = AtWork::of(&stage.line);
    for number in 0..40 {
        becomes(&stage, &format!("o{number}"), "COMPLETED SUCCESS").await;
    }
    // What comes while it is still asked about does not wait for it either: not a hint, and not a check that falls due.
    stage.place("hinted", Script::paid()).await;
    stage.sql.run("UPDATE payment SET hinted_at = payment_now() WHERE payment_id = 'p-hinted'").await;
    becomes(&stage, "hinted", "COMPLETED SUCCESS").await;
    stage.place("due", Script::paid()).await;
    stage.sql.run("UPDATE payment SET next_check_at = payment_now() WHERE payment_id = 'p-due'").await;
    becomes(&stage, "due", "COMPLETED SUCCESS").await;
    // Nor does what has become stale since the run began that waits for it.
    stage.place("fresh", Script::paid()).await;
    becomes(&stage, "fresh", "COMPLETED SUCCESS").await;
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment WHERE holder IS NOT NULL").await, 1, "it is still waited for");
    // A second slow one, taken by a look between runs, does no more harm than the first.
    stage.place("slow-hinted", Script::paid().taking_ms(NEVER_MS)).await;
    stage.sql.run("UPDATE payment SET hinted_at = payment_now() WHERE payment_id = 'p-slow-hinted'").await;
    testkit::eventually(PATIENCE, "both are being asked about", || async { calls(&stage, "slow-hinted").query == 1 }).await;
    stage.place("last", Script::paid()).await;
    stage.sql.run("UPDATE payment SET hinted_at = payment_now() WHERE payment_id = 'p-last'").await;
    becomes(&stage, "last", "COMPLETED SUCCESS").await;
    for id in ["slow", "slow-hinted"] {
        assert_eq!(
            (stage.states(id).await.as_str(), calls(&stage, id).query),
            ("PENDING PENDING", 1),
            "{id} is still being asked about"
        );
    }
    line.end().await;
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment WHERE holder IS NOT NULL").await, 0, "and given back at the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_and_looks_together_keep_to_the_slots() {
    let stage = Stage::with("slots", ProviderKind::Generic, quick()).await;
    for number in 0..120 {
        stage.place(&format!("o{number}"), Script::paid().taking_ms(100)).await;
        if number % 2 == 0 {
            stage.sql.run(&format!("UPDATE payment SET hinted_at = payment_now() WHERE payment_id = 'p-o{number}'")).await;
        }
    }
    stage.sql.run("UPDATE product SET stock = 1000 WHERE product_id = 'book'").await;
    let line = AtWork::of(&stage.line);
    crate::line_world::becomes_quiet(&stage.sql).await;
    line.end().await;
    assert_eq!(stage.simulator.in_flight_max(), 10);
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_however_many_hints_come() {
    let mut own = quick();
    own.asking.concurrency_max = 2;
    let stage = Stage::with("hints", ProviderKind::Generic, own).await;
    stage.place("a", Script::open().taking_ms(200)).await;
    stage.place("b", Script::open().taking_ms(200)).await;
    let done = AtomicBool::new(false);
    let run = async {
        let report: Report = tokio::time::timeout(PATIENCE, stage.line.run_once(Scope::Run, &CancellationToken::new()))
            .await
            .expect("the run ends")
            .unwrap();
        done.store(true, Ordering::SeqCst);
        report
    };
    // As soon as they are asked about, they are hinted at again; not before, because a claim passes over what somebody has locked.
    let asked = || ["p-a", "p-b"].map(|payment| stage.simulator.calls(&reference(payment)).query).iter().all(|asked| *asked > 0);
    let hints = async {
        testkit::eventually(PATIENCE, "both are asked about", || async { asked() || done.load(Ordering::SeqCst) }).await;
        while !done.load(Ordering::SeqCst) {
            stage.sql.run("UPDATE payment SET hinted_at = payment_now()").await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (report, ()) = tokio::join!(run, hints);
    assert_eq!(report.asked(), 2, "what was due when it began: {report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_hangs_holds_up_no_other_gateway() {
    let stage = Stage::with("two-gateways", ProviderKind::Generic, quick()).await;
    let other = Simulator::start().unwrap();
    let account = |url| ProviderSettings::new(ProviderKind::Generic, url, Options::API_KEY);
    let providers = [("other", other.generic_url()), ("sim", stage.simulator.generic_url())];
    let providers = providers.map(|(name, url)| Providers::one(name, &account(url)).unwrap());
    let both = Line::new(&settings(&stage.world), providers.into(), Uuid::from_u128(2), quick()).unwrap();
    let place = async |id: &str| {
        let mut order = order(id);
        order.payments = vec![attempt(&format!("p-{id}"), "other", &reference(&format!("p-{id}")))];
        stage.sql.place(&order).await;
        other.place(NewPayment::new(reference(&format!("p-{id}")), AMOUNT, Currency::KRW, Script::paid())).unwrap();
    };
    stage.simulator.set_outage(Outage::Hanging);
    for number in 0..15 {
        stage.place(&format!("hangs{number}"), Script::paid()).await;
        place(&format!("o{number}")).await;
    }
    let line = AtWork::of(&both);
    testkit::eventually(PATIENCE, "all slots of the one are asking", || async { stage.simulator.in_flight_max() == 10 }).await;
    for number in 0..15 {
        becomes(&stage, &format!("o{number}"), "COMPLETED SUCCESS").await;
    }
    place("late").await;
    stage.sql.run("UPDATE payment SET hinted_at = payment_now() WHERE payment_id = 'p-late'").await;
    becomes(&stage, "late", "COMPLETED SUCCESS").await;
    place("fresh").await;
    becomes(&stage, "fresh", "COMPLETED SUCCESS").await;
    assert_eq!(
        stage.sql.number("SELECT count(*) FROM payment WHERE holder IS NOT NULL").await,
        10,
        "the first asks are still under way"
    );
    line.end().await;
}
