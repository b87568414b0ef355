//! Audits of a gateway's list against the book, on a real PostgreSQL.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use domain::{
    clock::Timestamp,
    payment::{Currency, Money, PgAnswer, PgPayment, PgState, PgTransaction, PgTransactionKind},
};
use payment_providers::port::ProviderError;
use payment_reconciler::audit::{AuditSettings, Auditor, Nightly};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    http::{Stage, stage},
    orders::{Sql, db, order},
    scripted::{Scripted, paid},
};

const DAY: &str = "/v1/admin/audits?provider=sim&from=2026-05-01T00:00:00Z&to=2026-05-02T00:00:00Z";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn line(id: &str, reference: &str, kind: PgTransactionKind, amount: i64, moment: &str) -> PgTransaction {
    PgTransaction {
        id: id.to_owned(),
        reference: reference.parse().unwrap(),
        kind,
        amount: Money::new(amount, Currency::KRW),
        at: Timestamp::from(at(moment)),
    }
}

async fn booked(sql: &Sql, id: &str, kind: &str, transaction: &str, amount: i64, moment: &str) {
    let insert = "INSERT INTO money_entry (payment_id, kind, pg_transaction_id, amount, currency, pg_at, actor)
        VALUES ($1, $2, $3, $4, 'KRW', $5, 'test')";
    sql.execute(insert, &[&format!("p-{id}"), &kind, &transaction, &amount, &at(moment)]).await;
}

