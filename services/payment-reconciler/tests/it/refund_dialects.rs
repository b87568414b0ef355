//! Whom the money belongs to in the end, in each gateway's own words: the same orders through each adapter, and the money check.

use payment_providers::ProviderKind;
use pg_simulator::{Answer, Call, Fault, RefundScript, Script};

use crate::refund_stage::{AMOUNT, DAY, HOUR, MINUTE, Stage, reference};

/// An order: its id, its product, what its attempts do, and where all of them are in the end; then the reason of its first refund.
struct Case {
    id: &'static str,
    product: &'static str,
    scripts: fn() -> Vec<Script>,
    end: &'static str,
    reason: &'static str,
}

const fn case(
    id: &'static str,
    product: &'static str,
    scripts: fn() -> Vec<Script>,
    end: &'static str,
    reason: &'static str,
) -> Case {
    Case { id, product, scripts, end, reason }
}

const CASES: [Case; 20] = [
    case("paid", "book", || vec![Script::paid()], "COMPLETED SUCCESS", ""),
    case("closed", "book", || vec![Script::default().then(Answer::Closed)], "FAILED FAILED", ""),
    case("expired", "book", || vec![Script::default().then(Answer::Expired)], "FAILED FAILED", ""),
    case("slow", "book", || vec![Script::pending(3).then(Answer::Paid)], "COMPLETED SUCCESS", ""),
    case("unheard", "book", || vec![Script::not_found(3).then(Answer::Paid)], "COMPLETED SUCCESS", ""),
    case("faulty", "book", || vec![faulty()], "COMPLETED SUCCESS", ""),
    case("exact", "pair", || vec![Script::paid()], "COMPLETED SUCCESS", ""),
    case("short", "rarity", || vec![Script::paid()], "FAILED REFUNDED", "OUT_OF_STOCK"),
    case("gone", "nothing", || vec![Script::paid()], "FAILED REFUNDED", "PRODUCT_NOT_FOUND"),
    case("less", "book", || vec![Script::paid().capturing(AMOUNT - 1)], "FAILED REFUNDED", "AMOUNT_MISMATCH"),
    case("more", "book", || vec![Script::paid().capturing(AMOUNT + 1)], "FAILED REFUNDED", "AMOUNT_MISMATCH"),
    case("dollars", "book", || vec![Script::paid().capturing_in("USD")], "FAILED REFUNDED", "CURRENCY_MISMATCH"),
    case("twice", "book", || vec![Script::paid(), Script::paid()], "COMPLETED", "SECOND_PAYMENT"),
    case("second", "book", || vec![Script::default().then(Answer::Closed), Script::paid()], "COMPLETED FAILED SUCCESS", ""),
    case("cancelled", "book", || vec![Script::paid()], "CANCELLED REFUNDED", "ORDER_CANCELLED"),
    case("unpaid", "book", || vec![Script::default().then(Answer::Closed)], "CANCELLED FAILED", ""),
    case("lost", "nothing", || vec![refused_once(Fault::ReplyLost)], "FAILED REFUNDED", "PRODUCT_NOT_FOUND"),
    case("unsent", "nothing", || vec![refused_once(Fault::Dropped)], "FAILED REFUNDED", "PRODUCT_NOT_FOUND"),
    case("unread", "nothing", || vec![refused_once(Fault::Malformed)], "FAILED REFUNDED", "PRODUCT_NOT_FOUND"),
    case("returns", "nothing", || vec![fails_twice()], "FAILED REFUNDED", "PRODUCT_NOT_FOUND"),
];

fn faulty() -> Script {
    let faults = [Fault::Status(503), Fault::Dropped, Fault::Malformed, Fault::ReplyLost, Fault::Huge];
    faults.into_iter().fold(Script::paid(), |script, fault| script.fault(Call::Query, 1, fault))
}

fn refused_once(fault: Fault) -> Script {
    Script::paid().fault(Call::Refund, 1, fault)
}

/// One that fails later, one that is done and comes back, and one that takes its time.
fn fails_twice() -> Script {
    Script::paid().refund(RefundScript::FailsLater(2)).refund(RefundScript::Reversed(2)).refund(RefundScript::Pending(3))
}

