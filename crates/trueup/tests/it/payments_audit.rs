//! `trueup payments audit` and `totals`: the real service against a simulator's list in each of its dialects.

use std::{collections::BTreeMap, process::Output};

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use domain::{
    clock::{Clock, SystemClock},
    payment::Currency,
};
use pg_simulator::{NewPayment, Options, Outage, Script, Simulator};
use serde_json::Value;
use testkit::{World, eventually};

use crate::{
    payments::{PATIENCE, Service, service_with},
    support::{execute, json, number, trueup},
};

/// The dialects, which are the names of the gateways here, too.
const KINDS: [&str; 3] = ["generic", "toss", "stripe"];

const AMOUNT: i64 = 15_000;

struct Shop {
    world: World,
    gateways: BTreeMap<&'static str, Simulator>,
    service: Service,
    from: DateTime<Utc>,
}

fn reference(kind: &str, order: &str) -> String {
    format!("ref_{kind}_{order}")
}

impl Shop {
    async fn open(name: &str) -> Self {
        let world = World::of_tables(name).await;
        let gateways: BTreeMap<&str, Simulator> = KINDS.map(|kind| (kind, Simulator::start().unwrap())).into();
        let mut own = vec![
            ("INTAKE__ENABLED".to_owned(), "false".to_owned()),
            ("OUTBOX__ENABLED".to_owned(), "false".to_owned()),
            ("KAFKA__BROKERS".to_owned(), "127.0.0.1:9".to_owned()),
            ("LINE__RUN__STALE_AFTER_MS".to_owned(), "0".to_owned()),
            ("LINE__RUN__INTERVAL_MS".to_owned(), "100".to_owned()),
            ("LINE__RUN__DUE_INTERVAL_MS".to_owned(), "50".to_owned()),
            ("AUDIT__NIGHTLY".to_owned(), "false".to_owned()),
        ];
        for (kind, simulator) in &gateways {
            let url = match *kind {
                "generic" => simulator.generic_url(),
                "toss" => simulator.toss_url(),
                _ => simulator.stripe_url(),
            };
            for (name, value) in [("KIND", (*kind).to_owned()), ("BASE_URL", url), ("API_KEY", Options::API_KEY.to_owned())] {
                own.push((format!("PROVIDERS__{}__{name}", kind.to_uppercase()), value));
            }
        }
        let service = service_with(&world, own).await;
        let from = SystemClock.now().to_datetime() - TimeDelta::minutes(30);
        let shop = Self { world, gateways, service, from };
        execute(&shop.world, "INSERT INTO product (product_id, stock) VALUES ('book', 1000)").await;
        shop
    }

    /// An order that is paid at the gateway.
    async fn place(&self, kind: &str, order: &str, product: &str) {
        self.gateways[kind].place(NewPayment::new(reference(kind, order), AMOUNT, Currency::KRW, Script::paid())).unwrap();
        self.insert(kind, order, product, "payment_now()").await;
    }

    async fn insert(&self, kind: &str, order: &str, product: &str, placed_at: &str) {
        let (id, reference) = (format!("{kind}-{order}"), reference(kind, order));
        execute(
            &self.world,
            &format!(
                "BEGIN; INSERT INTO customer_order (order_id, amount, currency, created_at) VALUES ('{id}', {AMOUNT}, 'KRW', {placed_at});
                 INSERT INTO order_line (order_id, product_id, quantity) VALUES ('{id}', '{product}', 1);
                 INSERT INTO payment (payment_id, order_id, provider, reference, method, amount, currency, created_at)
                 VALUES ('p-{id}', '{id}', '{kind}', '{reference}', 'card', {AMOUNT}, 'KRW', {placed_at}); COMMIT"
            ),
        )
        .await;
    }

    /// What the book says without the gateway having said it.
    async fn booked(&self, kind: &str, order: &str, amount: i64) {
        // Not stale in this test's time, so that the line does not look at it.
        self.insert(kind, order, "book", "payment_now() + interval '1 day'").await;
        let at = SystemClock.now().to_datetime().to_rfc3339();
        execute(
            &self.world,
            &format!(
                "INSERT INTO money_entry (payment_id, kind, pg_transaction_id, amount, currency, pg_at, actor)
                 VALUES ('p-{kind}-{order}', 'capture', '{}', {amount}, 'KRW', '{at}', 'a test')",
                reference(kind, order)
            ),
        )
        .await;
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        trueup(&self.service.2, arguments).await
    }

    async fn audit(&self, provider: Option<&str>) -> (Option<i32>, Vec<Value>) {
        let (from, to) = (self.from.to_rfc3339(), (self.from + TimeDelta::hours(1)).to_rfc3339());
        let mut arguments = vec!["payments", "audit", "--from", &from, "--to", &to, "--json"];
        arguments.extend(provider.into_iter().flat_map(|provider| ["--provider", provider]));
        let output = self.run(&arguments).await;
        let reports = json(&output)["audits"].as_array().unwrap().clone();
        (output.status.code(), reports)
    }
}

