//! Whose a payment is: each dialect has an account of its own, which knows and lists only its own payments.

use domain::payment::Currency;
use pg_simulator::{ControlError, Dialect, NewPayment, Options, Script, Simulator};
use serde_json::Value;

use crate::support::{client, start};

const ALL: [Dialect; 3] = [Dialect::Generic, Dialect::Toss, Dialect::Stripe];

fn paid(reference: &str) -> NewPayment {
    NewPayment::new(reference, 700, Currency::KRW, Script::paid())
}

async fn get(url: String) -> (u16, Value) {
    let response = client().get(url).basic_auth(Options::API_KEY, Some("")).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn ask(simulator: &Simulator, dialect: Dialect, reference: &str) -> (u16, Value) {
    get(match dialect {
        Dialect::Generic => format!("{}/v1/payments/{reference}", simulator.generic_url()),
        Dialect::Toss => format!("{}/v1/payments/orders/{reference}", simulator.toss_url()),
        Dialect::Stripe => {
            format!("{}/v1/payment_intents/{reference}?expand[]=latest_charge.refunds", simulator.stripe_url())
        }
    })
    .await
}

/// The references in a dialect's list.
async fn listed(simulator: &Simulator, dialect: Dialect) -> Vec<String> {
    let (status, list) = get(match dialect {
        Dialect::Generic => {
            format!("{}/v1/transactions?from=2000-01-01T00:00:00Z&to=2100-01-01T00:00:00Z", simulator.generic_url())
        }
        Dialect::Toss => {
            format!("{}/v1/transactions?startDate=2000-01-01T00:00:00&endDate=2100-01-01T00:00:00", simulator.toss_url())
        }
        Dialect::Stripe => format!("{}/v1/balance_transactions", simulator.stripe_url()),
    })
    .await;
    assert_eq!(status, 200, "{list}");
    let (lines, name) = match dialect {
        Dialect::Generic => (&list["transactions"], "/reference"),
        Dialect::Toss => (&list, "/orderId"),
        Dialect::Stripe => (&list["data"], "/source/payment_intent"),
    };
    lines.as_array().unwrap().iter().map(|line| line.pointer(name).unwrap().as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_payment_is_known_and_listed_in_its_own_account_only() {
    let simulator = start();
    let names = ["p_generic", "p_toss", "p_stripe"];
    for (dialect, name) in ALL.into_iter().zip(names) {
        simulator.place(paid(name).belonging_to(dialect)).unwrap();
    }
    for (dialect, name) in ALL.into_iter().zip(names) {
        assert_eq!(listed(&simulator, dialect).await, [name], "{dialect:?}");
        for other in names {
            let (status, answer) = ask(&simulator, dialect, other).await;
            assert_eq!(status, if other == name { 200 } else { 404 }, "{other} in {dialect:?}: {answer}");
        }
    }
    assert_eq!(simulator.unknown_calls(), 6, "what belongs to another account is not known");
    assert_eq!(names.map(|name| simulator.calls(name).query), [1, 1, 1]);
    let (_, toss) = ask(&simulator, Dialect::Toss, "p_toss").await;
    let (_, stripe) = ask(&simulator, Dialect::Stripe, "p_stripe").await;
    assert_eq!((toss["status"].as_str(), toss["balanceAmount"].as_i64()), (Some("DONE"), Some(700)), "{toss}");
    assert_eq!((stripe["status"].as_str(), stripe["latest_charge"]["amount"].as_i64()), (Some("succeeded"), Some(700)));

    // Nobody gives back what is another account's.
    let refund = client().post(format!("{}/v1/payments/p_toss/refunds", simulator.generic_url())).bearer_auth(Options::API_KEY);
    let body = serde_json::json!({"amount": 700, "currency": "KRW", "reason": "test"});
    assert_eq!(refund.header("Idempotency-Key", "k").json(&body).send().await.unwrap().status(), 404);
    assert_eq!(simulator.money("p_toss").held(), 700);
}

#[tokio::test]
async fn a_payment_of_nobody_belongs_to_whoever_asks_or_lists_first() {
    let simulator = start();
    for name in ["asked", "listed"] {
        simulator.place(paid(name)).unwrap();
    }
    assert_eq!(simulator.payment("asked").unwrap().dialect, None);
    assert_eq!(ask(&simulator, Dialect::Stripe, "asked").await.0, 200);
    assert_eq!(listed(&simulator, Dialect::Toss).await, ["listed"]);
    assert_eq!(listed(&simulator, Dialect::Generic).await, Vec::<String>::new());
    assert_eq!(listed(&simulator, Dialect::Stripe).await, ["asked"]);
    let owner = |name: &str| simulator.payment(name).unwrap().dialect;
    assert_eq!([owner("asked"), owner("listed")], [Some(Dialect::Stripe), Some(Dialect::Toss)]);
    simulator.place(paid("asked")).unwrap();
    let taken = simulator.place(paid("asked").belonging_to(Dialect::Generic)).unwrap_err();
    assert_eq!(taken, ControlError::Taken("asked".to_owned()));
}
