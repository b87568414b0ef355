use std::time::{Duration, Instant};

use pg_simulator::{Call, Congestion, Fault, Latency, Options, Outage, Script, Simulator};

use crate::support::{authorized, client, generic, generic_refund, generic_status, place, start};

#[tokio::test]
async fn faults_hit_as_often_as_they_are_told_and_then_the_answer_comes() {
    let simulator = start();
    let script = Script::paid()
        .fault(Call::Query, 1, Fault::Throttled(Some(7)))
        .fault(Call::Query, 2, Fault::Status(503))
        .fault(Call::Query, 1, Fault::Malformed)
        .fault(Call::Query, 1, Fault::Dropped);
    place(&simulator, "p", 700, script);
    let first = generic(&simulator, "p").await;
    assert_eq!((first.status().as_u16(), first.headers()["retry-after"].to_str().unwrap()), (429, "7"));
    for _ in 0..2 {
        assert_eq!(generic(&simulator, "p").await.status(), 503);
    }
    assert!(generic(&simulator, "p").await.json::<serde_json::Value>().await.is_err());
    let url = format!("{}/v1/payments/p", simulator.generic_url());
    assert!(authorized(client().get(&url)).send().await.is_err(), "the connection ends without an answer");
    assert_eq!(generic_status(&simulator, "p").await, "paid");
    assert_eq!(simulator.calls("p").query, 6);
}

#[tokio::test]
async fn a_lost_reply_is_done_and_a_dropped_call_is_not() {
    let simulator = start();
    for (reference, fault) in [("lost", Fault::ReplyLost), ("dropped", Fault::Dropped)] {
        place(&simulator, reference, 700, Script::paid().fault(Call::Refund, 1, fault));
        assert!(generic_refund(&simulator, reference, 700, reference).await.is_err());
    }
    assert_eq!([simulator.money("lost").held(), simulator.money("dropped").held()], [0, 700]);
    assert_eq!(generic_refund(&simulator, "lost", 700, "lost").await.unwrap().status(), 201, "the key's answer");
    assert_eq!(simulator.money("lost").refunds, 1);
}

#[tokio::test]
async fn latencies_and_outages_can_be_set() {
    let simulator = start();
    place(&simulator, "quick", 700, Script::paid().taking_ms(0));
    place(&simulator, "other", 700, Script::paid());
    simulator.set_latency(Latency::fixed(150));
    let began = Instant::now();
    generic(&simulator, "other").await;
    assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
    simulator.set_outage(Outage::Unavailable);
    assert_eq!(generic(&simulator, "quick").await.status(), 503);
    simulator.set_outage(Outage::Dropping);
    let url = format!("{}/v1/payments/quick", simulator.generic_url());
    assert!(authorized(client().get(&url)).send().await.is_err());
    simulator.set_outage(Outage::None);
    assert_eq!(generic_status(&simulator, "quick").await, "paid");
}

#[tokio::test]
async fn calls_that_come_together_slow_each_other_down() {
    let simulator = start();
    place(&simulator, "p", 700, Script::paid());
    simulator.set_congestion(Congestion { free: 0, ms_per_call: 200 });
    let timed = || async {
        let began = Instant::now();
        assert_eq!(generic_status(&simulator, "p").await, "paid");
        began.elapsed()
    };
    let (a, b, c) = tokio::join!(timed(), timed(), timed());
    let (at_once, slowest) = (simulator.in_flight_max(), a.max(b).max(c));
    assert!(at_once >= 2 && slowest >= Duration::from_millis(200) * at_once, "{at_once} at once: {slowest:?}");
    assert_eq!(simulator.calls_total(), 3);
    assert_eq!(Congestion { free: 1, ms_per_call: 400 }.of(1), 0, "alone nobody is slowed down");
}

#[tokio::test]
async fn calls_at_once_are_counted() {
    let simulator = start();
    place(&simulator, "p", 700, Script::paid().taking_ms(300));
    let (a, b, c) = tokio::join!(generic(&simulator, "p"), generic(&simulator, "p"), generic(&simulator, "p"));
    assert!([a, b, c].iter().all(|response| response.status() == 200));
    assert!(simulator.calls("p").at_once_max >= 2, "{:?}", simulator.calls("p"));
    assert!(simulator.in_flight_max() >= 2);
}

#[tokio::test]
async fn a_wrong_key_is_refused_in_each_dialect() {
    let simulator = Simulator::start_with(Options { api_key: "right".to_owned(), ..Options::default() }).unwrap();
    for path in ["generic/v1/payments/g", "toss/v1/payments/orders/t", "stripe/v1/payment_intents/s"] {
        place(&simulator, &path[path.len() - 1..], 700, Script::paid());
        let ask = |key: &str| client().get(format!("{}/{path}", simulator.url())).bearer_auth(key).send();
        assert_eq!(ask("wrong").await.unwrap().status(), 401, "{path}");
        assert_eq!(ask("right").await.unwrap().status(), 200, "{path}");
    }
}
