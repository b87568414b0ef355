//! Every answer that is described is given, and every answer that is given is as described.

use std::{collections::BTreeSet, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{
    coupon::{Admission, CommandOutcome},
    ids::{CommandId, CouponCode},
};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use testkit::{PrivateKafka, World, create_topics, eventually, kafka_settings, unique};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    gateway::{Gateway, SOON, accepted, decide, define, open_gate, sql},
    openapi::Contract,
    openapi_calls::{Call, Names, TOKENS, call, is_operators, provoke, send},
};

const JWT_SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A decision that the log would have made on the command of this call, which must carry a key.
async fn decided(world: &World, names: &Names, call: &Call, outcome: CommandOutcome, offset: i64) {
    let key = call.headers.iter().find(|(name, _)| *name == "idempotency-key").map(|(_, key)| key).unwrap();
    let id = CommandId::from_idempotency_key("anna", &format!("{} {} {key}", call.method, call.path));
    let statement = format!(
        "INSERT INTO coupon_command (command_id, coupon_code, kind, actor, partition, log_offset, appended_at, outcome, payload)
         VALUES ('{id}', '{}', 'change', 'anna', 0, {offset}, now(), '{}', '{{\"name\": \"x\"}}')",
        names.code,
        outcome.as_str()
    );
    sql(world, &statement).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_described_answer_is_given_as_described() {
    let world = World::new("answers").await;
    let (refuses, empty) = (world.coupon("refuses"), world.coupon("empty"));
    let settings = [
        TOKENS,
        ("ADMIN__WAIT_MS", "0"),
        ("EVENTS__STREAMS_MAX", "1"),
        ("EVENTS__POLL_MS", "20"),
        // A client that went away is noticed when the stream speaks next.
        ("EVENTS__HEARTBEAT_MS", "100"),
        ("HTTP__IN_FLIGHT_MAX", "1"),
        ("GATE__WHEN_COLD_EXCEPT", refuses.as_str()),
    ];
    let gateway = Gateway::start_with(&world, &settings).await;
    let contract = Contract::of(&gateway).await;
    let names = statuses(&world, &contract, &gateway).await;
    for path in ["/docs", "/metrics", "/health/live", "/health/ready"] {
        contract.hold("GET", path, &gateway.get(path).await);
    }
    commands(&world, &contract, &gateway, &names).await;
    refused_requests(&world, &contract, &gateway, &refuses, &empty).await;
    faulty_calls(&contract, &gateway, &names).await;
    who_is_asking(&world, &contract, &gateway, &names).await;
    bounds(&world, &contract, &gateway, &names).await;
    without_database(&world, &contract, &gateway, &names).await;
    shutting_down(&contract).await;
    without_kafka(&contract).await;

    // A fault of the service itself, and bounds that only thousands of look-ups at once reach.
    let out_of_reach = |operation: &str, code: &str| {
        code == "internal" || (code == "overloaded" && ["ticketStatus", "memberStatus", "coupon"].contains(&operation))
            // Which of two errors a stopped broker leads to is a matter of what was under way.
            || (code == "append_unknown" && operation != "requestCoupon")
            // Liveness fails when a loop stands still.
            || (operation == "live" && code.is_empty())
    };
    let missing: BTreeSet<_> = contract.missing().into_iter().filter(|(id, _, code)| !out_of_reach(id, code)).collect();
    assert!(missing.is_empty(), "described, but never given: {missing:#?}");
}

/// Requests from pending to each outcome, by every way of asking.
async fn statuses(world: &World, contract: &Contract, gateway: &Gateway) -> Names {
    let coupon = world.coupon("answers");
    define(world, &coupon, Admission::Queued, 10).await;
    let mut names =
        Names { code: coupon.to_string(), member: "a".into(), ticket: String::new(), id: uuid::Uuid::from_u128(9).to_string() };
    let ask = async |member: &str| {
        let request = names.call(&contract.operation("requestCoupon")).body(json!({"memberId": member}).to_string());
        accepted(&call(contract, gateway, &request).await)
    };
    let (a, b) = (ask("a").await, ask("b").await);
    names.ticket = a["ticket"].as_str().unwrap().to_owned();
    let reads = ["ticketStatus", "memberStatus"];
    for (status, outcome, sequence) in [("pending", None, None), ("success", Some("issued"), Some(1))] {
        if let Some(outcome) = outcome {
            decide(world, &a, outcome, sequence).await;
        }
        for id in reads {
            let answer = call(contract, gateway, &names.call(&contract.operation(id))).await;
            assert_eq!(answer.json()["status"], status, "{}", answer.text);
        }
    }
    // A duplicate names the request that has the issue.
    decide(world, &b, "duplicate", None).await;
    sql(
        world,
        &format!(
            "INSERT INTO coupon_request (coupon_code, request_id, member_id, partition, log_offset, told_offset, appended_at, admitted,
                 outcome, issued_request_id)
             VALUES ('{coupon}', gen_random_uuid(), 'a', 0, 9, 9, now(), false, 'duplicate', '{}')",
            a["requestId"].as_str().unwrap()
        ),
    )
    .await;
    let failed =
        call(contract, gateway, &Names { member: "b".into(), ..names.clone() }.call(&contract.operation("memberStatus"))).await;
    assert_eq!((failed.json()["status"].as_str(), failed.json()["reason"].as_str()), (Some("failed"), Some("duplicate")));
    let page = names.call(&contract.operation("memberCoupons"));
    assert_eq!(call(contract, gateway, &page).await.json()["items"].as_array().unwrap().len(), 2);
    assert!(call(contract, gateway, &page.query("limit=1")).await.json()["next"].is_string());

    let events = call(contract, gateway, &names.call(&contract.operation("ticketEvents"))).await;
    let said: Vec<Value> = events
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(said.len(), 1);
    contract.hold_value(&json!({"$ref": "#/components/schemas/RequestStatus"}), &said[0], &events.text);

    let shown = names.call(&contract.operation("coupon"));
    let etag = call(contract, gateway, &shown).await.headers["etag"].to_str().unwrap().to_owned();
    eventually(SOON, "the same coupon again", || async {
        let etag = call(contract, gateway, &shown).await.headers["etag"].to_str().unwrap().to_owned();
        call(contract, gateway, &shown.clone().header("if-none-match", etag)).await.status == 304
    })
    .await;
    assert!(etag.starts_with('"'));
    let known = contract.operation("openapi");
    let etag = gateway.get("/openapi.json").await.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(call(contract, gateway, &names.call(&known).header("if-none-match", etag)).await.status, 304);
    names
}

