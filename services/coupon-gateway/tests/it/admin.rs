//! The operators' interface at a real gateway: through the log, to a decision, and back.

use domain::{clock::SystemClock, ids::CommandId};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{World, eventually};

use crate::{
    admin_decider::Decider,
    gateway::{Answer, Gateway, SOON, accepted},
    openapi_contract::call,
};

const ANNA: (&str, &str) = ("authorization", "Bearer anna-token-0123456789");
const BEN: (&str, &str) = ("authorization", "Bearer ben-token-0123456789");
const TOKENS: (&str, &str) = ("ADMIN__TOKENS", "anna:anna-token-0123456789,ben:ben-token-0123456789");

async fn send(gateway: &Gateway, method: Method, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    if body.is_null() {
        return call(gateway, method, path, headers, "").await;
    }
    call(gateway, method, path, &[headers, &[("content-type", "application/json")]].concat(), &body.to_string()).await
}

fn problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.problem(), (status, code.to_owned()), "{}", answer.text);
}

/// The coupon of a command that was decided and done.
fn done(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text);
    answer.json()["coupon"].clone()
}

#[tokio::test]
async fn it_is_closed_without_tokens_and_open_to_theirs_only() {
    let world = World::new("closed").await;
    let gateway = Gateway::start(&world).await;
    let paths = ["/v1/admin/coupons", "/v1/admin/coupons/c", "/v1/admin/coupons/c/commands"];
    for path in paths {
        problem(&send(&gateway, Method::GET, path, &[ANNA], &Value::Null).await, 403, "admin_disabled");
    }
    problem(&send(&gateway, Method::POST, "/v1/admin/coupons", &[ANNA], &json!({})).await, 403, "admin_disabled");

    let mut gateway = Gateway::start_with(&world, &[TOKENS, ("TELEMETRY__LOG_FILTER", "trace")]).await;
    for path in paths {
        for headers in
            [&[][..], &[("authorization", "Bearer anna-token-0123456780")], &[("authorization", "Basic anna-token-0123456789")]]
        {
            problem(&send(&gateway, Method::GET, path, headers, &Value::Null).await, 401, "unauthorized");
        }
    }
    for action in ["pause", "resume", "end"] {
        problem(
            &send(&gateway, Method::POST, &format!("/v1/admin/coupons/c/{action}"), &[], &Value::Null).await,
            401,
            "unauthorized",
        );
        problem(
            &send(&gateway, Method::POST, &format!("/v1/admin/coupons/c/{action}"), &[BEN], &Value::Null).await,
            404,
            "unknown_coupon",
        );
        problem(
            &send(&gateway, Method::GET, &format!("/v1/admin/coupons/c/{action}"), &[BEN], &Value::Null).await,
            405,
            "method_not_allowed",
        );
    }
    assert_eq!(send(&gateway, Method::GET, paths[0], &[BEN], &Value::Null).await.json(), json!({"coupons": []}));
    problem(&send(&gateway, Method::GET, paths[1], &[BEN], &Value::Null).await, 404, "unknown_coupon");
    problem(&send(&gateway, Method::GET, "/v1/admin/nothing", &[BEN], &Value::Null).await, 404, "not_found");
    assert!(!gateway.log().contains("token-01234"), "a token is in the log");
}

