//! Callbacks against a real PostgreSQL.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use domain::{clock::SystemClock, secret::Secret};
use payment_providers::port::PaymentProvider;
use payment_reconciler::callbacks::{CallbackSettings, Desk, DeskError, Sweeper, Swept, Taken};
use testkit::{World, eventually};
use uuid::Uuid;

use crate::{
    orders::{PATIENCE, Sql, db, order},
    scripted::Scripted,
};

const SIGNED_WAITING: Taken = Taken::Waiting { authenticated: true };
const UNSIGNED_WAITING: Taken = Taken::Waiting { authenticated: false };

struct Stage {
    sql: Sql,
    desk: Arc<Desk>,
    sweeper: Sweeper,
    waiting: Arc<AtomicU32>,
}

async fn stage(name: &str, settings: CallbackSettings) -> Stage {
    let world = World::of_payments(name).await;
    let (db, waiting) = (db(&world).await, Arc::new(AtomicU32::new(0)));
    let providers = [Scripted::named("sim") as Arc<dyn PaymentProvider>];
    let desk = Desk::new(db.clone(), Arc::new(SystemClock), settings.clone(), providers, Arc::clone(&waiting));
    let sweeper = Sweeper::new(db, Uuid::from_u128(1), settings, Arc::clone(&waiting));
    Stage { sql: Sql::of(&world).await, desk: Arc::new(desk), sweeper, waiting }
}

fn generous() -> CallbackSettings {
    CallbackSettings { unsigned_per_s: 10_000, unsigned_burst: 10_000, unknown_burst: 10_000, ..CallbackSettings::default() }
}

