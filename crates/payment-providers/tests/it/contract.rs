//! The generic contract's document, its tables and the simulator say the same.

use std::collections::BTreeSet;

use domain::payment::Currency;
use payment_providers::tables::{GenericCode, GenericRefundStatus, GenericStatus};
use pg_simulator::{Answer, Call, Fault, NewPayment, Options, RefundScript, Script, Simulator};
use serde_json::{Value, json};

const DOCUMENT: &str = include_str!("../../openapi/generic.json");

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

#[test]
fn the_documents_words_are_the_tables() {
    let document = document();
    for (schema, all) in
        [("PaymentStatus", GenericStatus::ALL), ("RefundStatus", GenericRefundStatus::ALL), ("ErrorCode", GenericCode::ALL)]
    {
        let words = document["components"]["schemas"][schema]["enum"].as_array().unwrap();
        let words: BTreeSet<&str> = words.iter().map(|word| word.as_str().unwrap()).collect();
        assert_eq!(words, all.iter().copied().collect(), "{schema}");
    }
}

/// Holds an answer against the schema that the document gives for its path, method and status.
fn hold(path: &str, method: &str, status: u16, body: &Value) {
    let document = document();
    let responses = &document["paths"][path][method]["responses"];
    let exact = &responses[status.to_string()];
    let response = if exact.is_null() { &responses[format!("{}XX", status / 100)] } else { exact };
    let mut schema = response["content"]["application/json"]["schema"].clone();
    assert!(schema.is_object(), "{method} {path} does not document {status}: {body}");
    schema["components"] = document["components"].clone();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(body).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{method} {path} {status}: {errors:?} in {body}");
}

#[tokio::test]
async fn the_simulators_answers_are_as_documented() {
    let simulator = Simulator::start().unwrap();
    let client = reqwest::Client::new();
    let place = |reference: &str, script| simulator.place(NewPayment::new(reference, 700, Currency::KRW, script)).unwrap();
    let one = "/v1/payments/{reference}";
    let get = async |path: &str, pattern: &str| {
        let response =
            client.get(format!("{}{path}", simulator.generic_url())).bearer_auth(Options::API_KEY).send().await.unwrap();
        let status = response.status().as_u16();
        hold(pattern, "get", status, &response.json().await.unwrap());
        status
    };
    let post = async |path: &str, pattern: &str, body: Value, key: &str| {
        let request = client.post(format!("{}{path}", simulator.generic_url())).bearer_auth(Options::API_KEY);
        let response = request.header("Idempotency-Key", key).json(&body).send().await.unwrap();
        let status = response.status().as_u16();
        hold(pattern, "post", status, &response.json().await.unwrap());
        status
    };
    for (number, answer) in
        [Answer::Open, Answer::Deposit, Answer::Paid, Answer::Failed, Answer::Closed, Answer::Expired].into_iter().enumerate()
    {
        place(&format!("p-{number}"), Script::default().then(answer));
        assert_eq!(get(&format!("/v1/payments/p-{number}"), one).await, 200);
    }
    assert_eq!(get("/v1/payments/nobody", one).await, 404);
    place("faulty", Script::paid().fault(Call::Query, 1, Fault::Throttled(None)).fault(Call::Query, 1, Fault::Status(503)));
    assert_eq!([get("/v1/payments/faulty", one).await, get("/v1/payments/faulty", one).await], [429, 503]);

    let refunds = "/v1/payments/{reference}/refunds";
    let order = |amount: i64| json!({"amount": amount, "currency": "KRW", "reason": "test"});
    for (name, script) in [
        ("done", Script::paid()),
        ("pending", Script::paid().refund(RefundScript::Pending(1))),
        ("rejected", Script::paid().refund(RefundScript::Refused("refund_rejected".to_owned()))),
        ("unpaid", Script::open()),
        ("account", Script { method: pg_simulator::Method::VirtualAccount, ..Script::paid() }),
    ] {
        place(name, script);
        let status = post(&format!("/v1/payments/{name}/refunds"), refunds, order(700), name).await;
        let expected = match name {
            "rejected" | "unpaid" => 409,
            "account" => 422,
            _ => 201,
        };
        assert_eq!(status, expected, "{name}");
        assert_eq!(get(&format!("/v1/payments/{name}"), one).await, 200);
    }
    assert_eq!(post("/v1/payments/done/refunds", refunds, order(1), "another").await, 409);
    assert_eq!(post("/v1/payments/nobody/refunds", refunds, order(1), "n").await, 404);
    let close = "/v1/payments/{reference}/close";
    assert_eq!(post("/v1/payments/p-0/close", close, json!({}), "c").await, 200);
    assert_eq!(post("/v1/payments/p-2/close", close, json!({}), "c").await, 409);
    let window = "from=1970-01-01T00:00:00Z&to=2100-01-01T00:00:00Z&limit=2";
    assert_eq!(get(&format!("/v1/transactions?{window}"), "/v1/transactions").await, 200);
    assert_eq!(get("/v1/transactions?from=then&to=now", "/v1/transactions").await, 400);
}