/// Operators' commands: pending, done, refused; and what is told of them.
async fn commands(world: &World, contract: &Contract, gateway: &Gateway, names: &Names) {
    let mut offset = 0;
    for operation in contract.operations().iter().filter(|operation| operation.described["responses"].get("202").is_some()) {
        if !is_operators(operation) {
            continue;
        }
        let pending = call(contract, gateway, &names.call(operation)).await;
        assert_eq!(pending.status, 202, "{}: {}", operation.id(), pending.text);
        let url = pending.json()["statusUrl"].as_str().unwrap().to_owned();
        assert_eq!(pending.headers["location"], url.as_str());
        let asked = Call { path: url, ..names.call(&contract.operation("commandStatus")) };
        assert_eq!(call(contract, gateway, &asked).await.json()["status"], "pending");

        let codes = operation.codes();
        for outcome in CommandOutcome::ALL {
            let code = if outcome == CommandOutcome::Ended { "already_ended" } else { outcome.as_str() };
            if outcome != CommandOutcome::Accepted && !codes.contains(code) {
                continue;
            }
            offset += 1;
            let keyed = names.call(operation).header("idempotency-key", format!("key-{offset}"));
            decided(world, names, &keyed, outcome, offset).await;
            let answer = call(contract, gateway, &keyed).await;
            if outcome == CommandOutcome::Accepted {
                assert_eq!(answer.json()["status"], "accepted", "{}", answer.text);
                let id = answer.json()["commandId"].as_str().unwrap().to_owned();
                let asked = Names { id, ..names.clone() }.call(&contract.operation("commandStatus"));
                assert_eq!(call(contract, gateway, &asked).await.json()["outcome"], "accepted");
            } else {
                assert_eq!(answer.problem(), (409, code.to_owned()), "{}", operation.id());
            }
        }
    }
    for (id, list) in [("listCoupons", "coupons"), ("couponHistory", "commands")] {
        let page = names.call(&contract.operation(id));
        assert!(!call(contract, gateway, &page).await.json()[list].as_array().unwrap().is_empty());
        assert_eq!(call(contract, gateway, &page.query("limit=1")).await.json()[list].as_array().unwrap().len(), 1);
    }
    let shown = call(contract, gateway, &names.call(&contract.operation("showCoupon"))).await;
    assert_eq!(shown.json()["code"], names.code.as_str());
}

