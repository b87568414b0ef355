//! `trueup orders`, `refunds` and `payments` against the real service, with a gateway that nobody answers for.

use std::{collections::BTreeMap, time::Duration};

use contracts::order::{OrderPlaced, PaymentAttempt, encode_order_placed};
use domain::{
    clock::{Clock, SystemClock},
    payment::{Currency, Money},
};
use kafka_io::{CommandProducer, ProducerSettings};
use service_kit::lifecycle::Shutdown;
use testkit::{ENVELOPE, World, eventually};

use crate::support::{environment, execute, json, number, trueup};

pub const PATIENCE: Duration = Duration::from_secs(60);
const TOKEN: &str = "annas-token-that-only-tests-know";

/// The whole service in this process, and the environment of an operator who may call it.
pub type Service = (Shutdown, tokio::task::JoinHandle<anyhow::Result<()>>, BTreeMap<String, String>);

/// With a gateway that nobody answers for.
async fn service(world: &World) -> Service {
    let nowhere = format!("http://127.0.0.1:{}", stack::ports::free().unwrap());
    let own = [("SIM__KIND", "generic".to_owned()), ("SIM__BASE_URL", nowhere), ("SIM__API_KEY", "a-key".to_owned())];
    service_with(world, own.map(|(name, value)| (format!("PROVIDERS__{name}"), value))).await
}

pub async fn service_with(world: &World, own: impl IntoIterator<Item = (String, String)>) -> Service {
    service_kit::install_crypto_provider();
    let port = stack::ports::free().unwrap();
    let mut variables = world.environment(payment_reconciler::PREFIX);
    // What the line of payments does not know of.
    variables.retain(|name, _| !name.contains("REDIS") && !name.contains("LOG_SIGNING"));
    for (name, value) in [
        ("HTTP__LISTEN", format!("127.0.0.1:{port}")),
        ("ADMIN__TOKENS", format!("anna:{TOKEN}")),
        ("ADMIN__STALE_S", "0".to_owned()),
        ("INTAKE__CONSUMER__GROUP_ID", world.name.clone()),
    ] {
        variables.insert(format!("{}__{name}", payment_reconciler::PREFIX), value);
    }
    variables.extend(own.into_iter().map(|(name, value)| (format!("{}__{name}", payment_reconciler::PREFIX), value)));
    let settings = testkit::settings(payment_reconciler::PREFIX, &variables);
    let shutdown = Shutdown::default();
    let running = tokio::spawn(payment_reconciler::run(settings, testkit::metrics(), shutdown.clone()));
    let mut operator = environment(world);
    operator.insert("TRUEUP__PAYMENT_RECONCILERS".to_owned(), format!("http://127.0.0.1:{port}"));
    operator.insert("TRUEUP__ADMIN__TOKEN".to_owned(), TOKEN.to_owned());
    (shutdown, running, operator)
}

