//! How often one may ask: what a refusal costs, who is counted, and what is never refused.

use domain::{coupon::Admission, ids::CouponCode};
use futures::future::join_all;
use reqwest::Method;
use testkit::{World, eventually};

use crate::{
    gateway::{Answer, Gateway, SOON, define, requests_in},
    openapi_contract::call,
};

const HEADER: (&str, &str) = ("IDENTITY__MODE", "header");

/// Asks as the member whom a proxy names.
async fn ask(gateway: &Gateway, coupon: &CouponCode, member: &str) -> Answer {
    call(gateway, Method::POST, &format!("/v1/coupons/{coupon}/requests"), &[("x-member-id", member)], "").await
}

#[tokio::test]
async fn a_refused_request_is_not_in_the_log_and_is_taken_later() {
    let world = World::new("limits").await;
    let coupon = world.coupon("limits");
    let partition = define(&world, &coupon, Admission::Queued, 100).await;
    let settings = [HEADER, ("LIMITS__MEMBER_PER_S", "1"), ("LIMITS__MEMBER_BURST", "3")];
    let gateway = Gateway::start_with(&world, &settings).await;
    let answers = join_all((0..40).map(|_| ask(&gateway, &coupon, "often"))).await;
    let mut taken = answers.iter().filter(|answer| answer.status == 202).count();
    assert!((3..40).contains(&taken), "{taken} of 40 were taken");
    for refused in answers.iter().filter(|answer| answer.status != 202) {
        assert_eq!(refused.problem(), (429, "rate_limited".to_owned()));
        assert_eq!(refused.headers["retry-after"], "1", "in whole seconds");
    }
    // Members are counted by what proves them, whatever the body says.
    assert_eq!(ask(&gateway, &coupon, "seldom").await.status, 202);
    eventually(SOON, "the member's turn", || async { ask(&gateway, &coupon, "often").await.status == 202 }).await;
    taken += 2;
    assert_eq!(requests_in(&world, partition).await.len(), taken, "the log holds what was acknowledged, and no more");
}

#[tokio::test]
async fn guessing_codes_is_limited_as_asking_is() {
    let world = World::new("guessing").await;
    let gateway = Gateway::start_with(&world, &[HEADER, ("LIMITS__MEMBER_PER_S", "1"), ("LIMITS__MEMBER_BURST", "3")]).await;
    let codes: Vec<CouponCode> = (0..40).map(|number| world.coupon(&format!("guess-{number}"))).collect();
    let answers = join_all(codes.iter().map(|code| ask(&gateway, code, "guesser"))).await;
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    assert!((1..=37).contains(&refused), "{refused} of 40 were refused");
    assert!(answers.iter().all(|answer| [404, 429].contains(&answer.status)));
}

#[tokio::test]
async fn a_stranger_cannot_hide_behind_addresses_of_his_choice() {
    let world = World::new("addresses").await;
    let coupon = world.coupon("addresses");
    define(&world, &coupon, Admission::Queued, 100).await;
    let settings = [HEADER, ("LIMITS__ADDRESS_PER_S", "1"), ("LIMITS__ADDRESS_BURST", "3")];
    let gateway = Gateway::start_with(&world, &settings).await;
    let path = format!("/v1/coupons/{coupon}");
    let addresses: Vec<String> = (0..40).map(|number| format!("203.0.113.{number}")).collect();
    let asked = addresses.iter().map(|address| {
        let headers = [("x-forwarded-for", address.as_str())];
        let path = &path;
        let gateway = &gateway;
        async move { call(gateway, Method::GET, path, &headers, "").await }
    });
    let answers = join_all(asked).await;
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(!refused.is_empty() && refused.len() <= 37, "{} of 40 were refused", refused.len());
    assert!(refused.iter().all(|answer| answer.problem() == (429, "rate_limited".to_owned())));
    // Whoever watches the process must always get through.
    for _ in 0..20 {
        assert_eq!(gateway.get("/health/ready").await.status, 200);
        assert_eq!(gateway.get("/metrics").await.status, 200);
    }
}
