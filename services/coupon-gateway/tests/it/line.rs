//! The line end to end: gateway, log, consumer, ledger, and back to whoever asked.

use std::{collections::BTreeSet, time::Duration};

use domain::ids::CouponCode;
use serde_json::{Value, json};
use testkit::{Running, World, eventually};
use tokio::task::JoinSet;

use crate::gateway::{Gateway, SOON, open_gate, requests_in, sql};

pub const TOKEN: &str = "an-operator-token-of-tests";
const MEMBERS: usize = 120;
const SEATS: usize = 50;

/// Longer than a consumer takes to join its group on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A consumer in this process.
async fn start_consumer(world: &World) -> Running<anyhow::Error> {
    testkit::start("ISSUE_CONSUMER", &world.consumer_environment(), issue_consumer::Service::new, issue_consumer::Service::run)
        .await
}

/// Defines a coupon by the operators' interface, which waits for the log's decision.
pub async fn define(gateway: &Gateway, coupon: &CouponCode, admission: &str) {
    let body = json!({"code": coupon.as_str(), "name": "Spring", "admission": admission, "totalQuantity": SEATS});
    let url = format!("{}/v1/admin/coupons", gateway.url);
    let answer = gateway.client.post(url).bearer_auth(TOKEN).json(&body).send().await.unwrap();
    // 202 says that the decision is still to come, as when the consumer is just joining its group.
    assert!([201, 202].contains(&answer.status().as_u16()), "{}", answer.text().await.unwrap());
    eventually(PATIENCE, "the coupon", || async { gateway.get(&format!("/v1/coupons/{coupon}")).await.status == 200 }).await;
}

/// Everybody asks at once; what was answered 202, and how many were told that it is sold out.
async fn rush(gateway: &Gateway, coupon: &CouponCode) -> (Vec<Value>, usize) {
    let mut asking = JoinSet::new();
    for number in 0..MEMBERS {
        let (client, url) = (gateway.client.clone(), format!("{}/v1/coupons/{coupon}/requests", gateway.url));
        asking.spawn(async move {
            let response = client.post(url).json(&json!({"memberId": format!("m{number}")})).send().await.unwrap();
            (response.status().as_u16(), response.json::<Value>().await.unwrap())
        });
    }
    let (mut accepted, mut sold_out) = (Vec::new(), 0);
    while let Some(answer) = asking.join_next().await {
        match answer.unwrap() {
            (202, body) => accepted.push(body),
            (410, _) => sold_out += 1,
            other => panic!("{other:?}"),
        }
    }
    (accepted, sold_out)
}

/// Waits for every outcome by ticket; the members with the coupon, and the reasons of the others.
async fn outcomes(gateway: &Gateway, accepted: &[Value]) -> (BTreeSet<String>, Vec<String>) {
    let (mut winners, mut reasons) = (BTreeSet::new(), Vec::new());
    for answer in accepted {
        let url = answer["statusUrl"].as_str().unwrap();
        eventually(PATIENCE, "an outcome", || async { gateway.get(url).await.json()["status"] != "pending" }).await;
        let status = gateway.get(url).await.json();
        assert_eq!(status["requestId"], answer["requestId"]);
        match status["status"].as_str().unwrap() {
            "success" => assert!(winners.insert(status["memberId"].as_str().unwrap().to_owned()), "two issues of a member"),
            _ => reasons.push(status["reason"].as_str().unwrap().to_owned()),
        }
    }
    (winners, reasons)
}

async fn assert_the_ledger_agrees(world: &World, coupon: &CouponCode) {
    let facts = sql(
        world,
        &format!(
            "SELECT (SELECT issued_quantity FROM coupon WHERE coupon_code = '{coupon}'),
                    (SELECT count(*) FROM coupon_issue WHERE coupon_code = '{coupon}'),
                    (SELECT count(DISTINCT member_id) FROM coupon_issue WHERE coupon_code = '{coupon}'),
                    (SELECT max(sequence) FROM coupon_request WHERE coupon_code = '{coupon}')"
        ),
    )
    .await;
    assert_eq!(facts.trim(), [SEATS; 4].map(|seats| seats.to_string()).join("|"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queued_coupon_goes_to_the_first_of_the_log_without_any_redis() {
    let mut world = World::new("line-queued").await;
    // Nobody listens there.
    world.redis_url = format!("redis://127.0.0.1:{}/", stack::ports::free().unwrap());
    let gateway = Gateway::start_with(&world, &[("ADMIN__TOKENS", &format!("ann:{TOKEN}"))]).await;
    let consumer = start_consumer(&world).await;
    let coupon = world.coupon("line");
    define(&gateway, &coupon, "queued").await;
    let (accepted, _) = rush(&gateway, &coupon).await;
    let (winners, reasons) = outcomes(&gateway, &accepted).await;
    assert!(reasons.iter().all(|reason| reason == "sold_out"), "{reasons:?}");
    let partition = contracts::partition_of(coupon.as_str().as_bytes(), 4);
    let log = requests_in(&world, partition).await;
    let first: BTreeSet<String> = log.iter().take(SEATS).map(|request| request.member.to_string()).collect();
    assert_eq!(winners, first, "the first of the log, and nobody else");
    assert_the_ledger_agrees(&world, &coupon).await;
    eventually(SOON, "sold out", || async { gateway.ask(&coupon, "late").await.status == 410 }).await;
    // Who holds it and asks again is told so by the log.
    let winner = winners.first().unwrap();
    let again = gateway.ask(&coupon, winner).await.json();
    let (_, reasons) = outcomes(&gateway, &[again]).await;
    assert_eq!(reasons, ["duplicate"]);
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reserved_coupon_is_reserved_decided_and_settled() {
    let world = World::new("line-reserved").await;
    let gateway = Gateway::start_with(&world, &[("ADMIN__TOKENS", &format!("ann:{TOKEN}"))]).await;
    let consumer = start_consumer(&world).await;
    let coupon = world.coupon("line");
    define(&gateway, &coupon, "reserved").await;
    let gate = open_gate(&world.redis_url, &coupon, i64::try_from(SEATS).unwrap()).await;
    let (accepted, sold_out) = rush(&gateway, &coupon).await;
    assert_eq!((accepted.len(), sold_out), (SEATS, MEMBERS - SEATS), "the gate lets through what there is");
    let (winners, reasons) = outcomes(&gateway, &accepted).await;
    assert_eq!((winners.len(), reasons.len()), (SEATS, 0));
    assert_the_ledger_agrees(&world, &coupon).await;
    eventually(PATIENCE, "a settled gate", || async {
        let status = gate.status(&coupon).await.unwrap();
        (status.pending, status.members, status.stock) == (0, i64::try_from(SEATS).unwrap(), Some(0))
    })
    .await;
    let winner = winners.first().unwrap();
    let again = gateway.ask(&coupon, winner).await;
    assert_eq!((again.status, again.json()["status"].as_str()), (202, Some("success")));
    eventually(SOON, "the memory of being sold out", || async {
        gateway.ask(&coupon, "late").await.status == 410 && gateway.metric("trueup_gateway_sold_out_answers_total").await > 0.0
    })
    .await;
    consumer.stop().await;
}