async fn audit(stage: &Stage) -> Value {
    let answer = stage.call(Method::POST, DAY, &Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["audits"][0].clone()
}

fn kinds(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let differences = report["differences"].as_array().unwrap().iter();
    let mut kinds: Vec<_> = differences.map(|one| (text(&one["kind"]), text(&one["reference"]))).collect();
    kinds.sort();
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_and_the_book_are_compared_both_ways() {
    use PgTransactionKind::{Payment, Refund};
    let stage = stage("audit").await;
    for id in ["a", "b", "c", "d", "late"] {
        stage.sql.place(&order(id)).await;
    }
    // What agrees: a payment and its refund over a piece's border, and one that the book dates a moment later.
    booked(&stage.sql, "a", "capture", "t-a", 15_000, "2026-05-01T00:59:59Z").await;
    booked(&stage.sql, "a", "refund", "r-a", 15_000, "2026-05-01T13:00:00Z").await;
    booked(&stage.sql, "b", "capture", "t-b", 15_000, "2026-05-01T03:00:05Z").await;
    let mut lines = vec![
        line("t-a", "ref-a", Payment, 15_000, "2026-05-01T00:59:59Z"),
        line("r-a", "ref-a", Refund, 15_000, "2026-05-01T13:00:00Z"),
        line("t-b", "ref-b", Payment, 15_000, "2026-05-01T02:59:58Z"),
        line("before", "nobodys", Payment, 1, "2026-04-30T23:50:00Z"),
    ];
    // The list does not have it, but the gateway says it when it is asked.
    booked(&stage.sql, "late", "capture", "t-late", 15_000, "2026-05-01T05:00:00Z").await;
    stage.pg.says("ref-late", Ok(PgAnswer::Found(paid(Money::new(15_000, Currency::KRW)))));
    *stage.pg.transactions.lock().unwrap() = lines.clone();
    let clean = audit(&stage).await;
    assert_eq!((clean["verdict"].as_str(), clean["compared"].as_i64()), (Some("clean"), Some(3)), "{clean}");

    lines.extend([
        line("o", "nobodys", Payment, 700, "2026-05-01T10:00:00Z"),
        line("r-b", "ref-b", Refund, 15_000, "2026-05-01T11:00:00Z"),
        line("t-c", "ref-c", Payment, 14_000, "2026-05-01T12:00:00Z"),
    ]);
    booked(&stage.sql, "c", "capture", "t-c", 15_000, "2026-05-01T12:00:00Z").await;
    booked(&stage.sql, "d", "capture", "t-d", 15_000, "2026-05-01T20:00:00Z").await;
    *stage.pg.transactions.lock().unwrap() = lines;
    let found = audit(&stage).await;
    assert_eq!(found["verdict"], "difference");
    let expected =
        [("amount_differs", "ref-c"), ("not_at_gateway", "ref-d"), ("orphan", "nobodys"), ("refund_elsewhere", "ref-b")];
    assert_eq!(kinds(&found), expected.map(|(kind, reference)| (kind.to_owned(), reference.to_owned())));

    let kept = stage.get("/v1/admin/audits").await.json();
    assert_eq!(kept["audits"].as_array().unwrap().len(), 2);
    assert_eq!(
        (kept["audits"][0]["verdict"].as_str(), kept["audits"][0]["actor"].as_str()),
        (Some("difference"), Some("operator:anna"))
    );
    for (filter, verdicts) in [
        ("verdict=clean", &["clean"][..]),
        ("provider=sim&limit=1", &["difference"]),
        ("provider=sim&verdict=difference", &["difference"]),
        ("provider=nobody", &[]),
        ("verdict=cannot_tell", &[]),
    ] {
        let kept = stage.get(&format!("/v1/admin/audits?{filter}")).await.json();
        let seen: Vec<_> = kept["audits"].as_array().unwrap().iter().map(|one| one["verdict"].as_str().unwrap()).collect();
        assert_eq!(seen, verdicts, "{filter}");
    }
    assert_eq!(stage.get("/v1/admin/audits?verdict=dirty").await.code(), (400, "invalid_fields".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_that_was_taken_back_is_no_difference_while_the_gateway_says_so_too() {
    let stage = stage("taken-back").await;
    for id in ["listed", "gone"] {
        stage.sql.place(&order(id)).await;
        booked(&stage.sql, id, "capture", &format!("t-{id}"), 15_000, "2026-05-01T10:00:00Z").await;
        booked(&stage.sql, id, "capture_reversed", &format!("t-{id}"), 15_000, "2026-05-01T11:00:00Z").await;
    }
    // One gateway keeps the line of what did not happen, another one takes it away.
    let listed = line("t-listed", "ref-listed", PgTransactionKind::Payment, 15_000, "2026-05-01T10:00:00Z");
    *stage.pg.transactions.lock().unwrap() = vec![listed];
    let says = |captured| {
        let pg = PgPayment { state: PgState::Failed, ..paid(Money::new(captured, Currency::KRW)) };
        stage.pg.says("ref-gone", Ok(PgAnswer::Found(pg)));
    };
    says(0);
    let clean = audit(&stage).await;
    assert_eq!(clean["verdict"], "clean", "{clean}");
    let totals = stage.get("/v1/admin/totals?from=2026-05-01T00:00:00Z&to=2026-05-02T00:00:00Z").await.json();
    let day = &totals["totals"][0];
    let seen = (day["captures"].as_i64(), day["captured"].as_str(), day["net"].as_str());
    assert_eq!(seen, (Some(2), Some("0"), Some("0")), "{totals}");

    // The gateway holds it after all.
    says(15_000);
    let found = audit(&stage).await;
    assert_eq!(found["verdict"], "difference", "{found}");
    assert_eq!(kinds(&found).len(), 1, "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_never_called_clean() {
    let stage = stage("cannot-tell").await;
    *stage.pg.list_fails.lock().unwrap() = Some(ProviderError::Malformed("a test".to_owned()));
    let report = audit(&stage).await;
    assert_eq!(report["verdict"], "cannot_tell");
    assert!(report["reason"].as_str().unwrap().contains("list"), "{report}");
    let year = "/v1/admin/audits?from=2025-05-01T00:00:00Z&to=2026-05-02T00:00:00Z";
    assert_eq!(stage.call(Method::POST, year, &Value::Null).await.json()["audits"][0]["verdict"], "cannot_tell");
    for (path, code) in [
        ("/v1/admin/audits?provider=nobody&from=2026-05-01T00:00:00Z&to=2026-05-02T00:00:00Z", "unknown_provider"),
        ("/v1/admin/audits?from=2026-05-02T00:00:00Z&to=2026-05-01T00:00:00Z", "invalid_fields"),
        ("/v1/admin/audits?from=yesterday&to=2026-05-01T00:00:00Z", "invalid_fields"),
        ("/v1/admin/audits", "invalid_fields"),
    ] {
        assert_eq!(stage.call(Method::POST, path, &Value::Null).await.code().1, code, "{path}");
    }
    stage.sql.run("UPDATE payment_task SET holder = gen_random_uuid(), expires_at = now() + interval '2 minutes'").await;
    assert_eq!(stage.call(Method::POST, DAY, &Value::Null).await.code(), (409, "busy".to_owned()), "another replica is at it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_young_is_told_and_never_called_clean() {
    use PgTransactionKind::Payment;
    let stage = stage("too-young").await;
    let now = at(&stage.sql.text("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')").await);
    let moment = |minutes: i64| (now + TimeDelta::minutes(minutes)).to_rfc3339_opts(SecondsFormat::Millis, true);
    for id in ["old", "a", "b"] {
        stage.sql.place(&order(id)).await;
    }
    let (young, old) = (moment(-1), moment(-40));
    let mut lines = Vec::new();
    for id in ["a", "b"] {
        booked(&stage.sql, id, "capture", &format!("t-{id}"), 15_000, &young).await;
        lines.push(line(&format!("t-{id}"), &format!("ref-{id}"), Payment, 15_000, &young));
    }
    *stage.pg.transactions.lock().unwrap() = lines.clone();
    let path = format!("/v1/admin/audits?provider=sim&from={}&to={}", moment(-60), moment(60));
    let audited = async |path: &str| {
        let answer = stage.call(Method::POST, path, &Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["audits"][0].clone()
    };
    let told = |report: &Value| {
        (report["verdict"].as_str().unwrap().to_owned(), report["compared"].as_i64(), report["leftOut"].as_i64())
    };
    let report = audited(&path).await;
    assert_eq!(told(&report), ("cannot_tell".to_owned(), Some(0), Some(2)), "{report}");
    assert!(report["reason"].as_str().unwrap().contains("all 2 lines"), "{report}");
    let settled_by = at(report["settledBy"].as_str().unwrap());
    assert!(settled_by > now - TimeDelta::minutes(16) && settled_by < now, "{report}");
    // Who knows that all is at rest may say so.
    let at_rest = format!("{path}&settlingMinutes=0");
    assert_eq!(told(&audited(&at_rest).await), ("clean".to_owned(), Some(2), Some(0)));
    // What is old enough is compared, and what is not is told beside it.
    booked(&stage.sql, "old", "capture", "t-old", 15_000, &old).await;
    lines.push(line("t-old", "ref-old", Payment, 15_000, &old));
    *stage.pg.transactions.lock().unwrap() = lines;
    assert_eq!(told(&audited(&path).await), ("clean".to_owned(), Some(1), Some(2)));
    // A time of which nothing is old enough, though nothing stands in the list either.
    let young_only = format!("/v1/admin/audits?provider=sim&from={}&to={}", moment(10), moment(60));
    assert_eq!(told(&audited(&young_only).await), ("cannot_tell".to_owned(), Some(0), Some(0)));
    let kept = stage.get("/v1/admin/audits").await.json()["audits"].clone();
    assert_eq!((kept[1]["leftOut"].as_i64(), kept[3]["reason"].as_str().is_some()), (Some(2), true), "{kept}");
    let wrong = stage.call(Method::POST, &format!("{path}&settlingMinutes=-1"), &Value::Null).await;
    assert_eq!(wrong.code(), (400, "invalid_fields".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_on_which_the_book_cannot_be_read_is_kept_for_each_gateway_and_made_again() {
    let world = testkit::World::of_payments("nightly-book").await;
    let sql = Sql::of(&world).await;
    sql.time_is("2026-05-02T12:00:00Z").await;
    let gateways = ["first", "second"].map(Scripted::named);
    let providers = gateways.map(|pg| pg as Arc<dyn payment_providers::port::PaymentProvider>);
    let settings = AuditSettings { retry_after_minutes: 20, ..AuditSettings::default() };
    let nightly = Nightly::new(Arc::new(Auditor::new(db(&world).await, Uuid::from_u128(1), providers, settings)));
    sql.run("ALTER TABLE money_entry RENAME TO no_book").await;
    assert_eq!(nightly.look().await.unwrap(), 2, "the second one is not left out because of the first");
    assert_eq!(nightly.look().await.unwrap(), 0, "not at once again");
    sql.run("ALTER TABLE no_book RENAME TO money_entry").await;
    sql.time_passes(19 * 60_000).await;
    assert_eq!(nightly.look().await.unwrap(), 0, "not before its time");
    sql.time_passes(2 * 60_000).await;
    assert_eq!(nightly.look().await.unwrap(), 2);
    let kept =
        "SELECT string_agg(concat_ws(' ', provider, verdict, left(reason, 26)), ', ' ORDER BY audit_id) FROM payment_audit";
    let expected =
        "first cannot_tell the book could not be read, second cannot_tell the book could not be read, first clean, second clean";
    assert_eq!(sql.text(kept).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_night_audits_yesterday_once_and_tries_again_what_could_not_be_told() {
    let world = testkit::World::of_payments("nightly").await;
    let (sql, pg) = (Sql::of(&world).await, Scripted::named("sim"));
    sql.time_is("2026-05-02T12:00:00Z").await;
    let providers = [Arc::clone(&pg) as Arc<dyn payment_providers::port::PaymentProvider>];
    let settings = AuditSettings::default();
    let nightly = Nightly::new(Arc::new(Auditor::new(db(&world).await, Uuid::from_u128(1), providers, settings)));
    *pg.list_fails.lock().unwrap() = Some(ProviderError::Unavailable("a test".to_owned()));
    // What an operator saw of the day before it was over is no night's audit.
    sql.run(
        "INSERT INTO payment_audit (provider, from_at, to_at, verdict, compared, differences, actor, started_at, finished_at, settled_by)
         VALUES ('sim', '2026-05-01Z', '2026-05-02Z', 'clean', 0, '[]', 'anna', '2026-05-01T12:00Z', '2026-05-01T12:00Z', '2026-05-01T11:45Z')",
    )
    .await;
    assert_eq!(nightly.look().await.unwrap(), 1);
    assert_eq!(nightly.look().await.unwrap(), 0, "not at once again");
    *pg.list_fails.lock().unwrap() = None;
    sql.run("UPDATE payment_clock SET offset_ms = offset_ms + 1900000").await;
    assert_eq!(nightly.look().await.unwrap(), 1);
    assert_eq!(nightly.look().await.unwrap(), 0);
    let kept = "SELECT string_agg(concat_ws(' ', verdict, actor, from_at AT TIME ZONE 'UTC'), ', ' ORDER BY audit_id) FROM payment_audit";
    assert_eq!(
        sql.text(kept).await,
        "clean anna 2026-05-01 00:00:00, cannot_tell nightly 2026-05-01 00:00:00, clean nightly 2026-05-01 00:00:00"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_are_by_gateway_and_currency() {
    let stage = stage("totals").await;
    for id in ["a", "b"] {
        stage.sql.place(&order(id)).await;
    }
    booked(&stage.sql, "a", "capture", "t1", 15_000, "2026-05-01T00:00:00Z").await;
    booked(&stage.sql, "b", "capture", "t2", 9_000_000_000_000_000_000, "2026-05-01T12:00:00Z").await;
    booked(&stage.sql, "a", "refund", "r1", 15_000, "2026-05-01T23:59:59Z").await;
    booked(&stage.sql, "a", "reversal", "v1", 15_000, "2026-05-02T00:00:00Z").await;
    let path = "/v1/admin/totals?from=2026-05-01T00:00:00Z&to=2026-05-02T00:00:00Z";
    let totals = stage.get(path).await.json();
    let expected = json!({"totals": [{
        "provider": "sim", "currency": "KRW", "captures": 2, "captured": "9000000000000015000", "refunds": 1, "refunded": "15000",
        "reversals": 0, "reversed": "0", "net": "9000000000000000000",
    }]});
    assert_eq!(totals, expected);
}
