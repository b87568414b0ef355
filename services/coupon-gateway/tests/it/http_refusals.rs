//! Which fields are named as faulty, and who is told to come back later.

use domain::coupon::Admission;
use reqwest::Method;
use testkit::{World, eventually};

use crate::{
    gateway::{Answer, Gateway, SOON, define, sql},
    openapi_contract::call,
};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn post(gateway: &Gateway, code: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    call(gateway, Method::POST, &format!("/v1/coupons/{code}/requests"), &[&[JSON], headers].concat(), body).await
}

/// The fields that an answer finds faulty.
fn faulty(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.problem(), (400, "invalid_fields".to_owned()), "{}", answer.text);
    let errors = answer.json()["errors"].as_array().unwrap().clone();
    errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn each_faulty_field_is_named() {
    let world = World::new("fields").await;
    let coupon = world.coupon("fields");
    define(&world, &coupon, Admission::Queued, 10).await;
    let gateway = Gateway::start(&world).await;
    let code = coupon.as_str();
    let long = format!(r#"{{"memberId":"{}"}}"#, "x".repeat(65));
    let bad_members = [
        "{}",
        r#"{"memberId":""}"#,
        r#"{"memberId":"a b"}"#,
        r#"{"memberId":null}"#,
        r#"{"memberId":-1}"#,
        r#"{"memberId":"a\u0000"}"#,
        &long,
    ];
    for bad in bad_members {
        assert_eq!(faulty(&post(&gateway, code, &[], bad).await), ["memberId"], "{bad}");
    }
    assert_eq!(faulty(&post(&gateway, code, &[], r#"{"memberId":"a","userId":"b"}"#).await), ["userId"]);
    let key = "k".repeat(129);
    let all = post(&gateway, &"c".repeat(65), &[("idempotency-key", &key)], r#"{"memberId":[]}"#).await;
    assert_eq!(faulty(&all), ["Idempotency-Key", "memberId", "code"], "all faults at once");
    for bad in ["", "[]", "{", "\"a\"", "{\"memberId\":\"a\"} x"] {
        assert_eq!(post(&gateway, code, &[], bad).await.problem(), (400, "malformed_body".to_owned()), "{bad}");
    }
    for (query, field) in [("limit=0", "limit"), ("limit=x", "limit"), ("after=!", "after")] {
        let answer = call(&gateway, Method::GET, &format!("/v1/members/m/coupons?{query}"), &[], "").await;
        assert_eq!(faulty(&answer), [field]);
    }
    let answer = call(&gateway, Method::GET, &format!("/v1/coupons/{code}/members/a%20b"), &[], "").await;
    assert_eq!(faulty(&answer), ["memberId"]);
    assert_eq!(faulty(&call(&gateway, Method::GET, "/v1/coupons/a%7Bb", &[], "").await), ["code"]);

    let path = format!("/v1/coupons/{code}/requests");
    for media_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let answer = call(&gateway, Method::POST, &path, &[("content-type", media_type)], r#"{"memberId":"a"}"#).await;
        assert_eq!(answer.problem(), (415, "unsupported_media_type".to_owned()), "{media_type}");
    }
    let charset = [("content-type", "application/json; charset=utf-8")];
    assert_eq!(call(&gateway, Method::POST, &path, &charset, r#"{"memberId":"a"}"#).await.status, 202);
}

#[tokio::test]
async fn a_coupon_that_gives_nothing_says_why_and_until_when() {
    let world = World::new("rules").await;
    let gateway = Gateway::start(&world).await;
    for (rule, answered) in [
        ("opens_at = now() + interval '1 day'", (403, "not_open")),
        ("closes_at = now() - interval '1 day'", (403, "closed")),
        ("paused = true", (403, "paused")),
        ("ended = true", (403, "ended")),
        ("total_quantity = 0", (410, "sold_out")),
    ] {
        let coupon = world.coupon("rules");
        define(&world, &coupon, Admission::Queued, 10).await;
        sql(&world, &format!("UPDATE coupon SET {rule} WHERE coupon_code = '{coupon}'")).await;
        let ask = async || post(&gateway, coupon.as_str(), &[], r#"{"memberId":"a"}"#).await;
        let answered = (answered.0, answered.1.to_owned());
        eventually(SOON, &answered.1, || async { ask().await.problem() == answered }).await;
        let answer = ask().await.json();
        assert_eq!(answer.get("opensAt").is_some(), answered.1 == "not_open");
        assert_eq!(answer.get("closesAt").is_some(), answered.1 == "closed");
    }
}

#[tokio::test]
async fn whoever_asks_too_often_is_told_when_to_come_back() {
    let world = World::new("rates").await;
    let coupon = world.coupon("rates");
    define(&world, &coupon, Admission::Queued, 10).await;
    let settings = [
        ("LIMITS__MEMBER_PER_S", "1"),
        ("LIMITS__MEMBER_BURST", "2"),
        ("LIMITS__ADDRESS_PER_S", "1"),
        ("LIMITS__ADDRESS_BURST", "5"),
        ("LIMITS__TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let gateway = Gateway::start_with(&world, &settings).await;
    let ask = async |member: &str, address: &str| {
        let body = format!(r#"{{"memberId":"{member}"}}"#);
        post(&gateway, coupon.as_str(), &[("x-forwarded-for", address)], &body).await
    };
    let mut answers = Vec::new();
    for number in 0..20 {
        answers.push(ask("often", &format!("203.0.113.{number}")).await);
    }
    assert!(answers[..2].iter().all(|answer| answer.status == 202));
    let limited: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(!limited.is_empty(), "20 at once, where 2 and 1 a second are allowed");
    assert_eq!((limited[0].problem().1.as_str(), &limited[0].headers["retry-after"] == "1"), ("rate_limited", true));
    assert_eq!(ask("seldom", "203.0.113.99").await.status, 202, "another member is not concerned");

    let mut statuses = Vec::new();
    for number in 0..40 {
        // What the client wrote to the left of his own address changes nothing.
        statuses.push(ask(&format!("m{number}"), &format!("198.51.100.{number}, 203.0.113.200")).await.status);
    }
    assert!(statuses[..5].iter().all(|status| *status == 202) && statuses.contains(&429), "{statuses:?}");
    assert_eq!(ask("other", "203.0.113.201").await.status, 202, "another address is not concerned");
}
