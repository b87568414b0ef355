//! Asking for a coupon, of both kinds, without a consumer: what goes into the log, and what is answered.

use domain::coupon::Admission;
use redis_io::Reserve;
use testkit::{World, eventually};

use crate::gateway::{Gateway, SOON, accepted, decide, define, member, open_gate, requests_in, sql};

#[tokio::test]
async fn a_queued_request_is_in_the_log_when_it_is_accepted() {
    let world = World::new("queued").await;
    let coupon = world.coupon("queued");
    let partition = define(&world, &coupon, Admission::Queued, 10).await;
    let gateway = Gateway::start(&world).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = gateway.post(coupon.as_str(), r#"{"memberId":"user-1"}"#, &[("traceparent", trace)]).await;
    let first = accepted(&answer);
    assert!(answer.headers["traceparent"].to_str().unwrap().starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
    assert_eq!((first["status"].as_str(), first["memberId"].as_str()), (Some("pending"), Some("user-1")));
    let log = requests_in(&world, partition).await;
    assert_eq!(log.len(), 1);
    assert_eq!((log[0].member.clone(), log[0].admitted), (member("user-1"), false));
    assert_eq!(log[0].id.to_string(), first["requestId"]);

    // Without a key each request is a new one; with one, it is the same.
    let second = accepted(&gateway.ask(&coupon, "user-1").await);
    assert_ne!(first["requestId"], second["requestId"]);
    assert_eq!(second["ahead"], 1, "the first one is ahead");
    let key = [("idempotency-key", "order-7")];
    let third = accepted(&gateway.post(coupon.as_str(), r#"{"userId":7}"#, &key).await);
    let fourth = accepted(&gateway.post(coupon.as_str(), r#"{"memberId":"7"}"#, &key).await);
    assert_eq!(third["requestId"], fourth["requestId"]);
    let other = accepted(&gateway.post(coupon.as_str(), r#"{"memberId":"8"}"#, &key).await);
    assert_ne!(third["requestId"], other["requestId"], "a key is a member's own");
}

#[tokio::test]
async fn statuses_go_from_pending_to_their_outcome() {
    let world = World::new("status").await;
    let coupon = world.coupon("status");
    define(&world, &coupon, Admission::Queued, 10).await;
    let gateway = Gateway::start(&world).await;
    let asked = [accepted(&gateway.ask(&coupon, "a").await), accepted(&gateway.ask(&coupon, "b").await)];
    let url = |answer: &serde_json::Value| answer["statusUrl"].as_str().unwrap().to_owned();
    let status = gateway.get(&url(&asked[1])).await;
    assert_eq!((status.status, status.json()["status"].as_str()), (200, Some("pending")));
    assert_eq!(status.json()["ahead"], 1);
    assert_eq!(status.headers["cache-control"], "no-store");
    let by_member = gateway.get(&format!("/v1/coupons/{coupon}/members/b")).await.json();
    assert_eq!((by_member["status"].as_str(), &by_member["requestId"]), (Some("pending"), &asked[1]["requestId"]));

    decide(&world, &asked[0], "issued", Some(1)).await;
    decide(&world, &asked[1], "sold_out", None).await;
    let success = gateway.get(&url(&asked[0])).await.json();
    assert_eq!((success["status"].as_str(), success["sequence"].as_i64()), (Some("success"), Some(1)));
    assert!(success["decidedAt"].as_str().unwrap().ends_with('Z'));
    let failed = gateway.get(&url(&asked[1])).await.json();
    assert_eq!((failed["status"].as_str(), failed["reason"].as_str()), (Some("failed"), Some("sold_out")));
    let by_member = gateway.get(&format!("/v1/coupons/{coupon}/members/a")).await.json();
    assert_eq!((by_member["status"].as_str(), by_member["sequence"].as_i64()), (Some("success"), Some(1)));
    let nobody = gateway.get(&format!("/v1/coupons/{coupon}/members/nobody")).await;
    assert_eq!(nobody.problem(), (404, "unknown_request".to_owned()));
    let all = gateway.get("/v1/members/a/coupons").await.json();
    assert_eq!(all["items"].as_array().unwrap().len(), 1);
    assert_eq!(all["items"][0]["couponCode"], coupon.as_str());

    let events = gateway.get(&format!("{}/events", url(&asked[0]))).await;
    assert_eq!(events.headers["content-type"], "text/event-stream");
    assert!(events.text.contains("event: status\ndata: {") && events.text.contains("\"success\""), "{}", events.text);
}

#[tokio::test]
async fn a_stream_tells_the_outcome_when_it_comes() {
    let world = World::new("stream").await;
    let coupon = world.coupon("stream");
    define(&world, &coupon, Admission::Queued, 10).await;
    let gateway = Gateway::start_with(&world, &[("EVENTS__STREAMS_MAX", "1"), ("EVENTS__POLL_MS", "20")]).await;
    let asked = accepted(&gateway.ask(&coupon, "a").await);
    let path = format!("{}/events", asked["statusUrl"].as_str().unwrap());
    let mut response = gateway.client.get(format!("{}{path}", gateway.url)).send().await.unwrap();
    let first = String::from_utf8(response.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(first.contains("pending"), "{first}");
    assert_eq!(gateway.get(&path).await.problem(), (503, "overloaded".to_owned()), "one stream is open");
    decide(&world, &asked, "issued", Some(1)).await;
    let rest = response.text().await.unwrap();
    assert!(rest.contains("\"success\""), "{rest}");
    eventually(SOON, "the place is free again", || async { gateway.get(&path).await.status == 200 }).await;
}

#[tokio::test]
async fn a_page_of_a_members_coupons_leads_to_the_next() {
    let world = World::new("pages").await;
    let gateway = Gateway::start(&world).await;
    sql(
        &world,
        "INSERT INTO coupon_request (coupon_code, request_id, member_id, partition, log_offset, told_offset, appended_at,
             admitted, outcome)
         SELECT 'c' || n, gen_random_uuid(), 'm', 0, n, n, now(), false, 'sold_out' FROM generate_series(1, 7) n",
    )
    .await;
    let (mut seen, mut path) = (Vec::new(), "/v1/members/m/coupons?limit=3".to_owned());
    let mut pages = 0;
    loop {
        let page = gateway.get(&path).await.json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 3);
        seen.extend(items.iter().map(|item| item["couponCode"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/members/m/coupons?limit=3&after={next}");
    }
    assert_eq!((pages, seen.join(" ")), (3, "c1 c2 c3 c4 c5 c6 c7".to_owned()));
    for bad in ["limit=0", "limit=101", "limit=x", "after=x"] {
        let answer = gateway.get(&format!("/v1/members/m/coupons?{bad}")).await;
        assert_eq!(answer.problem(), (400, "invalid_fields".to_owned()), "{bad}");
    }
}

#[tokio::test]
async fn a_reserved_request_goes_through_the_gate() {
    let world = World::new("reserved").await;
    let coupon = world.coupon("reserved");
    let partition = define(&world, &coupon, Admission::Reserved, 2).await;
    let gate = open_gate(&world.redis_url, &coupon, 2).await;
    let gateway = Gateway::start(&world).await;
    let a = accepted(&gateway.ask(&coupon, "a").await);
    let again = accepted(&gateway.ask(&coupon, "a").await);
    assert_eq!(a["requestId"], again["requestId"], "he gets his existing request");
    let log = requests_in(&world, partition).await;
    assert!(log.iter().all(|request| request.admitted) && log.len() == 1, "{log:?}");
    accepted(&gateway.ask(&coupon, "b").await);
    assert_eq!(gateway.ask(&coupon, "c").await.problem(), (410, "sold_out".to_owned()));
    assert_eq!(requests_in(&world, partition).await.len(), 2);

    // A reservation whose publisher went away: asking again publishes it under its id.
    let lost = domain::ids::RequestId::from_uuid(uuid::Uuid::from_u128(77));
    let mut held = gate.pending_older_than(&coupon, std::time::Duration::ZERO, 10).await.unwrap();
    held.retain(|one| one.member == member("b"));
    assert_eq!(gate.give_up(&coupon, &held).await.unwrap(), [true]);
    let answer = gate.reserve(&coupon, &[(member("d"), lost)]).await.unwrap();
    assert!(matches!(answer[..], [Reserve::Reserved { .. }]), "{answer:?}");
    let pending = gateway.get(&format!("/v1/coupons/{coupon}/members/d")).await.json();
    assert_eq!((pending["status"].as_str(), pending["requestId"].as_str()), (Some("pending"), Some(&*lost.to_string())));
    let healed = accepted(&gateway.ask(&coupon, "d").await);
    assert_eq!(healed["requestId"], lost.to_string());
    assert_eq!(requests_in(&world, partition).await[2].id, lost);

    // An issue is in the ledger, and asking again shows it.
    decide(&world, &a, "issued", Some(1)).await;
    let rules = redis_io::GateRules::always_open(2, partition);
    let item = redis_io::SettleItem {
        kind: redis_io::SettleKind::Issued,
        member: member("a"),
        request: a["requestId"].as_str().unwrap().parse().unwrap(),
    };
    gate.settle(&coupon, 0, 1, &[item], &rules).await.unwrap();
    let shown = accepted(&gateway.ask(&coupon, "a").await);
    assert_eq!((shown["status"].as_str(), &shown["requestId"]), (Some("success"), &a["requestId"]));
}

#[tokio::test]
async fn a_cold_gate_leaves_it_to_the_log_or_refuses_as_set() {
    let world = World::new("cold").await;
    let (goes_on, refuses) = (world.coupon("goes-on"), world.coupon("refuses"));
    let partition = define(&world, &goes_on, Admission::Reserved, 2).await;
    define(&world, &refuses, Admission::Reserved, 2).await;
    let gateway = Gateway::start_with(&world, &[("GATE__WHEN_COLD_EXCEPT", refuses.as_str())]).await;
    accepted(&gateway.ask(&goes_on, "a").await);
    let log = requests_in(&world, partition).await;
    assert!(log.iter().any(|request| request.coupon == goes_on && !request.admitted));
    let refused = gateway.ask(&refuses, "a").await;
    assert_eq!(refused.problem(), (503, "gate_unavailable".to_owned()));
    assert_eq!(refused.headers["retry-after"], "1");
}

async fn settings_gate(world: &World) -> redis_io::Gate {
    let settings = redis_io::RedisSettings { url: world.redis_url.as_str().into(), ..redis_io::RedisSettings::default() };
    redis_io::Gate::connect(&settings).await.unwrap()
}

#[tokio::test]
async fn sold_out_is_answered_from_memory_but_never_to_a_request_that_exists() {
    let world = World::new("memory").await;
    for admission in [Admission::Queued, Admission::Reserved] {
        let coupon = world.coupon("memory");
        let partition = define(&world, &coupon, admission, 1).await;
        if admission == Admission::Reserved {
            open_gate(&world.redis_url, &coupon, 1).await;
        }
        let gateway = Gateway::start(&world).await;
        let key = [("idempotency-key", "k")];
        let winner = accepted(&gateway.post(coupon.as_str(), r#"{"memberId":"winner"}"#, &key).await);
        let mut loser = None;
        if admission == Admission::Queued {
            loser = Some(accepted(&gateway.post(coupon.as_str(), r#"{"memberId":"loser"}"#, &key).await));
        }
        decide(&world, &winner, "issued", Some(1)).await;
        if let Some(loser) = &loser {
            decide(&world, loser, "sold_out", None).await;
        }
        if admission == Admission::Reserved {
            // The settler clears the reservation.
            let gate = settings_gate(&world).await;
            let id = winner["requestId"].as_str().unwrap().parse().unwrap();
            let rules = redis_io::GateRules::always_open(1, partition);
            let item = redis_io::SettleItem { kind: redis_io::SettleKind::Issued, member: member("winner"), request: id };
            gate.settle(&coupon, 0, 1, &[item], &rules).await.unwrap();
        }
        let memory = "trueup_gateway_sold_out_answers_total";
        eventually(SOON, "the memory of being sold out", || async {
            let answer = gateway.ask(&coupon, "late").await;
            (answer.status == 410) && gateway.metric(memory).await > 0.0
        })
        .await;
        let before = requests_in(&world, partition).await.len();
        let from_memory = gateway.ask(&coupon, "later").await;
        assert_eq!(from_memory.problem(), (410, "sold_out".to_owned()));
        assert_eq!(from_memory.headers["cache-control"], "no-store", "the answer may be another one after a restock");
        assert_eq!(requests_in(&world, partition).await.len(), before, "nothing is appended");

        // The winner's request exists, under its key and, of a reserved coupon, under his name.
        let again = accepted(&gateway.post(coupon.as_str(), r#"{"memberId":"winner"}"#, &key).await);
        assert_eq!((again["status"].as_str(), &again["requestId"]), (Some("success"), &winner["requestId"]));
        let by_name = accepted(&gateway.ask(&coupon, "winner").await);
        if admission == Admission::Reserved {
            assert_eq!(by_name["requestId"], winner["requestId"]);
        } else {
            assert_ne!(by_name["requestId"], winner["requestId"], "the log decides it as a duplicate");
        }
        if let Some(loser) = loser {
            let again = accepted(&gateway.post(coupon.as_str(), r#"{"memberId":"loser"}"#, &key).await);
            assert_eq!((again["reason"].as_str(), &again["requestId"]), (Some("sold_out"), &loser["requestId"]));
        }

        // A restock is noticed within a second.
        sql(&world, &format!("UPDATE coupon SET total_quantity = 2 WHERE coupon_code = '{coupon}'")).await;
        let restocked = std::time::Instant::now();
        if admission == Admission::Queued {
            eventually(SOON, "the restock", || async { gateway.ask(&coupon, "late").await.status == 202 }).await;
            assert!(restocked.elapsed().as_millis() < 1_000, "noticed after {:?}", restocked.elapsed());
        }
    }
}

#[tokio::test]
async fn a_keyed_request_that_the_gate_calls_sold_out_waits_for_what_stands_before_it() {
    let world = World::new("keyed").await;
    let coupon = world.coupon("keyed");
    let partition = define(&world, &coupon, Admission::Reserved, 1).await;
    open_gate(&world.redis_url, &coupon, 1).await;
    let gateway = Gateway::start(&world).await;
    let winner = accepted(&gateway.ask(&coupon, "winner").await);
    let late = || gateway.post(coupon.as_str(), r#"{"memberId":"late"}"#, &[("idempotency-key", "k")]);
    // His own request could stand in the log, undecided: neither 202 nor 410 would be true.
    let undecided = late().await;
    assert_eq!(undecided.problem(), (503, "append_unknown".to_owned()));
    assert!(undecided.headers.contains_key("retry-after"));
    decide(&world, &winner, "issued", Some(1)).await;
    let topic = &world.kafka.topics.created;
    let position = format!(
        "INSERT INTO consumer_position (topic, partition, next_offset, cluster_id, topic_id) VALUES ('{topic}', {partition}, 1, 'c', 't')"
    );
    sql(&world, &position).await;
    eventually(SOON, "the refusal", || async { late().await.status == 410 }).await;
    assert_eq!(requests_in(&world, partition).await.len(), 1, "nothing is appended that could overtake a reservation");
}

#[tokio::test]
async fn a_new_coupon_is_found_although_it_was_asked_for_before() {
    let world = World::new("unknown").await;
    let coupon = world.coupon("unknown");
    let gateway = Gateway::start(&world).await;
    assert_eq!(gateway.ask(&coupon, "a").await.problem(), (404, "unknown_coupon".to_owned()));
    define(&world, &coupon, Admission::Queued, 1).await;
    eventually(SOON, "the new coupon", || async { gateway.ask(&coupon, "a").await.status == 202 }).await;
    let shown = gateway.get(&format!("/v1/coupons/{coupon}")).await;
    let expected = serde_json::json!({"code": coupon.as_str(), "name": "A coupon", "admission": "queued", "status": "ACTIVE",
        "totalQuantity": 1, "issuedQuantity": 0, "left": 1});
    assert_eq!(shown.json(), expected);
    let same = gateway.client.get(format!("{}/v1/coupons/{coupon}", gateway.url)).header("if-none-match", &shown.headers["etag"]);
    assert_eq!(same.send().await.unwrap().status().as_u16(), 304);
}

#[tokio::test]
async fn what_is_clearly_outside_is_refused_with_its_times() {
    let world = World::new("window").await;
    let gateway = Gateway::start(&world).await;
    for (name, change, code) in [
        ("early", "opens_at = now() + interval '1 hour'", "not_open"),
        ("late", "closes_at = now() - interval '1 hour'", "closed"),
        ("paused", "paused = true", "paused"),
        ("ended", "ended = true", "ended"),
    ] {
        let coupon = world.coupon(name);
        define(&world, &coupon, Admission::Queued, 1).await;
        sql(&world, &format!("UPDATE coupon SET {change} WHERE coupon_code = '{coupon}'")).await;
        // The first answer may come before the first refresh, when nobody is refused by a view.
        eventually(SOON, code, || async { gateway.ask(&coupon, "a").await.problem() == (403, code.to_owned()) }).await;
        let problem = gateway.ask(&coupon, "a").await.json();
        assert_eq!(problem.get("opensAt").is_some(), code == "not_open");
        assert_eq!(problem.get("closesAt").is_some(), code == "closed");
    }
}

#[tokio::test]
async fn a_coupon_that_closed_refuses_no_request_that_waits_for_its_decision() {
    let world = World::new("underway").await;
    let coupon = world.coupon("underway");
    let partition = define(&world, &coupon, Admission::Queued, 5).await;
    let gateway = Gateway::start(&world).await;
    let key = [("idempotency-key", "k")];
    let alice = r#"{"memberId":"alice"}"#;
    let taken = accepted(&gateway.post(coupon.as_str(), alice, &key).await);
    sql(&world, &format!("UPDATE coupon SET closes_at = now() - interval '1 hour' WHERE coupon_code = '{coupon}'")).await;
    let closed = (403, "closed".to_owned());
    eventually(SOON, "it is closed", || async { gateway.ask(&coupon, "bob").await.problem() == closed }).await;

    // Nobody decides: whether alice has a request is not known here, and it is neither refused nor taken twice.
    let unknown = gateway.post(coupon.as_str(), alice, &key).await;
    assert_eq!(unknown.problem(), (503, "append_unknown".to_owned()));
    assert_eq!(unknown.json()["requestId"], taken["requestId"]);
    // Bob was taken until this gateway had read that it is closed; alice is in the log once.
    let log = requests_in(&world, partition).await;
    assert_eq!(log.iter().filter(|request| request.member == member("alice")).count(), 1);

    // It is decided while she waits for her answer, or before: then that is the answer.
    decide(&world, &taken, "issued", Some(1)).await;
    assert_eq!(accepted(&gateway.post(coupon.as_str(), alice, &key).await)["requestId"], taken["requestId"]);
    let topic = &world.kafka.topics.created;
    let decided = format!(
        "INSERT INTO consumer_position (topic, partition, next_offset, cluster_id, topic_id) VALUES ('{topic}', {partition}, {}, 't', 't')",
        log.len()
    );
    sql(&world, &decided).await;
    // All that the log holds is decided, and nothing of carol is in it.
    assert_eq!(gateway.post(coupon.as_str(), r#"{"memberId":"carol"}"#, &key).await.problem(), closed);
}

#[tokio::test]
async fn a_body_in_pieces_is_read_and_one_that_never_comes_is_given_up() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new("pieces").await;
    let coupon = world.coupon("pieces");
    define(&world, &coupon, Admission::Queued, 1).await;
    let gateway = Gateway::start_with(&world, &[("HTTP__CLIENT_TIMEOUT_MS", "2000")]).await;
    let address = gateway.url.strip_prefix("http://").unwrap().to_owned();
    let head = format!(
        "POST /v1/coupons/{coupon}/requests HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    for (pieces, expected) in [
        (["b\r\n{\"memberId\"\r\n", "5\r\n:\"a\"}\r\n0\r\n\r\n"], "HTTP/1.1 202"),
        (["b\r\n{\"memberId\"\r\n", ""], "HTTP/1.1 400"),
    ] {
        let mut connection = tokio::net::TcpStream::connect(&address).await.unwrap();
        connection.write_all(head.as_bytes()).await.unwrap();
        for piece in pieces {
            connection.write_all(piece.as_bytes()).await.unwrap();
            connection.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut answer = vec![0; expected.len()];
        tokio::time::timeout(SOON, connection.read_exact(&mut answer)).await.expect("an answer in time").unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(expected), "{answer}");
    }
    let large = format!(r#"{{"memberId":"{}"}}"#, "x".repeat(5_000));
    assert_eq!(gateway.post(coupon.as_str(), large, &[]).await.problem(), (413, "body_too_large".to_owned()));
}