fn named(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut named: Vec<_> =
        report["differences"].as_array().unwrap().iter().map(|one| (text(&one["kind"]), text(&one["reference"]))).collect();
    named.sort();
    named
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_is_clean_names_what_differs_or_cannot_tell_in_each_dialect() {
    let shop = Shop::open("audit-dialects").await;
    for kind in KINDS {
        for order in ["one", "two"] {
            shop.place(kind, order, "book").await;
        }
        shop.place(kind, "gone", "nothing").await;
    }
    let done = "SELECT count(*) FROM customer_order o JOIN payment p USING (order_id) \
        WHERE (o.state, p.state) IN (('COMPLETED', 'SUCCESS'), ('FAILED', 'REFUNDED'))";
    eventually(PATIENCE, "all are settled or given back", || async { number(&shop.world, done).await == 9 }).await;
    what_was_given_back_is_shown_and_waits_for_nobody(&shop).await;
    // What has just moved may not have been settled yet: nothing was compared, which is not clean.
    let (code, reports) = shop.audit(None).await;
    assert_eq!(code, Some(2), "{reports:?}");
    for report in &reports {
        let told = (report["verdict"].as_str(), report["compared"].as_i64(), report["leftOut"].as_i64());
        assert_eq!(told, (Some("cannot_tell"), Some(0), Some(4)), "{report}");
    }
    let (from, to) = (shop.from.to_rfc3339(), (shop.from + TimeDelta::hours(1)).to_rfc3339());
    let said = shop.run(&["payments", "audit", "--from", &from, "--to", &to]).await;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!((said.status.code(), text.matches("left out: 4 lines from").count()), (Some(2), 3), "{text}");
    // Who knows that all is at rest may say so; and two hours later it is settled anyway.
    let at_rest = shop.run(&["payments", "audit", "--from", &from, "--to", &to, "--settling-minutes", "0"]).await;
    let text = String::from_utf8_lossy(&at_rest.stdout).into_owned();
    assert_eq!((at_rest.status.code(), text.matches("clean, 4 lines compared").count()), (Some(0), 3), "{text}");
    execute(&shop.world, "INSERT INTO payment_clock (offset_ms) VALUES (7200000)").await;
    let (code, reports) = shop.audit(None).await;
    assert_eq!(code, Some(0), "{reports:?}");
    assert_eq!(reports.len(), 3);
    for report in &reports {
        let told = (report["verdict"].as_str(), report["compared"].as_i64(), report["differencesTotal"].as_i64());
        assert_eq!(told, (Some("clean"), Some(4), Some(0)), "three came and one went: {report}");
    }

    // The accountant's day, whose noon is about now.
    let now = SystemClock.now().to_datetime();
    let offset = 12 - i64::from(now.hour());
    let day = (now + TimeDelta::hours(offset)).date_naive().to_string();
    let offset = format!("{}{:02}:00", if offset < 0 { '-' } else { '+' }, offset.abs());
    let totals = shop.run(&["payments", "totals", "--day", &day, "--utc-offset", &offset]).await;
    let mut expected = "day,utc_offset,provider,currency,captures,captured,refunds,refunded,reversals,reversed,net\n".to_owned();
    for kind in ["generic", "stripe", "toss"] {
        expected.push_str(&format!("{day},{offset},{kind},KRW,3,45000,1,15000,0,0,30000\n"));
    }
    assert_eq!(String::from_utf8_lossy(&totals.stdout), expected);

    for kind in KINDS {
        let gateway = &shop.gateways[kind];
        let orphan = NewPayment::new(reference(kind, "orphan"), 700, Currency::KRW, Script::paid());
        gateway.place(orphan).unwrap();
        gateway.refund_at_dashboard(&reference(kind, "two"), None).unwrap();
        let less = NewPayment::new(reference(kind, "less"), AMOUNT - 1, Currency::KRW, Script::paid());
        gateway.place(less).unwrap();
        shop.booked(kind, "less", AMOUNT).await;
        shop.booked(kind, "missing", AMOUNT).await;
        let (code, reports) = shop.audit(Some(kind)).await;
        assert_eq!((code, reports.len()), (Some(1), 1), "{kind}: {reports:?}");
        let expected =
            [("amount_differs", "less"), ("not_at_gateway", "missing"), ("orphan", "orphan"), ("refund_elsewhere", "two")];
        let expected = expected.map(|(difference, order)| (difference.to_owned(), reference(kind, order)));
        assert_eq!(named(&reports[0]), expected, "{kind}: {}", reports[0]);
        let less = reports[0]["differences"].as_array().unwrap().iter().find(|one| one["kind"] == "amount_differs").unwrap();
        assert_eq!((less["gatewayAmount"].as_i64(), less["bookAmount"].as_i64()), (Some(AMOUNT - 1), Some(AMOUNT)), "{kind}");

        gateway.set_outage(Outage::Unavailable);
        let (code, reports) = shop.audit(Some(kind)).await;
        assert_eq!((code, reports[0]["verdict"].as_str()), (Some(2), Some("cannot_tell")), "{kind}: {reports:?}");
        assert!(reports[0]["reason"].as_str().unwrap().contains("the list could not be read"), "{kind}: {reports:?}");
        gateway.set_outage(Outage::None);
    }
    let (code, _) = shop.audit(None).await;
    assert_eq!(code, Some(1), "the worst of them counts");
    what_is_kept_is_listed(&shop).await;
    shop.service.0.begin();
    tokio::time::timeout(PATIENCE, shop.service.1).await.expect("it ends in time").unwrap().unwrap();
}

/// An ordinary automatic refund: it is in the lists, with its order and among the events, and no person is called.
async fn what_was_given_back_is_shown_and_waits_for_nobody(shop: &Shop) {
    let refunds = json(&shop.run(&["refunds", "list", "--state", "all", "--json"]).await);
    let seen: Vec<_> = refunds
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let text = |name: &str| one[name].as_str().unwrap_or("none").to_owned();
            (text("orderId"), text("state"), text("reason"), one["automatic"].as_bool(), text("attention"))
        })
        .collect();
    for kind in KINDS {
        let order = format!("{kind}-gone");
        let row = (order.clone(), "CONFIRMED".to_owned(), "PRODUCT_NOT_FOUND".to_owned(), Some(true), "none".to_owned());
        assert!(seen.len() == 3 && seen.contains(&row), "{seen:?}");
        let shown = json(&shop.run(&["orders", "show", &order, "--json"]).await);
        assert_eq!(
            (shown["refunds"][0]["state"].as_str(), shown["reason"].as_str()),
            (Some("CONFIRMED"), Some("PRODUCT_NOT_FOUND"))
        );
        let told = format!(
            "SELECT count(*) FROM outbox WHERE event_key = '{order}' AND event_type IN \
            ('trueup.payment.v1.PaymentRefunded', 'trueup.payment.v1.OrderFailed')"
        );
        assert_eq!(number(&shop.world, &told).await, 2, "{order}");
    }
    assert_eq!(number(&shop.world, "SELECT count(*) FROM outbox WHERE event_type LIKE '%NeedsAttention'").await, 0);
    for (list, none) in [(&["refunds", "list"], "no such refund"), (&["orders", "stale"], "no order stands still")] {
        assert_eq!(String::from_utf8_lossy(&shop.run(list).await.stdout).trim(), none);
    }
}