#[tokio::test]
async fn what_operators_decide_goes_through_the_log_and_is_kept() {
    let world = World::new("admin").await;
    let _decider = Decider::start(&world);
    let gateway = Gateway::start_with(&world, &[TOKENS, ("ADMIN__WAIT_MS", "15000")]).await;
    let code = world.coupon("admin");
    let one = format!("/v1/admin/coupons/{code}");
    let new = json!({"code": code.as_str(), "name": "Früh", "admission": "queued", "totalQuantity": 2, "closesAt": "2999-01-01T00:00:00+09:00"});
    let key = ("idempotency-key", "define-1");
    // A code that was asked for just before it was defined is known at once to the gateway that defined it.
    problem(&send(&gateway, Method::GET, &one, &[ANNA], &Value::Null).await, 404, "unknown_coupon");
    assert_eq!(gateway.get(&format!("/v1/coupons/{code}")).await.status, 404);
    let first = send(&gateway, Method::POST, "/v1/admin/coupons", &[ANNA, key], &new).await;
    let coupon = done(&first, 201);
    assert_eq!(
        (&coupon["name"], &coupon["totalQuantity"], &coupon["closesAt"]),
        (&json!("Früh"), &json!(2), &json!("2998-12-31T15:00:00.000Z"))
    );
    assert_eq!(gateway.get(&format!("/v1/coupons/{code}")).await.json(), coupon);
    let again = send(&gateway, Method::POST, "/v1/admin/coupons", &[ANNA, key], &new).await;
    assert_eq!((again.status, &again.json()["commandId"]), (201, &first.json()["commandId"]), "the same key is the same command");
    problem(&send(&gateway, Method::POST, "/v1/admin/coupons", &[BEN, key], &new).await, 409, "already_defined");

    let asked = accepted(&gateway.ask(&code, "a").await);
    let status = asked["statusUrl"].as_str().unwrap();
    eventually(SOON, "an issue", || async { gateway.get(status).await.json()["status"] == "success" }).await;
    problem(&send(&gateway, Method::PATCH, &one, &[ANNA], &json!({"totalQuantity": 0})).await, 409, "total_below_issued");
    problem(
        &send(&gateway, Method::PATCH, &one, &[ANNA], &json!({"opensAt": "2999-06-01T00:00:00Z"})).await,
        409,
        "window_empty",
    );
    let change = json!({"name": "Spät", "totalQuantity": 5, "closesAt": null});
    let changed = done(&send(&gateway, Method::PATCH, &one, &[ANNA], &change).await, 200);
    assert_eq!((&changed["name"], &changed["left"], changed.get("closesAt")), (&json!("Spät"), &json!(4), None));

    let path = format!("{one}/requests/{}/cancel", asked["requestId"].as_str().unwrap());
    problem(&send(&gateway, Method::POST, &path, &[BEN], &json!({"memberId": "a"})).await, 409, "already_decided");
    let early = format!("{one}/requests/{}/cancel", uuid::Uuid::from_u128(7));
    done(&send(&gateway, Method::POST, &early, &[BEN], &json!({"memberId": "b"})).await, 200);
    assert_eq!(
        done(&send(&gateway, Method::POST, &format!("{one}/pause"), &[BEN, key], &Value::Null).await, 200)["status"],
        "PAUSED"
    );
    eventually(SOON, "paused", || async { gateway.ask(&code, "c").await.problem() == (403, "paused".to_owned()) }).await;
    assert_eq!(
        done(&send(&gateway, Method::POST, &format!("{one}/resume"), &[BEN, key], &Value::Null).await, 200)["status"],
        "ACTIVE"
    );
    assert_eq!(done(&send(&gateway, Method::POST, &format!("{one}/end"), &[ANNA], &Value::Null).await, 200)["status"], "ENDED");
    problem(&send(&gateway, Method::PATCH, &one, &[ANNA], &change).await, 409, "already_ended");

    // Who did what, in pages.
    let (mut history, mut after) = (Vec::new(), String::new());
    loop {
        let page = send(&gateway, Method::GET, &format!("{one}/commands?limit=4{after}"), &[ANNA], &Value::Null).await.json();
        history.extend(page["commands"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    let told: Vec<String> = history
        .iter()
        .map(|command| {
            format!(
                "{} {} {}",
                command["actor"].as_str().unwrap(),
                command["kind"].as_str().unwrap(),
                command["outcome"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "anna define accepted",
            "ben define already_defined",
            "anna change total_below_issued",
            "anna change window_empty",
            "anna change accepted",
            "ben cancel already_decided",
            "ben cancel accepted",
            "ben change accepted",
            "ben change accepted",
            "anna change accepted",
            "anna change ended",
        ]
    );
    let list = send(&gateway, Method::GET, "/v1/admin/coupons?limit=1", &[BEN], &Value::Null).await.json();
    assert_eq!((list["coupons"].as_array().unwrap().len(), &list["coupons"][0]["code"]), (1, &json!(code.as_str())));
}

#[tokio::test]
async fn a_command_that_is_not_decided_in_time_can_be_asked_for() {
    let world = World::new("late").await;
    let gateway = Gateway::start_with(&world, &[TOKENS, ("ADMIN__WAIT_MS", "50")]).await;
    let code = world.coupon("late");
    let new = json!({"code": code.as_str(), "admission": "reserved", "totalQuantity": 1});
    let answer = send(&gateway, Method::POST, "/v1/admin/coupons", &[ANNA], &new).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let url = answer.json()["statusUrl"].as_str().unwrap().to_owned();
    assert_eq!(answer.headers["location"], url);
    let status = async || send(&gateway, Method::GET, &url, &[BEN], &Value::Null).await;
    assert_eq!(status().await.json()["status"], "pending");
    let _decider = Decider::start(&world);
    eventually(SOON, "a decision", || async { status().await.json()["status"] == "accepted" }).await;
    assert_eq!((&status().await.json()["actor"], &status().await.json()["code"]), (&json!("anna"), &json!(code.as_str())));
    let unknown = format!("/v1/admin/commands/{}", CommandId::fresh(&SystemClock));
    problem(&send(&gateway, Method::GET, &unknown, &[BEN], &Value::Null).await, 404, "unknown_command");
}

#[tokio::test]
async fn faulty_calls_are_told_before_anything_is_written() {
    let world = World::new("faulty").await;
    let gateway = Gateway::start_with(&world, &[TOKENS]).await;
    let post = async |body: &str, media_type: &str| {
        call(&gateway, Method::POST, "/v1/admin/coupons", &[ANNA, ("content-type", media_type)], body).await
    };
    let fields = |answer: &Answer| -> Vec<String> {
        problem(answer, 400, "invalid_fields");
        answer.json()["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    };
    let json = "application/json";
    assert_eq!(fields(&post("{}", json).await), ["code", "admission", "totalQuantity"]);
    let bad = r#"{"code":"a b","name":"","admission":"first","totalQuantity":-1,"opensAt":"noon","closesAt":5,"colour":1}"#;
    assert_eq!(fields(&post(bad, json).await), ["body", "code", "name", "admission", "totalQuantity", "opensAt", "closesAt"]);
    problem(&post("[]", json).await, 400, "malformed_body");
    problem(&post("{}", "text/plain").await, 415, "unsupported_media_type");
    problem(&post(&format!("{{\"name\":\"{}\"}}", "x".repeat(20_000)), json).await, 413, "body_too_large");
    let limit = send(&gateway, Method::GET, "/v1/admin/coupons?limit=0", &[ANNA], &Value::Null).await;
    assert_eq!(fields(&limit), ["limit"]);
    let id = send(&gateway, Method::GET, "/v1/admin/commands/x", &[ANNA], &Value::Null).await;
    assert_eq!(fields(&id), ["commandId"]);
    let key = "k".repeat(200);
    let body = r#"{"code":"c","admission":"queued","totalQuantity":1}"#;
    let keyed =
        call(&gateway, Method::POST, "/v1/admin/coupons", &[ANNA, ("content-type", json), ("idempotency-key", &key)], body).await;
    assert_eq!(fields(&keyed), ["Idempotency-Key"]);
}
