use domain::payment::Currency;
use pg_simulator::{NewPayment, Options, Script, Simulator};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;

pub fn start() -> Simulator {
    Simulator::start().unwrap()
}

pub fn client() -> Client {
    Client::builder().timeout(std::time::Duration::from_secs(30)).build().unwrap()
}

pub fn place(simulator: &Simulator, reference: &str, amount: i64, script: Script) {
    simulator.place(NewPayment::new(reference, amount, Currency::KRW, script)).unwrap();
}

pub fn authorized(request: RequestBuilder) -> RequestBuilder {
    request.bearer_auth(Options::API_KEY)
}

pub async fn generic(simulator: &Simulator, reference: &str) -> Response {
    authorized(client().get(format!("{}/v1/payments/{reference}", simulator.generic_url()))).send().await.unwrap()
}

pub async fn generic_status(simulator: &Simulator, reference: &str) -> String {
    let body: Value = generic(simulator, reference).await.json().await.unwrap();
    body["status"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
}

pub async fn generic_refund(simulator: &Simulator, reference: &str, amount: i64, key: &str) -> reqwest::Result<Response> {
    authorized(client().post(format!("{}/v1/payments/{reference}/refunds", simulator.generic_url())))
        .header("Idempotency-Key", key)
        .json(&serde_json::json!({"amount": amount, "currency": "KRW", "reason": "test"}))
        .send()
        .await
}