/// After all these audits: the newest first, by gateway and by verdict.
async fn what_is_kept_is_listed(shop: &Shop) {
    let listed = async |filter: &[&str]| {
        let output = shop.run(&[&["payments", "audits", "--json"], filter].concat()).await;
        assert_eq!(output.status.code(), Some(0), "{filter:?}");
        json(&output)["audits"].as_array().unwrap().clone()
    };
    let all = listed(&["--limit", "200"]).await;
    assert_eq!(i64::try_from(all.len()).unwrap(), number(&shop.world, "SELECT count(*) FROM payment_audit").await);
    assert!(all.is_sorted_by_key(|audit| std::cmp::Reverse(audit["auditId"].as_i64())), "the newest first");
    assert_eq!(listed(&["--limit", "2"]).await, all[..2]);
    for (verdict, named) in [("cannot-tell", "cannot_tell"), ("difference", "difference"), ("clean", "clean")] {
        let expected: Vec<Value> =
            all.iter().filter(|audit| audit["verdict"] == named && audit["provider"] == "toss").cloned().collect();
        assert!(!expected.is_empty(), "{verdict}");
        assert_eq!(listed(&["--limit", "200", "--provider", "toss", "--verdict", verdict]).await, expected, "{verdict}");
    }
    let told = shop.run(&["payments", "audits", "--provider", "stripe", "--verdict", "difference", "--limit", "1"]).await;
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    let found = "amount_differs 1, not_at_gateway 1, orphan 1, refund_elsewhere 1";
    assert!(text.lines().count() == 2 && text.contains(found) && text.contains("operator:anna"), "{text}");
    let none = shop.run(&["payments", "audits", "--provider", "nobody"]).await;
    assert_eq!((none.status.code(), String::from_utf8_lossy(&none.stdout).trim()), (Some(0), "no such audit is kept"));
    assert_eq!(shop.run(&["payments", "audits", "--verdict", "dirty"]).await.status.code(), Some(64));
    let help = shop.run(&["payments", "audits", "--help"]).await;
    assert!(String::from_utf8_lossy(&help.stdout).contains("trueup payments audits --provider toss --verdict cannot-tell"));
}