/// Requests that a coupon's rules refuse.
async fn refused_requests(world: &World, contract: &Contract, gateway: &Gateway, refuses: &CouponCode, empty: &CouponCode) {
    let request = contract.operation("requestCoupon");
    let ask = |code: &CouponCode| {
        let names = Names { code: code.to_string(), member: "a".into(), ticket: String::new(), id: String::new() };
        names.call(&request)
    };
    for (change, code) in [
        ("opens_at = now() + interval '1 hour'", "not_open"),
        ("closes_at = now() - interval '1 hour'", "closed"),
        ("paused = true", "paused"),
        ("ended = true", "ended"),
    ] {
        let coupon = world.coupon(code);
        define(world, &coupon, Admission::Queued, 1).await;
        sql(world, &format!("UPDATE coupon SET {change} WHERE coupon_code = '{coupon}'")).await;
        // The first answer may come before the first refresh, when nobody is refused by a view.
        eventually(SOON, code, || async { call(contract, gateway, &ask(&coupon)).await.problem() == (403, code.to_owned()) })
            .await;
    }
    define(world, refuses, Admission::Reserved, 1).await;
    assert_eq!(call(contract, gateway, &ask(refuses)).await.problem(), (503, "gate_unavailable".to_owned()));
    define(world, empty, Admission::Reserved, 0).await;
    open_gate(&world.redis_url, empty, 0).await;
    assert_eq!(call(contract, gateway, &ask(empty)).await.problem(), (410, "sold_out".to_owned()));
}

/// Calls that are wrong whoever makes them.
async fn faulty_calls(contract: &Contract, gateway: &Gateway, names: &Names) {
    // A percent sign with one digit stands for nothing.
    let broken = Names { code: "%2".into(), member: "%2".into(), ticket: "%2".into(), id: "x".into() };
    provoke(contract, gateway, &broken, "invalid_fields", |call, operation| match operation.id() {
        "listCoupons" => Some(call.query("limit=0")),
        "defineCoupon" => Some(call.body("{}")),
        _ => Some(call),
    })
    .await;
    provoke(contract, gateway, names, "invalid_fields", |call, operation| {
        (operation.method == "post").then(|| call.header("idempotency-key", "x".repeat(129)))
    })
    .await;
    for query in ["limit=0", "limit=x", "limit=1000000", "after=%21"] {
        for id in ["memberCoupons", "couponHistory"] {
            let answer = call(contract, gateway, &names.call(&contract.operation(id)).query(query)).await;
            assert_eq!(answer.problem().1, "invalid_fields", "{id} {query}");
        }
    }
    provoke(contract, gateway, names, "malformed_body", |call, _| Some(call.body("{"))).await;
    let long = json!({"memberId": "a".repeat(17_000)}).to_string();
    provoke(contract, gateway, names, "body_too_large", |call, _| Some(call.body(long.clone()))).await;
    provoke(contract, gateway, names, "unsupported_media_type", |call, _| Some(call.header("content-type", "text/plain"))).await;
    let strangers =
        Names { code: "nobody-defined-this".into(), member: "nobody".into(), ticket: "bm90LWEtdGlja2V0".into(), ..names.clone() };
    provoke(contract, gateway, &strangers, "unknown_coupon", |call, _| Some(call)).await;
    provoke(contract, gateway, &strangers, "unknown_ticket", |call, _| Some(call)).await;
    provoke(contract, gateway, &strangers, "unknown_command", |call, _| Some(call)).await;
    let stranger = Names { code: names.code.clone(), ..strangers };
    provoke(contract, gateway, &stranger, "unknown_request", |call, _| Some(call)).await;
}