async fn place(world: &World, id: &str) {
    let producer = CommandProducer::new(&world.kafka, &ProducerSettings::default()).unwrap();
    let order = OrderPlaced {
        order: id.parse().unwrap(),
        amount: Money::new(15_000, Currency::KRW),
        lines: [("book".parse().unwrap(), 1)].into(),
        payments: vec![PaymentAttempt {
            payment: format!("p-{id}").parse().unwrap(),
            provider: "sim".parse().unwrap(),
            reference: format!("ref-{id}").parse().unwrap(),
            method: "card".to_owned(),
            deposit_secret: None,
        }],
        placed_at: SystemClock.now(),
    };
    let record = encode_order_placed(&order, &ENVELOPE);
    producer.publish(&world.kafka.topics.order_placed, None, &record).unwrap().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_and_resolves_what_stands_still() {
    let world = World::of_payments("operator").await;
    let (shutdown, running, operator) = service(&world).await;
    place(&world, "a").await;
    eventually(PATIENCE, "the order's intake", || async { number(&world, "SELECT count(*) FROM customer_order").await == 1 })
        .await;
    let run = async |arguments: &[&str]| trueup(&operator, arguments).await;

    let stale = run(&["orders", "stale", "--json"]).await;
    assert_eq!(json(&stale)[0]["orderId"], "a");
    let shown = run(&["orders", "show", "a"]).await;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success() && text.contains("p-a") && text.contains("book"), "{text}");
    assert_eq!(run(&["orders", "show", "nobodys"]).await.status.code(), Some(1));
    let dry = run(&["orders", "retry", "a", "--reason", "a call", "--dry-run"]).await;
    let text = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert!(
        dry.status.success() && text.contains("nothing was changed") && text.contains("p-a") && !text.contains('{'),
        "{text}"
    );
    assert_eq!(number(&world, "SELECT count(*) FROM operator_action").await, 0, "a dry run leaves nothing");
    assert!(run(&["orders", "retry", "a", "--reason", "a call"]).await.status.success());
    assert_eq!(
        number(&world, "SELECT count(*) FROM operator_action WHERE actor = 'operator:anna' AND reason = 'a call'").await,
        1
    );
    execute(&world, "INSERT INTO customer_order (order_id, amount, currency) VALUES ('lonely', 5, 'KRW')").await;
    let stale = String::from_utf8_lossy(&run(&["orders", "stale"]).await.stdout).into_owned();
    assert!(stale.lines().any(|line| line.contains("lonely") && line.contains("none")), "{stale}");
    for wish in [&["retry", "lonely"][..], &["resolve", "lonely", "--as", "settle"]] {
        let refused = run(&[&["orders"], wish, &["--reason", "x"]].concat()).await;
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(1) && why.contains("it has no payment"), "{why}");
    }
    let settle = run(&["orders", "resolve", "a", "--as", "settle", "--reason", "x", "--dry-run"]).await;
    assert_eq!(settle.status.code(), Some(2), "the gateway does not answer, so nobody can tell");
    let cancel = run(&["orders", "resolve", "a", "--as", "cancel", "--reason", "x"]).await;
    assert_eq!(cancel.status.code(), Some(1), "it is not completed");

    execute(
        &world,
        "BEGIN; UPDATE payment SET state = 'REFUNDING';
         INSERT INTO refund (refund_id, payment_id, amount, currency, reason, actor, automatic, state)
         VALUES ('rf-1', 'p-a', 15000, 'KRW', 'OUT_OF_STOCK', 'settle', true, 'MANUAL'); COMMIT",
    )
    .await;
    assert_eq!(json(&run(&["refunds", "list", "--state", "manual", "--json"]).await)[0]["refundId"], "rf-1");
    let dry = run(&["refunds", "hold", "rf-1", "--reason", "looks wrong", "--dry-run", "--json"]).await;
    assert_eq!((dry.status.code(), json(&dry)["would"].as_bool()), (Some(0), Some(true)));
    assert!(run(&["refunds", "hold", "rf-1", "--reason", "looks wrong"]).await.status.success());
    let again = run(&["refunds", "hold", "rf-1", "--reason", "again", "--dry-run"]).await;
    assert_eq!(again.status.code(), Some(1), "it would be refused, and a dry run says so");
    assert!(run(&["refunds", "release", "rf-1", "--reason", "is right"]).await.status.success());

    let audit = run(&["payments", "audit", "--day", "2026-05-01", "--json"]).await;
    assert_eq!((audit.status.code(), json(&audit)["audits"][0]["verdict"].as_str()), (Some(2), Some("cannot_tell")));
    execute(
        &world,
        "INSERT INTO money_entry (payment_id, kind, pg_transaction_id, amount, currency, pg_at, actor)
         VALUES ('p-a', 'capture', 't', 15000, 'KRW', '2026-04-30T15:00:00Z', 'test')",
    )
    .await;
    let totals = run(&["payments", "totals", "--day", "2026-05-01", "--utc-offset", "+09:00"]).await;
    let csv = String::from_utf8_lossy(&totals.stdout).into_owned();
    assert!(csv.ends_with("2026-05-01,+09:00,sim,KRW,1,15000,0,0,0,0,15000\n"), "{csv}");
    assert!(run(&["payments", "runs"]).await.status.success());
    assert!(run(&["payments", "callbacks", "--json"]).await.status.success());

    let mut stranger = operator.clone();
    stranger.insert("TRUEUP__ADMIN__TOKEN".to_owned(), "nobodys-token-at-all".to_owned());
    assert_eq!(trueup(&stranger, &["orders", "stale"]).await.status.code(), Some(1));
    shutdown.begin();
    tokio::time::timeout(PATIENCE, running).await.expect("it ends in time").unwrap().unwrap();
    assert_eq!(run(&["orders", "stale"]).await.status.code(), Some(2), "nobody answers any more");
}
