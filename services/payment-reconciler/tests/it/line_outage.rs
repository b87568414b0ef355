//! A gateway that is away, and one that wants fewer calls: it is left alone, nothing fails, and nobody grows old by it.

use payment_providers::ProviderKind;
use payment_reconciler::line::run::Scope;
use pg_simulator::{Call, Fault, Outage, Script};
use testkit::World;
use tokio_util::sync::CancellationToken;

use crate::{
    line_world::{calls, replica},
    orders::Sql,
    refund_stage::{HOUR, MINUTE, SECOND, Stage, patient},
};

const ORDERS: u32 = 60;

const ENOUGH: &str = "UPDATE product SET stock = 1000 WHERE product_id = 'book'";

fn asked(stage: &Stage) -> u32 {
    (0..ORDERS).map(|number| calls(stage, &format!("o{number}")).query).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_without_the_gateway_fails_nothing_shows_nobody_and_costs_few_calls() {
    for outage in [Outage::Unavailable, Outage::Dropping, Outage::Hanging] {
        hour_of(outage).await;
    }
}

async fn hour_of(outage: Outage) {
    let mut own = patient();
    own.policy.handover_ms = 45 * MINUTE;
    own.policy.payment_window_ms = 3 * HOUR;
    // A gateway that hangs is not waited for in earnest.
    let mut hasty = own.clone();
    hasty.asking.try_timeout_ms = if outage == Outage::Hanging { 50 } else { own.asking.try_timeout_ms };
    let mut stage = Stage::with("outage", ProviderKind::Generic, hasty).await;
    for number in 0..ORDERS {
        stage.place(&format!("o{number}"), Script::paid()).await;
    }
    stage.sql.run(ENOUGH).await;
    stage.place("open", Script::open()).await;
    stage.simulator.set_outage(outage);
    let report = stage.run_after(11 * MINUTE).await;
    assert_eq!(report.successes(), 0, "{outage:?}: {report:?}");
    let at_first = asked(&stage);
    assert!((15..=42).contains(&at_first), "the breaker opens while the first slots are asking: {at_first} calls, {outage:?}");
    stage.run().await;
    assert_eq!(asked(&stage), at_first, "nothing is asked while the breaker is open");
    for _ in 0..60 {
        stage.run_after(MINUTE).await;
    }
    let during = asked(&stage) + calls(&stage, "open").query;
    assert!(during <= at_first + 61 * 3, "one payment with its three tries at a time: {during} calls, {outage:?}");
    let touched = "SELECT count(*) FROM payment p JOIN customer_order o USING (order_id) \
        WHERE p.state <> 'PENDING' OR o.state <> 'PENDING' OR p.attention";
    assert_eq!(stage.sql.number(touched).await, 0, "no answer is no verdict, and no age");
    stage.simulator.set_outage(Outage::None);
    stage.line = replica(&stage, 2, own);
    stage.run_for(20 * MINUTE, MINUTE).await;
    assert_eq!(stage.sql.number("SELECT count(*) FROM customer_order WHERE state = 'COMPLETED'").await, i64::from(ORDERS));
    assert_eq!(stage.attention("p-open").await, "", "its age does not count the outage");
    // Without an outage it does grow older.
    stage.run_for(2 * HOUR, 30 * MINUTE).await;
    assert_eq!((stage.attention("p-open").await.as_str(), stage.states("open").await.as_str()), ("overdue", "PENDING PENDING"));
    stage.simulator.pay("ref_p_open").unwrap();
    stage.becomes_quiet().await;
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_breaker_lets_one_replica_try_with_one_ask() {
    let mut own = patient();
    own.asking.tries = 1;
    let stage = Stage::with("probe", ProviderKind::Generic, own.clone()).await;
    let other = replica(&stage, 2, own.clone());
    stage.sql.run(ENOUGH).await;
    for number in 0..ORDERS {
        stage.place(&format!("o{number}"), Script::paid().taking_ms(20)).await;
    }
    stage.simulator.set_outage(Outage::Unavailable);
    stage.run_after(11 * MINUTE).await;
    for round in 0..3 {
        let before = asked(&stage);
        stage.sql.time_passes(own.breaker.open_ms + SECOND).await;
        let stop = CancellationToken::new();
        let (first, second) = tokio::join!(stage.line.run_once(Scope::Run, &stop), other.run_once(Scope::Run, &stop));
        assert_eq!(first.unwrap().asked() + second.unwrap().asked(), 1, "round {round}");
        assert_eq!(asked(&stage), before + 1, "round {round}");
    }
    stage.simulator.set_outage(Outage::None);
    stage.sql.time_passes(own.breaker.open_ms + SECOND).await;
    stage.becomes_quiet().await;
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_whose_answers_cannot_be_read_do_not_keep_a_breaker_open() {
    let mut own = patient();
    own.asking.tries = 1;
    own.breaker.failures = 1;
    let stage = Stage::with("poisoned-probe", ProviderKind::Generic, own.clone()).await;
    for number in 0..3 {
        stage.place(&format!("poison{number}"), Script::paid().fault(Call::Query, u32::MAX, Fault::Malformed)).await;
    }
    for number in 0..5 {
        stage.place(&format!("o{number}"), Script::paid()).await;
    }
    stage.simulator.set_outage(Outage::Unavailable);
    stage.run_after(11 * MINUTE).await;
    assert_eq!(stage.sql.text("SELECT breaker FROM provider_state").await, "open");
    stage.simulator.set_outage(Outage::None);
    // The poison is what is due first.
    stage.sql.run("UPDATE payment SET next_check_at = payment_now() + CASE WHEN payment_id LIKE 'p-poison%' THEN interval '0' ELSE interval '1 second' END").await;
    stage.sql.time_passes(own.breaker.open_ms + SECOND).await;
    let report = stage.run().await;
    assert_eq!((report.successes(), report.failures()), (5, 3), "{report:?}");
    assert_eq!(stage.sql.text("SELECT breaker FROM provider_state").await, "closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_that_nothing_could_try_is_tried_by_the_next_payment_that_is_due() {
    let mut own = patient();
    own.asking.tries = 1;
    own.breaker.failures = 1;
    let stage = Stage::with("idle-breaker", ProviderKind::Generic, own.clone()).await;
    stage.place("a", Script::paid()).await;
    stage.simulator.set_outage(Outage::Unavailable);
    stage.run_after(11 * MINUTE).await;
    stage.simulator.set_outage(Outage::None);
    stage.sql.run("UPDATE payment SET next_check_at = payment_now() + interval '35 seconds'").await;
    stage.sql.time_passes(own.breaker.open_ms + SECOND).await;
    assert_eq!(stage.run().await.asked(), 0, "nothing is due");
    stage.sql.time_passes(5 * SECOND).await;
    assert_eq!(stage.run().await.asked(), 1);
    assert_eq!(stage.states("a").await, "COMPLETED SUCCESS");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_calls_pause_the_gateway_for_all_replicas_as_long_as_it_says() {
    let mut own = patient();
    own.asking.concurrency_max = 1;
    let stage = Stage::with("throttled", ProviderKind::Generic, own.clone()).await;
    let other = replica(&stage, 2, own.clone());
    let stop = CancellationToken::new();
    stage.place("o0", Script::paid().fault(Call::Query, 1, Fault::Throttled(Some(7)))).await;
    stage.place("o1", Script::paid()).await;
    stage.place("o2", Script::paid()).await;
    stage.run_after(11 * MINUTE).await;
    assert_eq!(asked(&stage), 1, "it is not tried again, and nobody else is asked about");
    other.run_once(Scope::Run, &stop).await.unwrap();
    stage.sql.time_passes(6 * SECOND).await;
    stage.run().await;
    other.run_once(Scope::Due, &stop).await.unwrap();
    assert_eq!(asked(&stage), 1);
    stage.sql.time_passes(2 * SECOND).await;
    other.run_once(Scope::Run, &stop).await.unwrap();
    assert_eq!(
        (stage.states("o1").await.as_str(), stage.states("o2").await.as_str()),
        ("COMPLETED SUCCESS", "COMPLETED SUCCESS")
    );
    // It does not say how long.
    stage.place("o3", Script::paid().fault(Call::Query, 1, Fault::Throttled(None))).await;
    stage.run_after(11 * MINUTE).await;
    let paused = "SELECT (extract(epoch FROM paused_until - updated_at) * 1000)::bigint FROM provider_state";
    assert_eq!(stage.sql.number(paused).await, own.breaker.pause_ms);
    stage.becomes_quiet().await;
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_claimed_before_a_pause_is_given_back_instead_of_being_asked_about_again() {
    let mut own = patient();
    own.asking.try_delay_ms = 3_000;
    let stage = Stage::with("paused-retries", ProviderKind::Generic, own).await;
    // Two of one batch: the one is told to pause while the other waits for its second try.
    stage.place("o0", Script::paid().taking_ms(500).fault(Call::Query, 1, Fault::Throttled(Some(60)))).await;
    stage.place("o1", Script::paid().fault(Call::Query, 1, Fault::Status(503))).await;
    let report = stage.run_after(11 * MINUTE).await;
    assert_eq!((calls(&stage, "o0").query, calls(&stage, "o1").query), (1, 1), "{report:?}");
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment WHERE holder IS NOT NULL").await, 0);
    assert_eq!(stage.sql.number("SELECT failed_checks::bigint FROM payment WHERE payment_id = 'p-o1'").await, 0);
    stage.run_after(50 * SECOND).await;
    assert_eq!((calls(&stage, "o0").query, calls(&stage, "o1").query), (1, 1));
    stage.becomes_quiet().await;
    assert_eq!(stage.states("o1").await, "COMPLETED SUCCESS");
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outages_count_as_far_as_they_reach_into_a_time_however_many_there_ever_were() {
    let sql = Sql::of(&World::of_payments("outages").await).await;
    sql.run(
        "INSERT INTO provider_outage (provider, began_at, ended_at)
            SELECT 'sim', at, at + interval '1 minute' FROM generate_series(timestamptz '2026-01-01T00:00:00Z', '2026-01-31T00:00:00Z', '5 minutes') at;
         INSERT INTO provider_outage (provider, began_at, ended_at) VALUES
            ('sim', '2026-02-01T10:00:00Z', '2026-02-01T10:10:00Z'), ('sim', '2026-02-01T11:00:00Z', '2026-02-01T11:30:00Z'),
            ('sim', '2026-02-01T12:00:00Z', NULL), ('other', '2026-02-01T09:00:00Z', NULL);
         ANALYZE provider_outage",
    )
    .await;
    let minutes = async |from: &str, to: &str| {
        let query = format!("SELECT payment_outage_ms('sim', '2026-02-01T{from}:00Z', '2026-02-01T{to}:00Z') / 60000");
        sql.number(&query).await
    };
    let read = async || {
        sql.text("SELECT pg_stat_force_next_flush()::text").await;
        let rows = "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relid = 'provider_outage'::regclass";
        sql.number(rows).await
    };
    let before = read().await;
    for (from, to, away) in [
        ("09:00", "12:30", 70),
        ("10:05", "11:10", 15),
        ("10:20", "10:50", 0),
        ("10:20", "11:15", 15),
        ("11:10", "11:20", 10),
        ("10:00", "10:10", 10),
        ("10:10", "11:00", 0),
        ("12:10", "12:20", 10),
    ] {
        assert_eq!(minutes(from, to).await, away, "{from} to {to}");
    }
    let rows = read().await - before;
    assert!((8..100).contains(&rows), "{rows} of thousands of outages were read");
}