async fn every_order_ends_with_its_money_where_it_belongs(kind: ProviderKind) {
    let stage = Stage::new("dialects", kind).await;
    // Just what one order wants.
    stage.sql.run("INSERT INTO product (product_id, stock) VALUES ('pair', 2)").await;
    for Case { id, product, scripts, .. } in &CASES {
        stage.place_of(id, product, scripts()).await;
    }
    let cancel = "UPDATE customer_order SET state = 'CANCELLED' WHERE order_id IN ('cancelled', 'unpaid') AND state = 'PENDING'";
    stage.sql.run(cancel).await;
    assert_eq!(stage.run().await.asked(), 0, "nothing is stale yet");
    stage.becomes_quiet().await;
    // Long enough for what came back, too: a refund that is confirmed is asked about again.
    stage.run_for(2 * DAY, 6 * HOUR).await;
    stage.becomes_quiet().await;
    for Case { id, end, reason, .. } in &CASES {
        let states = stage.states(id).await;
        assert!(states.starts_with(end), "{kind:?} {id}: {states}");
        let why =
            format!("SELECT string_agg(r.reason, ' ') FROM refund r JOIN payment USING (payment_id) WHERE order_id = '{id}'");
        assert_eq!(stage.sql.text(&why).await, *reason, "{kind:?} {id}");
    }
    let mut twice: Vec<String> = stage.states("twice").await.split(' ').map(str::to_owned).collect();
    twice.sort_unstable();
    assert_eq!(twice, ["COMPLETED", "REFUNDED", "SUCCESS"], "which of the two came first is nobody's business");
    assert_eq!(stage.states("second").await, "COMPLETED FAILED SUCCESS");
    // What may have been done is asked about first, and what was done is not sent again.
    assert_eq!((stage.refund_calls("p-lost"), stage.keys("p-lost")), (1, vec!["own-1".to_owned()]));
    assert_eq!((stage.refund_calls("p-unread"), stage.keys("p-unread")), (1, vec!["own-1".to_owned()]));
    assert_eq!((stage.refund_calls("p-unsent"), stage.keys("p-unsent")), (2, vec!["own-1".to_owned()]), "the same call again");
    assert_eq!(stage.keys("p-returns"), ["own-1", "own-2", "own-3"], "a new key once the one before is over");
    assert_eq!(stage.attention("p-paid").await + &stage.attention("p-faulty").await, "");
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn through_the_generic_contract_every_order_ends_with_its_money_where_it_belongs() {
    every_order_ends_with_its_money_where_it_belongs(ProviderKind::Generic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn through_toss_every_order_ends_with_its_money_where_it_belongs() {
    every_order_ends_with_its_money_where_it_belongs(ProviderKind::Toss).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn through_stripe_every_order_ends_with_its_money_where_it_belongs() {
    every_order_ends_with_its_money_where_it_belongs(ProviderKind::Stripe).await;
}

/// Orders that failed or were cancelled; then money comes for them, at once, after days, and shortly before nobody looks any more.
async fn late_money_goes_back(kind: ProviderKind) {
    let stage = Stage::new("late", kind).await;
    for id in ["at-once", "in-days", "at-last", "never"] {
        stage.place(id, Script::default().then(Answer::Closed)).await;
    }
    stage.place("unknown", Script::default().then(Answer::NotFound)).await;
    stage.place("unpaid", Script::open()).await;
    stage.sql.run("UPDATE customer_order SET state = 'CANCELLED' WHERE order_id = 'unpaid'").await;
    // Toss cannot end a card payment that is open: it expires by itself.
    if kind == ProviderKind::Toss {
        stage.run_after(11 * MINUTE).await;
        assert_eq!(stage.states("unpaid").await, "CANCELLED PENDING");
        stage.simulator.tell(&reference("p-unpaid"), Answer::Expired).unwrap();
    }
    stage.run_after(11 * MINUTE).await;
    assert_eq!(stage.states("at-once").await, "FAILED FAILED");
    assert_eq!(stage.states("unknown").await, "PENDING PENDING", "what is not known is not failed");
    assert_eq!(stage.states("unpaid").await, "CANCELLED FAILED");
    stage.becomes_quiet().await;
    assert_eq!(stage.states("unknown").await, "FAILED FAILED");
    stage.money().holds().await;

    let pays = |id: &str| stage.simulator.pay(&reference(&format!("p-{id}"))).unwrap();
    pays("at-once");
    pays("unpaid");
    stage.run_for(DAY, HOUR).await;
    assert_eq!([stage.states("at-once").await, stage.states("unpaid").await], ["FAILED REFUNDED", "CANCELLED REFUNDED"]);
    stage.run_for(2 * DAY, 6 * HOUR).await;
    pays("in-days");
    pays("unknown");
    stage.run_for(DAY, 2 * HOUR).await;
    assert_eq!([stage.states("in-days").await, stage.states("unknown").await], ["FAILED REFUNDED", "FAILED REFUNDED"]);
    let left =
        "SELECT (extract(epoch FROM sweep_until - payment_now()) * 1000)::bigint FROM payment WHERE payment_id = 'p-at-last'";
    stage.sql.time_passes(stage.sql.number(left).await - MINUTE).await;
    stage.run().await;
    pays("at-last");
    // Within the jitter of the schedule.
    stage.run_for(2 * HOUR, 10 * MINUTE).await;
    assert_eq!(stage.states("at-last").await, "FAILED REFUNDED", "the last look falls on the end itself");
    let asked = stage.simulator.calls(&reference("p-never")).query;
    stage.run_for(2 * DAY, 6 * HOUR).await;
    assert_eq!(stage.simulator.calls(&reference("p-never")).query, asked, "five days are over");
    assert_eq!(stage.of_payment("p-never", "next_check_at").await, "");
    let reasons = "SELECT string_agg(DISTINCT reason, ' ' ORDER BY reason) FROM refund";
    assert_eq!(stage.sql.text(reasons).await, "ORDER_CANCELLED ORDER_FAILED");
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn through_the_generic_contract_late_money_goes_back() {
    late_money_goes_back(ProviderKind::Generic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn through_toss_late_money_goes_back() {
    late_money_goes_back(ProviderKind::Toss).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn through_stripe_late_money_goes_back() {
    late_money_goes_back(ProviderKind::Stripe).await;
}
