//! Drills against two real gateways and a consumer, in this process.

use domain::coupon::Admission;
use service_kit::lifecycle::Shutdown;
use testkit::{OnThread, World, Writer};
use trueup_cli::exit::Exit;

use crate::support::{PATIENCE, audited, decided, environment, execute, json, start_consumer, trueup};

/// A gateway on a thread of its own.
pub struct Gateway {
    pub url: String,
    _running: OnThread,
}

impl Gateway {
    async fn start(world: &World) -> Self {
        Self::start_with(world, &[]).await
    }

    /// With further settings, written as `ADMIN__TOKENS` without the prefix.
    pub async fn start_with(world: &World, settings: &[(&str, &str)]) -> Self {
        let metrics = testkit::metrics();
        service_kit::install_crypto_provider();
        let port = stack::ports::free().unwrap();
        let mut environment = world.gateway_environment(port);
        testkit::add(&mut environment, "COUPON_GATEWAY", settings);
        let settings = testkit::settings("COUPON_GATEWAY", &environment);
        let shutdown = Shutdown::default();
        let stopping = shutdown.clone();
        let running = OnThread::start(
            move || actix_rt::System::new().block_on(coupon_gateway::run(settings, stopping, metrics)).unwrap(),
            move || shutdown.begin(),
        );
        testkit::until_listening(PATIENCE, port).await;
        Self { url: format!("http://127.0.0.1:{port}"), _running: running }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_is_verified_against_log_and_ledger() {
    let world = World::new("drill").await;
    let writer = Writer::new(&world.kafka).await;
    let (queued, reserved) = (world.coupon("queued"), world.coupon("reserved"));
    let consumer = start_consumer(&world).await;
    let gateways = [Gateway::start(&world).await, Gateway::start(&world).await];
    writer.define(&queued, Admission::Queued, 30).await;
    // Nobody opens the gate here: the coupon goes on as queued.
    writer.define(&reserved, Admission::Reserved, 30).await;
    decided(&world).await;
    let mut environment = environment(&world);
    environment.insert("TRUEUP__GATEWAYS".to_owned(), format!("{},{}", gateways[0].url, gateways[1].url));

    let closed = [
        "drill",
        queued.as_str(),
        reserved.as_str(),
        "--members",
        "300",
        "--concurrency",
        "16",
        "--repeat-share",
        "0.5",
        "--seed",
        "7",
        "--json",
    ];
    let output = trueup(&environment, &closed).await;
    let report = json(&output);
    assert_eq!((output.status.code(), report["verdict"].as_str()), (Some(0), Some("clean")), "{report:#}");
    let found = &report["verification"];
    assert!(found["promised"].as_u64().unwrap() >= 60, "{found}");
    assert_eq!(
        (found["lost_in_log"].as_u64(), found["lost_in_ledger"].as_u64(), found["changed"].as_u64()),
        (Some(0), Some(0), Some(0))
    );
    for code in [&queued, &reserved] {
        assert_eq!(found["seats"][code.as_str()], serde_json::json!([30, 30]), "{found}");
        assert_eq!(audited(&world, code).await.exit(), Exit::Done);
    }
    assert_eq!(report["outcomes_not_seen"], 0);
    assert!(report["visible"]["count"].as_u64().unwrap() > 0 && report["accept"]["p50_ms"].as_f64().unwrap() > 0.0);

    // Open loop; the same seed sends the same members again, who are known: still nothing is lost or changed.
    let open = ["drill", queued.as_str(), "--members", "300", "--rate", "500", "--repeat-share", "0.2", "--seed", "7", "--json"];
    let output = trueup(&environment, &open).await;
    let report = json(&output);
    assert_eq!((output.status.code(), report["loop_kind"].as_str()), (Some(0), Some("open")), "{report:#}");

    let unsettled = ["drill", queued.as_str(), "--members", "5", "--no-settle", "--json"];
    let report = json(&trueup(&environment, &unsettled).await);
    assert_eq!(report["verdict"], "not_verified");
    consumer.stop().await;
    assert_eq!(audited(&world, &queued).await.exit(), Exit::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_finds_what_the_ledger_lost_and_waits_no_longer_than_told() {
    let world = World::new("drill-lost").await;
    let writer = Writer::new(&world.kafka).await;
    let code = world.coupon("lost");
    let consumer = start_consumer(&world).await;
    let gateway = Gateway::start(&world).await;
    writer.define(&code, Admission::Queued, 10).await;
    decided(&world).await;
    let mut environment = environment(&world);
    environment.insert("TRUEUP__GATEWAYS".to_owned(), gateway.url.clone());
    // A trigger that loses every tenth row of the ledger stands for a consumer that does.
    execute(
        &world,
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.log_offset % 10 = 9 THEN RETURN NULL; END IF; RETURN NEW; END $$;
         CREATE TRIGGER lose BEFORE INSERT ON coupon_request FOR EACH ROW WHEN (NEW.outcome <> 'issued') EXECUTE FUNCTION lose();",
    )
    .await;
    let drill = ["drill", code.as_str(), "--members", "200", "--settle-ms", "3000", "--json"];
    let output = trueup(&environment, &drill).await;
    let report = json(&output);
    assert_eq!((output.status.code(), report["verdict"].as_str()), (Some(1), Some("difference")), "{report:#}");
    let lost = report["verification"]["lost_in_ledger"].as_u64().unwrap();
    assert!(lost > 0 && report["verification"]["lost_in_log"] == 0, "{report:#}");
    let audit = audited(&world, &code).await;
    assert_eq!(audit.exit(), Exit::Difference);
    // Repeats may name a lost request twice; the audit counts each lost row once, as the drill does.
    assert_eq!(audit.differences.counts.get(&trueup_cli::audit::difference::Kind::Lost), Some(&lost), "{}", audit.render());
    consumer.stop().await;

    let code = world.coupon("stopped");
    let consumer = start_consumer(&world).await;
    writer.define(&code, Admission::Queued, 10).await;
    decided(&world).await;
    consumer.stop().await;
    let output = trueup(&environment, &["drill", code.as_str(), "--members", "20", "--settle-ms", "500"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("is an issue-consumer running?"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_speaks_for_its_members_by_the_trusted_header() {
    let world = World::new("drill-header").await;
    let writer = Writer::new(&world.kafka).await;
    let code = world.coupon("header");
    let consumer = start_consumer(&world).await;
    let gateway = Gateway::start_with(&world, &[("IDENTITY__MODE", "header")]).await;
    writer.define(&code, Admission::Queued, 20).await;
    decided(&world).await;
    let mut environment = environment(&world);
    environment.insert("TRUEUP__GATEWAYS".to_owned(), gateway.url.clone());
    let without = ["drill", code.as_str(), "--members", "10", "--no-settle", "--json"];
    let answers = json(&trueup(&environment, &without).await)["coupons"][code.as_str()]["answers"].clone();
    assert!(answers.get("accepted").is_none() && answers.get("unauthorized").is_some(), "{answers}");
    let with = ["drill", code.as_str(), "--members", "50", "--identity", "header", "--json"];
    let output = trueup(&environment, &with).await;
    let report = json(&output);
    assert_eq!(
        (output.status.code(), report["verification"]["seats"][code.as_str()][0].as_i64()),
        (Some(0), Some(20)),
        "{report:#}"
    );
    consumer.stop().await;
}

/// A gateway that answers each key with 202 once, and with "sold out" ever after.
async fn forgetful_gateway() -> String {
    use std::collections::HashSet;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut known = HashSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut request, mut part) = (Vec::new(), [0_u8; 1_024]);
            while !request.ends_with(b"}") {
                let length = stream.read(&mut part).await.unwrap();
                if length == 0 {
                    break;
                }
                request.extend_from_slice(&part[..length]);
            }
            let request = String::from_utf8_lossy(&request).to_lowercase();
            let key = request.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).map(str::to_owned);
            let is_new = key.is_none_or(|key| known.insert(key));
            let (status, body) = if is_new {
                let id = domain::ids::RequestId::fresh(&domain::clock::SystemClock);
                ("202 Accepted", format!(r#"{{"requestId":"{id}","ticket":"t","status":"pending"}}"#))
            } else {
                ("410 Gone", r#"{"code":"sold_out"}"#.to_owned())
            };
            let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn sold_out_is_never_the_answer_to_a_request_that_exists() {
    let world = World::new("drill-forgetful").await;
    let mut environment = environment(&world);
    environment.insert("TRUEUP__GATEWAYS".to_owned(), forgetful_gateway().await);
    let drill = ["drill", "some-coupon", "--members", "60", "--concurrency", "4", "--repeat-share", "1", "--no-settle", "--json"];
    let output = trueup(&environment, &drill).await;
    let report = json(&output);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert!(report["violations"]["sold_out_though_accepted"].as_u64().unwrap() > 0, "{report:#}");
    assert!(report["violation_details"][0].as_str().unwrap().contains("by the same Idempotency-Key"), "{report:#}");
}