fn body(reference: &str, event: &str) -> String {
    format!(r#"{{"reference":"{reference}","event":"{event}"}}"#)
}

impl Stage {
    async fn take(&self, body: &str, signed: bool) -> Result<Taken, DeskError> {
        let signature = ("x-signature".to_owned(), "good".to_owned());
        let headers = if signed { vec![signature] } else { Vec::new() };
        self.desk.take("sim", &headers, body.as_bytes()).await
    }

    /// Whether the payment is due now because of a hint.
    async fn hinted(&self, payment: &str) -> bool {
        self.sql.number(&format!("SELECT count(*) FROM payment WHERE payment_id = '{payment}' AND hinted_at IS NOT NULL")).await
            == 1
    }

    /// The payment was asked about just now, as the line would write it.
    async fn asked(&self, payment: &str) {
        let asked = format!("UPDATE payment SET hinted_at = NULL, checked_at = payment_now() WHERE payment_id = '{payment}'");
        self.sql.run(&asked).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_makes_its_payment_due_and_repeats_are_one() {
    let stage = stage("callbacks", generous()).await;
    stage.sql.place(&order("a")).await;
    assert!(!stage.hinted("p-a").await);
    assert_eq!(stage.take(&body("ref-a", "e1"), true).await.unwrap(), Taken::Stored);
    assert!(stage.hinted("p-a").await);
    stage.asked("p-a").await;
    for _ in 0..3 {
        assert_eq!(stage.take(&body("ref-a", "e1"), true).await.unwrap(), Taken::Repeated);
    }
    assert!(!stage.hinted("p-a").await, "it was asked about a moment ago");
    assert_eq!(stage.sql.number("SELECT times::bigint FROM payment_callback").await, 4);
    assert_eq!(stage.sql.text("SELECT state FROM payment").await, "PENDING", "it never decides");

    assert_eq!(stage.take("{}", true).await.unwrap(), Taken::Ignored);
    assert!(matches!(stage.take("no json", true).await, Err(DeskError::Malformed(_))));
    let forged = [("x-signature".to_owned(), "bad".to_owned())];
    let refused = stage.desk.take("sim", &forged, body("ref-a", "e2").as_bytes()).await;
    assert!(matches!(refused, Err(DeskError::Signature(_))));
    assert!(matches!(stage.desk.take("nobody", &[], b"{}").await, Err(DeskError::UnknownProvider)));
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment_callback").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_hints_at_once_make_a_payment_due_once_and_not_again_before_its_bound() {
    let stage = Arc::new(stage("storm", generous()).await);
    stage.sql.place(&order("a")).await;
    let hints = (0..40).map(|number| {
        let stage = Arc::clone(&stage);
        tokio::spawn(async move { stage.take(&body("ref-a", &format!("e{number}")), false).await.unwrap() })
    });
    for hint in futures::future::join_all(hints).await {
        assert_eq!(hint.unwrap(), Taken::Stored);
    }
    assert!(stage.hinted("p-a").await);
    stage.asked("p-a").await;
    for number in 40..60 {
        stage.take(&body("ref-a", &format!("e{number}")), false).await.unwrap();
    }
    assert!(!stage.hinted("p-a").await, "it was asked too short ago");
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment_callback WHERE hint_at IS NOT NULL").await, 1, "once a payment");
    assert_eq!(stage.sweeper.run_once().await.unwrap(), Some(Swept::default()));
    assert!(!stage.hinted("p-a").await);
    stage.sql.time_passes(10_000).await;
    assert_eq!(stage.sweeper.run_once().await.unwrap(), Some(Swept { hinted: 1, ..Swept::default() }));
    assert!(stage.hinted("p-a").await, "the last hint is not lost");
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment_callback WHERE hint_at IS NOT NULL").await, 0);
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment_callback").await, 50, "a payment keeps a bounded number");
    assert_eq!(stage.sql.number("SELECT sum(times) FROM payment_callback").await, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposits_secret_is_compared() {
    let stage = stage("secret", generous()).await;
    let mut deposit = order("a");
    deposit.payments[0].deposit_secret = Some(Secret::new("ps_right"));
    stage.sql.place(&deposit).await;
    let with = |secret: &str, event: &str| format!(r#"{{"reference":"ref-a","event":"{event}","secret":"{secret}"}}"#);
    let wrong = stage.take(&with("ps_wrong", "e1"), false).await;
    assert!(matches!(wrong, Err(DeskError::Signature(_))));
    assert!(!stage.hinted("p-a").await);
    assert_eq!(stage.take(&with("ps_right", "e2"), false).await.unwrap(), Taken::Stored);
    assert!(stage.hinted("p-a").await);
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment_callback WHERE authenticated").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_of_an_unknown_payment_waits_for_its_intake_and_then_an_operator_sees_it() {
    let stage = stage("unknown", generous()).await;
    assert_eq!(stage.take(&body("ref-late", "e1"), true).await.unwrap(), SIGNED_WAITING);
    assert_eq!(stage.take(&body("ref-never", "e2"), false).await.unwrap(), UNSIGNED_WAITING);
    assert_eq!(stage.sweeper.run_once().await.unwrap(), Some(Swept::default()));
    assert_eq!(stage.waiting.load(Ordering::Relaxed), 1, "unsigned ones are counted");
    stage.sql.place(&order("late")).await;
    assert_eq!(stage.sweeper.run_once().await.unwrap(), Some(Swept { found: 1, hinted: 1, ..Swept::default() }));
    assert!(stage.hinted("p-late").await);
    stage.sql.time_passes(7 * 24 * 3_600_000 + 1).await;
    assert_eq!(stage.sweeper.run_once().await.unwrap(), Some(Swept { overdue: 1, ..Swept::default() }));
    assert_eq!(stage.sweeper.run_once().await.unwrap(), Some(Swept::default()), "it is told once");
    assert_eq!(stage.sql.text("SELECT reference FROM payment_callback WHERE attention_since IS NOT NULL").await, "ref-never");
    stage.sql.time_passes(90 * 24 * 3_600_000).await;
    assert_eq!(stage.sweeper.run_once().await.unwrap(), Some(Swept { deleted: 2, ..Swept::default() }));
}

#[tokio::test(flavor = "multi_thread")]
async fn unsigned_callbacks_are_bounded_and_signed_ones_are_not() {
    let settings = CallbackSettings { unsigned_per_s: 1, unsigned_burst: 3, unknown_waiting_max: 1, ..generous() };
    let stage = stage("bounded", settings).await;
    stage.sql.place(&order("a")).await;
    assert_eq!(stage.take(&body("ref-x", "e0"), false).await.unwrap(), UNSIGNED_WAITING);
    stage.sweeper.run_once().await.unwrap();
    assert!(matches!(stage.take(&body("ref-y", "e1"), false).await, Err(DeskError::TooMany)), "enough wait already");
    // At most three and one more for each second that passes meanwhile.
    let mut refused = 0;
    for number in 0..200 {
        refused += i32::from(matches!(stage.take(&body("ref-a", &format!("u{number}")), false).await, Err(DeskError::TooMany)));
    }
    assert!(refused > 100, "{refused} of 200 refused");
    for number in 0..20 {
        assert_eq!(stage.take(&body("ref-a", &format!("s{number}")), true).await.unwrap(), Taken::Stored);
    }
    assert_eq!(stage.take(&body("ref-z", "signed"), true).await.unwrap(), SIGNED_WAITING);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_is_not_made_due() {
    let stage = stage("success", generous()).await;
    stage.sql.place(&order("a")).await;
    stage
        .sql
        .run(
            "INSERT INTO product (product_id, initial_stock, stock) VALUES ('book', 10, 10);
             BEGIN;
             INSERT INTO money_entry (payment_id, kind, pg_transaction_id, amount, currency, actor) VALUES ('p-a', 'capture', 't', 15000, 'KRW', 'test');
             UPDATE customer_order SET state = 'COMPLETED' WHERE order_id = 'a';
             UPDATE payment SET state = 'SUCCESS' WHERE payment_id = 'p-a';
             INSERT INTO stock_movement (order_id, product_id, kind, change) VALUES ('a', 'book', 'sold', -2);
             COMMIT",
        )
        .await;
    assert_eq!(stage.take(&body("ref-a", "e1"), true).await.unwrap(), Taken::Stored);
    assert!(!stage.hinted("p-a").await);
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment_callback WHERE hint_at IS NOT NULL").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_that_comes_before_the_sweep_has_found_its_payment_makes_it_due() {
    let stage = stage("repeat-first", generous()).await;
    assert_eq!(stage.take(&body("ref-a", "e1"), true).await.unwrap(), SIGNED_WAITING);
    stage.sql.place(&order("a")).await;
    assert_eq!(stage.take(&body("ref-a", "e1"), true).await.unwrap(), Taken::Repeated);
    assert!(stage.hinted("p-a").await);
    assert_eq!(stage.sweeper.run_once().await.unwrap(), Some(Swept::default()), "and nothing is left to be found");
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_nobody_waits_for_any_more_do_not_hide_how_many_wait() {
    let settings = CallbackSettings { unknown_waiting_max: 3, ..generous() };
    let stage = stage("overdue", settings).await;
    // More than are counted at all.
    let overdue = "INSERT INTO payment_callback (provider, event_id, reference, authenticated, attention_since) \
        SELECT 'sim', 'old' || n, 'old' || n, n % 2 = 0, payment_now() FROM generate_series(1, 40) n";
    stage.sql.run(overdue).await;
    for number in 0..3 {
        assert_eq!(stage.take(&body(&format!("ref-{number}"), &format!("e{number}")), false).await.unwrap(), UNSIGNED_WAITING);
    }
    stage.sweeper.run_once().await.unwrap();
    assert_eq!(stage.waiting.load(Ordering::Relaxed), 3);
    assert!(matches!(stage.take(&body("ref-more", "more"), false).await, Err(DeskError::TooMany)));
    assert_eq!(stage.take(&body("ref-signed", "signed"), true).await.unwrap(), SIGNED_WAITING);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_looks_at_a_bounded_number_of_unknown_payments_and_the_next_one_goes_on() {
    let stage = stage("pieces", CallbackSettings { sweep_rows_max: 2, ..generous() }).await;
    for number in 0..50 {
        stage.take(&body(&format!("ref-{number}"), &format!("e{number}")), true).await.unwrap();
    }
    for late in [49, 0] {
        stage.sql.place(&order(&late.to_string())).await;
        let mut sweeps = 0;
        while !stage.hinted(&format!("p-{late}")).await {
            stage.sweeper.run_once().await.unwrap();
            sweeps += 1;
            assert!(sweeps <= 3, "three sweeps of 20 look at all that wait");
        }
        assert!(late != 49 || sweeps == 3, "{sweeps}: none looks at more than its part");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_payments_are_looked_for_without_a_look_at_all_that_is_known() {
    let stage = stage("many", generous()).await;
    stage.sql.place(&order("a")).await;
    let many = "INSERT INTO payment_callback (provider, event_id, reference, payment_id, authenticated) \
        SELECT 'sim', 'known' || n, 'ref-a', 'p-a', true FROM generate_series(1, 100000) n; \
        INSERT INTO payment_callback (provider, event_id, reference, authenticated) \
        SELECT 'sim', 'unknown' || n, 'unknown' || n, true FROM generate_series(1, 1500) n; ANALYZE payment_callback; ANALYZE payment";
    stage.sql.run(many).await;
    let read = |index: &str| format!("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = '{index}'");
    let known = stage.sql.number(&read("payment_callback_pkey")).await;
    stage.sweeper.run_once().await.unwrap();
    let looked = read("payment_callback_orphan_idx");
    eventually(PATIENCE, "the database tells what was read", || async { stage.sql.number(&looked).await >= 1_500 }).await;
    let read = stage.sql.number(&read("payment_callback_pkey")).await - known;
    assert!(read < 10_000, "{read} rows of what is known were read");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_id_no_index_takes_is_stored_all_the_same_and_known_again() {
    let stage = stage("long-id", generous()).await;
    stage.sql.place(&order("a")).await;
    // What does not repeat itself cannot be made shorter for the index.
    let long: String = (0..1_000_u64).map(|n| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    for (id, taken) in [(&long, Taken::Stored), (&long, Taken::Repeated), (&format!("{long}x"), Taken::Stored)] {
        assert_eq!(stage.take(&body("ref-a", id), true).await.unwrap(), taken);
    }
    assert_eq!(stage.take(&body("ref-a", "no\\u0000text"), true).await.unwrap(), Taken::Stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn unsigned_ones_about_unknown_payments_have_a_bound_of_their_own() {
    let settings = CallbackSettings { unknown_per_s: 1, unknown_burst: 3, ..generous() };
    let stage = stage("unknown-bound", settings).await;
    stage.sql.place(&order("a")).await;
    // At most three and one more for each second that passes meanwhile.
    let mut refused = 0;
    for number in 0..200 {
        let taken = stage.take(&body(&format!("nobodys-{number}"), &format!("u{number}")), false).await;
        refused += i32::from(matches!(taken, Err(DeskError::TooMany)));
    }
    assert!(refused > 100, "{refused} of 200 refused");
    assert_eq!(stage.take(&body("ref-a", "known"), false).await.unwrap(), Taken::Stored, "what is known is not bounded by it");
    assert_eq!(
        stage.take(&body("nobodys", "signed"), true).await.unwrap(),
        Taken::Waiting { authenticated: true },
        "nor what is signed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_hint_may_come_sooner_behind_an_ask_than_an_unsigned_one() {
    let settings = CallbackSettings { signed_gap_ms: 3_600_000, unsigned_gap_ms: 7_200_000, ..generous() };
    let stage = stage("gaps", settings).await;
    stage.sql.place(&order("a")).await;
    let mut hinted = Vec::new();
    for (number, (minutes, signed)) in [(30, false), (30, true), (90, false), (90, true), (150, false)].into_iter().enumerate() {
        stage.asked("p-a").await;
        stage.sql.run("UPDATE payment_callback SET hint_at = NULL").await;
        stage.sql.time_passes(minutes * 60_000).await;
        assert_eq!(stage.take(&body("ref-a", &format!("e{number}")), signed).await.unwrap(), Taken::Stored);
        hinted.push(stage.hinted("p-a").await);
    }
    assert_eq!(hinted, [false, false, false, true, true], "an hour for signed ones, and two for the others");
}

#[tokio::test(flavor = "multi_thread")]
async fn asks_and_waiting_hints_from_before_the_clock_stepped_back_hold_nothing_up() {
    const HOUR_MS: i64 = 3_600_000;
    let stage = stage("hints-step-back", CallbackSettings { signed_gap_ms: 60_000, ..generous() }).await;
    stage.sql.place(&order("a")).await;
    stage.asked("p-a").await;
    assert_eq!(stage.take(&body("ref-a", "e1"), true).await.unwrap(), Taken::Stored);
    assert!(!stage.hinted("p-a").await, "it has just been asked about");
    stage.sql.time_passes(-HOUR_MS).await;
    assert_eq!(stage.sweeper.run_once().await.unwrap(), Some(Swept { hinted: 1, ..Swept::default() }));
    assert!(stage.hinted("p-a").await);
    stage.asked("p-a").await;
    stage.sql.time_passes(-HOUR_MS).await;
    assert_eq!(stage.take(&body("ref-a", "e2"), true).await.unwrap(), Taken::Stored);
    assert!(stage.hinted("p-a").await);
}
