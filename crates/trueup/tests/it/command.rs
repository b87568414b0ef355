//! The command as people run it: help, set-up, dead letters, explanations, and errors that say what to do.

use std::collections::BTreeMap;

use contracts::Encoded;
use domain::coupon::Admission;
use testkit::{World, Writer, asks, encoded, encoded_cancel, member, request};

use crate::support::{audited, decided, environment, foreign, json, number, start_consumer, trueup};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn set_up_is_harmless_when_repeated() {
    let world = World::new("set-up").await;
    let mut environment = environment(&world);
    let first = trueup(&environment, &["migrate", "--json"]).await;
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    assert_eq!(json(&first)["applied"].as_array().unwrap().len(), 0, "the world's database is migrated already");
    for topic in ["CREATED", "ISSUED", "REJECTED", "DEAD_LETTER"] {
        environment.insert(format!("TRUEUP__KAFKA__TOPICS__{topic}"), format!("{}.fresh.{topic}", world.name));
    }
    for change in ["created", "unchanged"] {
        let output = trueup(&environment, &["topics", "--partitions", "3", "--json"]).await;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let topics = json(&output);
        assert_eq!(topics.as_array().unwrap().len(), 7);
        for topic in topics.as_array().unwrap() {
            assert!(topic["change"].to_string().contains(change), "{topic}");
            assert_eq!(topic["append_time"], true);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_without_a_word_when_nobody_reads_its_output() {
    let world = World::new("pipe").await;
    for arguments in [&["migrate"][..], &["migrate", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_trueup"));
        command.env_clear().envs(environment(&world)).args(arguments).stdout(writer);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(141), ""), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_to_look_at_and_exit_2() {
    let world = World::new("errors").await;
    let nowhere = format!("127.0.0.1:{}", stack::ports::free().unwrap());
    let cases: [(&str, String, &[&str]); 4] = [
        ("TRUEUP__KAFKA__BROKERS", nowhere.clone(), &["topics"]),
        ("TRUEUP__POSTGRES__URL", format!("postgres://trueup:secret@{nowhere}/trueup"), &["migrate"]),
        ("TRUEUP__GATEWAYS", format!("http://{nowhere}"), &["coupon", "list"]),
        ("TRUEUP__KEYS__LOG_SIGNING", "short".to_owned(), &["audit", "some-coupon"]),
    ];
    for (variable, value, arguments) in cases {
        let mut environment = environment(&world);
        environment.insert("TRUEUP__KAFKA__REQUEST_TIMEOUT_MS".to_owned(), "1000".to_owned());
        environment.insert(variable.to_owned(), value.clone());
        let output = trueup(&environment, arguments).await;
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{variable}: {error}");
        assert!(error.contains(variable), "{variable} is not named: {error}");
        assert!(!error.contains("secret@"), "{error}");
        if variable != "TRUEUP__KEYS__LOG_SIGNING" {
            assert!(error.contains(&nowhere), "{nowhere} is not named: {error}");
        }
    }
    let usage = trueup(&BTreeMap::new(), &["audit"]).await;
    assert_eq!(usage.status.code(), Some(64), "{}", text(&usage.stderr));
    let help = trueup(&BTreeMap::new(), &["drill", "--help"]).await;
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("trueup drill coupon-2024"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_shown_and_replayed_once() {
    let world = World::new("letters").await;
    let writer = Writer::new(&world.kafka).await;
    let (code, environment) = (world.coupon("letters"), environment(&world));
    let consumer = start_consumer(&world).await;
    let home = writer.home(&code);
    // Too early: the coupon is not defined yet.
    let early = writer.put(home, &encoded(&request(&code, 1))).await.to_string();
    // A member's id that no id may be.
    let value = format!("{{\"userId\":\"a b\",\"couponId\":\"{code}\"}}");
    let spaced = writer.put(home, &Encoded::new(Some(code.as_str().as_bytes()), Some(value.as_bytes()), 0)).await.to_string();
    let unsigned = encoded_cancel(&request(&code, 2));
    let mut stripped = Encoded::copy_of(&unsigned.at(0, 0, 0));
    stripped.retain_headers(|name| name != b"trueup-signature");
    let unsigned = writer.put(home, &stripped).await.to_string();
    decided(&world).await;

    let list = trueup(&environment, &["dead-letters", "list", "--json"]).await;
    let list = json(&list);
    let cause = |place: &str| list.as_array().unwrap().iter().find(|row| row["place"] == place).unwrap()["cause"].clone();
    assert_eq!(
        (cause(&early), cause(&spaced), cause(&unsigned)),
        ("unknown_coupon".into(), "bad_id".into(), "bad_signature".into())
    );
    let show = trueup(&environment, &["dead-letters", "show", &spaced]).await;
    assert!(text(&show.stdout).contains(&value), "{}", text(&show.stdout));
    let nothing = trueup(&environment, &["dead-letters", "show", "0@9999"]).await;
    assert_eq!(nothing.status.code(), Some(2));
    assert!(text(&nothing.stderr).contains("dead-letters list"), "{}", text(&nothing.stderr));

    let refused = trueup(&environment, &["dead-letters", "replay", &early]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("is defined"), "{}", text(&refused.stderr));
    writer.define(&code, Admission::Queued, 10).await;
    decided(&world).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let replayed = trueup(&environment, &["dead-letters", "replay", &early, "--json"]).await;
        assert_eq!(replayed.status.code(), Some(0), "{}", text(&replayed.stderr));
        let replayed = json(&replayed);
        assert_eq!(replayed["replayOf"], request(&code, 1).id.to_string());
        ids.push(replayed["requestId"].clone());
    }
    assert_eq!(ids[0], ids[1]);
    let refused = trueup(&environment, &["dead-letters", "replay", &spaced]).await;
    assert!(refused.status.code() == Some(1) && text(&refused.stderr).contains("--member"), "{}", text(&refused.stderr));
    let replayed = trueup(&environment, &["dead-letters", "replay", &spaced, "--member", "a-b"]).await;
    assert_eq!(replayed.status.code(), Some(0), "{}", text(&replayed.stderr));
    let refused = trueup(&environment, &["dead-letters", "replay", &unsigned]).await;
    assert!(
        refused.status.code() == Some(1) && text(&refused.stderr).contains("operator's command"),
        "{}",
        text(&refused.stderr)
    );
    decided(&world).await;
    let issued = format!("SELECT count(*) FROM coupon_request WHERE coupon_code = '{code}' AND outcome = 'issued'");
    assert_eq!(number(&world, &issued).await, 2, "one of each replayed letter");
    let report = audited(&world, &code).await;
    assert_eq!(report.exit(), trueup_cli::exit::Exit::Done, "{}", report.render());
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_tells_its_outcome_and_takes_nobody_elses_seat() {
    let world = World::new("replays").await;
    let writer = Writer::new(&world.kafka).await;
    let (code, environment) = (world.coupon("replays"), environment(&world));
    let consumer = start_consumer(&world).await;
    let home = writer.home(&code);
    // Two who came before their coupon; one of them asks again by himself and wins, and others take the rest.
    let early = writer.put(home, &encoded(&request(&code, 1))).await.to_string();
    let impatient = writer.put(home, &encoded(&request(&code, 2))).await.to_string();
    decided(&world).await;
    writer.define(&code, Admission::Queued, 3).await;
    writer.put(home, &foreign(&code, 2)).await;
    writer.put_all(home, asks(&code, 11..13)).await;
    // And one that is fine, of which a broken copy came later.
    let whole = encoded(&request(&code, 11));
    let mut broken = Encoded::new(whole.key(), Some(b"\xff\xff"), 8);
    whole.headers().iter().for_each(|(name, value)| broken.push_header(name, value));
    let copy = writer.put(home, &broken).await.to_string();
    decided(&world).await;

    let replay = |place: String, member: Option<String>| {
        let environment = environment.clone();
        async move {
            let mut arguments = vec!["dead-letters", "replay", &place, "--json"];
            if let Some(member) = &member {
                arguments.extend(["--member", member]);
            }
            let output = trueup(&environment, &arguments).await;
            (output.status.code(), json(&output))
        }
    };
    let mut first = None;
    for _ in 0..2 {
        let (status, told) = replay(early.clone(), None).await;
        assert_eq!((status, told["outcome"].as_str()), (Some(1), Some("sold_out")), "{told}");
        assert_eq!(*first.get_or_insert(told["requestId"].clone()), told["requestId"], "twice is once");
    }
    let (status, told) = replay(impatient, None).await;
    assert_eq!((status, told["outcome"].as_str()), (Some(1), Some("duplicate")), "{told}");
    let (status, told) = replay(copy.clone(), Some(member(11).to_string())).await;
    assert_eq!((status, told["outcome"].as_str()), (Some(1), Some("duplicate")), "{told}");
    assert_eq!(told["issuedRequestId"], request(&code, 11).id.to_string());
    let words = trueup(&environment, &["dead-letters", "replay", &copy, "--member", member(11).as_str()]).await;
    assert!(text(&words.stdout).contains("there is nothing to repair"), "{}", text(&words.stdout));

    let issued = format!("SELECT count(*) FROM coupon_request WHERE coupon_code = '{code}' AND outcome = 'issued'");
    assert_eq!(number(&world, &issued).await, 3, "nobody lost his seat, and nobody got one twice");
    decided(&world).await;
    let report = audited(&world, &code).await;
    assert_eq!(report.exit(), trueup_cli::exit::Exit::Done, "{}", report.render());
    // Nobody decides: the replay is in the log all the same, and says so.
    consumer.stop().await;
    let waiting =
        trueup(&environment, &["dead-letters", "replay", &early, "--wait-ms", "0", "--member", "somebody-else", "--json"]).await;
    assert_eq!((waiting.status.code(), json(&waiting)["outcome"].as_str()), (Some(0), Some("pending")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_explained_from_append_to_event() {
    let world = World::new("explain").await;
    let writer = Writer::new(&world.kafka).await;
    let (code, environment) = (world.coupon("explain"), environment(&world));
    let consumer = start_consumer(&world).await;
    let home = writer.define(&code, Admission::Queued, 2).await;
    writer.put_all(home, asks(&code, 0..3)).await;
    let elsewhere = (home + 1) % writer.partitions;
    let origin = writer.put(elsewhere, &foreign(&code, 50)).await;
    decided(&world).await;
    testkit::eventually(crate::support::PATIENCE, "the outcomes are published", || async {
        number(&world, &format!("SELECT max(next_offset) FROM publisher_position WHERE partition = {home}")).await >= 5
    })
    .await;

    let winner = request(&code, 0).id.to_string();
    let story = json(&trueup(&environment, &["explain", &winner, "--json"]).await)[0].clone();
    assert_eq!((story["outcome"].as_str(), story["sequence"].as_i64()), (Some("issued"), Some(1)));
    assert_eq!((story["outcome_event"].as_str(), story["source"].as_str()), (Some("published"), Some("/trueup/test")));
    let loser = trueup(&environment, &["explain", member(2).as_str()]).await;
    let words = text(&loser.stdout);
    assert!(words.contains("sold_out: no seat was left") && words.contains(&format!("{home}@")), "{words}");
    let forwarded =
        json(&trueup(&environment, &["explain", member(50).as_str(), "--coupon", code.as_str(), "--json"]).await)[0].clone();
    assert_eq!(forwarded["forwarded_from"].as_str(), Some(origin.to_string().as_str()));
    consumer.stop().await;

    // Appended and not decided: it is told from the log.
    writer.put(home, &encoded(&request(&code, 7))).await;
    let waiting = trueup(&environment, &["explain", member(7).as_str()]).await;
    assert!(text(&waiting.stdout).contains("0 records of its partition are ahead"), "{}", text(&waiting.stdout));
    let nobody = trueup(&environment, &["explain", "nobody-at-all"]).await;
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody.stderr).contains("nothing is known"), "{}", text(&nobody.stderr));
}