/// Callers who are nobody, somebody else, or too late.
async fn who_is_asking(world: &World, contract: &Contract, gateway: &Gateway, names: &Names) {
    provoke(contract, gateway, names, "unauthorized", |call, operation| {
        is_operators(operation).then(|| call.without("authorization"))
    })
    .await;
    let by_header = Gateway::start_with(world, &[("IDENTITY__MODE", "header")]).await;
    provoke(contract, &by_header, names, "unauthorized", |call, operation| (!is_operators(operation)).then_some(call)).await;
    provoke(contract, &by_header, names, "not_yours", |call, _| Some(call.header("x-member-id", "somebody-else"))).await;
    provoke(contract, &by_header, names, "admin_disabled", |call, _| Some(call)).await;

    let settings = [
        ("IDENTITY__MODE", "jwt"),
        ("IDENTITY__JWT__SECRET", JWT_SECRET),
        ("IDENTITY__JWT__AUDIENCE", "coupons"),
        ("IDENTITY__JWT__ISSUER", "tests"),
    ];
    let by_token = Gateway::start_with(world, &settings).await;
    let token = |expires: i64| {
        let claims = json!({"sub": "a", "aud": "coupons", "iss": "tests", "exp": expires});
        format!("Bearer {}", encode(&Header::default(), &claims, &EncodingKey::from_secret(JWT_SECRET.as_bytes())).unwrap())
    };
    provoke(contract, &by_token, names, "token_expired", |call, _| Some(call.header("authorization", token(1_000_000_000))))
        .await;
    let good = names.call(&contract.operation("ticketStatus")).header("authorization", token(4_000_000_000));
    assert_eq!(call(contract, &by_token, &good).await.status, 200);

    // Nobody listens on this port any more.
    let keys = format!("http://127.0.0.1:{}/keys", stack::ports::free().unwrap());
    let [mode, _, audience, issuer] = settings;
    let by_keys = [mode, audience, issuer, ("IDENTITY__JWT__ALGORITHM", "RS256"), ("IDENTITY__JWT__JWKS_URL", keys.as_str())];
    let by_keys = Gateway::start_with(world, &by_keys).await;
    let unread = format!("Bearer {}.e30.c2ln", URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT","kid":"k"}"#));
    provoke(contract, &by_keys, names, "identity_unavailable", |call, _| Some(call.header("authorization", unread.clone())))
        .await;
}

/// Rates, and bounds on work in progress.
async fn bounds(world: &World, contract: &Contract, gateway: &Gateway, names: &Names) {
    let settings = [TOKENS, ("LIMITS__MEMBER_PER_S", "1"), ("LIMITS__MEMBER_BURST", "1")];
    let by_member = Gateway::start_with(world, &settings).await;
    let request = names.call(&contract.operation("requestCoupon"));
    assert_eq!(call(contract, &by_member, &request).await.status, 202);
    assert_eq!(call(contract, &by_member, &request).await.problem(), (429, "rate_limited".to_owned()));

    let settings = [TOKENS, ("LIMITS__ADDRESS_PER_S", "1"), ("LIMITS__ADDRESS_BURST", "1"), ("ADMIN__WAIT_MS", "0")];
    let by_address = Gateway::start_with(world, &settings).await;
    for operation in contract.operations().iter().filter(|operation| operation.codes().contains("rate_limited")) {
        eventually(SOON, operation.id(), || async { call(contract, &by_address, &names.call(operation)).await.status == 429 })
            .await;
    }

    let no_places = Gateway::start_with(world, &[TOKENS, ("ADMIN__WAITING_MAX", "0")]).await;
    provoke(contract, &no_places, names, "overloaded", |call, operation| is_operators(operation).then_some(call)).await;

    // A request whose body does not come is in progress. The other one may come first, and then this one is refused.
    let head =
        format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n", request.path);
    eventually(SOON, "one too many", || async {
        let mut slow = TcpStream::connect(gateway.url.strip_prefix("http://").unwrap()).await.unwrap();
        slow.write_all(head.as_bytes()).await.unwrap();
        call(contract, gateway, &request).await.problem().1 == "overloaded"
    })
    .await;
    eventually(SOON, "room again", || async { call(contract, gateway, &request).await.status == 202 }).await;

    let pending = accepted(&call(contract, gateway, &request.clone().body(r#"{"memberId":"waits"}"#)).await);
    let events = Names { ticket: pending["ticket"].as_str().unwrap().to_owned(), ..names.clone() }
        .call(&contract.operation("ticketEvents"));
    let open = gateway.client.get(format!("{}{}", gateway.url, events.path)).send().await.unwrap();
    assert_eq!(call(contract, gateway, &events).await.problem(), (503, "overloaded".to_owned()));
    drop(open);
    let told = names.call(&contract.operation("ticketEvents"));
    eventually(SOON, "a free stream", || async { call(contract, gateway, &told).await.status == 200 }).await;
}

/// The tables are gone, as good as a database that fails.
async fn without_database(world: &World, contract: &Contract, gateway: &Gateway, names: &Names) {
    for table in ["coupon", "coupon_request", "coupon_command"] {
        sql(world, &format!("ALTER TABLE {table} RENAME TO {table}_gone")).await;
    }
    let unheard_of = Names { code: "never-asked-for".into(), ..names.clone() };
    provoke(contract, gateway, &unheard_of, "database_unavailable", |call, _| Some(call)).await;
}

/// A process that was asked to end still answers on connections that are open.
async fn shutting_down(contract: &Contract) {
    let world = World::new("ends").await;
    let coupon = world.coupon("ends");
    define(&world, &coupon, Admission::Queued, 10).await;
    let mut gateway = Gateway::start_with(&world, &[("PRODUCER__LINGER_MS", "4000")]).await;
    let names = Names { code: coupon.to_string(), member: "a".into(), ticket: String::new(), id: String::new() };
    let request = names.call(&contract.operation("requestCoupon"));
    let (client, url) = (gateway.client.clone(), gateway.url.clone());
    let first = client.post(format!("{url}{}", request.path)).header("content-type", "application/json");
    let waits = tokio::spawn(first.body(request.body.clone()).send());
    eventually(SOON, "a request in progress", || async { gateway.metric("trueup_gateway_in_flight").await >= 1.0 }).await;
    let ended = tokio::task::spawn_blocking(move || gateway.process.terminate(Duration::from_secs(30)).unwrap());
    let probe = names.call(&contract.operation("ready"));
    eventually(SOON, "not ready", || async { send(contract, &client, &url, &probe).await.status == 503 }).await;
    let refused = send(contract, &client, &url, &request).await;
    assert_eq!(refused.problem(), (503, "shutting_down".to_owned()));
    assert_eq!(waits.await.unwrap().unwrap().status().as_u16(), 202, "what was in is answered");
    assert_eq!(ended.await.unwrap(), Some(0));
}

/// A broker that hangs, then one that is gone.
async fn without_kafka(contract: &Contract) {
    let mut world = World::new("no-kafka").await;
    let mut kafka = tokio::task::spawn_blocking(PrivateKafka::start).await.unwrap();
    world.kafka = kafka_settings(&kafka.brokers(), &unique("no-kafka"));
    create_topics(&world.kafka, 4).await;
    let coupon = world.coupon("no-kafka");
    define(&world, &coupon, Admission::Queued, 10).await;
    let gateway = Gateway::start_with(&world, &[TOKENS, ("PRODUCER__DELIVERY_TIMEOUT_MS", "1500")]).await;
    let names =
        Names { code: coupon.to_string(), member: "a".into(), ticket: String::new(), id: uuid::Uuid::from_u128(9).to_string() };
    let request = names.call(&contract.operation("requestCoupon"));
    assert_eq!(call(contract, &gateway, &request).await.status, 202);
    kafka.process().pause();
    assert_eq!(call(contract, &gateway, &request).await.problem(), (503, "append_unknown".to_owned()));
    kafka.process().resume();
    let _kafka = tokio::task::spawn_blocking(move || {
        kafka.stop().unwrap();
        kafka
    })
    .await
    .unwrap();
    for operation in contract.operations().iter().filter(|operation| operation.codes().contains("log_unavailable")) {
        let asked = names.call(operation);
        eventually(SOON * 2, operation.id(), || async {
            call(contract, &gateway, &asked).await.problem().1 == "log_unavailable"
        })
        .await;
    }
}
