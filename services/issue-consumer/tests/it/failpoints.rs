//! Steps at which a drill interferes, in builds that have them, and nothing of it in builds that have not.

use testkit::{TestFolder, World};

use crate::harness::*;

#[cfg(not(feature = "failpoints"))]
#[tokio::test(flavor = "multi_thread")]
async fn a_build_for_use_has_no_failpoints() {
    let world = World::new("no-failpoints").await;
    let folder = TestFolder::new("no-failpoints");
    let mut consumer = spawn(&environment(&world), "consumer", folder.path());
    consumer.wait_ready().unwrap();
    for path in ["/failpoints", "/failpoints/consumer.commit.before", "/clock-offset-ms"] {
        assert_eq!(stack::http::status(consumer.http_port(), "GET", path).unwrap(), 404, "{path}");
    }
}

#[cfg(feature = "failpoints")]
mod with {
    use std::path::Path;

    use domain::{clock::Timestamp, coupon::Admission};

    use super::*;
    use crate::invariants;

    #[test]
    fn every_step_is_declared_used_and_documented() {
        let names: Vec<&str> = issue_consumer::failpoints::STEPS.iter().map(|step| step.name).collect();
        testkit::failpoints::hold(&names, &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "consumer.");
    }

    /// Events whose own time is at least an hour before they were appended.
    async fn late_events(world: &World) -> usize {
        let mut late = 0;
        for partition in 0..4 {
            let events = testkit::read_all(&world.kafka, &world.kafka.topics.issued, partition).await;
            let is_late = |raw: &contracts::RawRecord<'_>| {
                let an_hour_ago = Timestamp::from_unix_ms(raw.timestamp_ms - 3_600_000).to_string();
                raw.headers.get(contracts::names::CE_TIME).is_some_and(|time| time < an_hour_ago.as_bytes())
            };
            late += events.iter().filter(is_late).count();
        }
        late
    }

    /// Plans of the environment hold before the first batch; those that fail are retried, the one that kills is survived.
    #[tokio::test(flavor = "multi_thread")]
    async fn failures_and_kills_at_every_step_of_a_batch_change_no_outcome() {
        let world = World::new("failpoints").await;
        let folder = TestFolder::new("failpoints");
        let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("fails"));
        let home = writer.define(&coupon, Admission::Queued, 60).await;
        writer.put_all(home, asks(&coupon, 0..100)).await;
        writer.put(home, &contracts::Encoded::new(Some(b"k"), Some(b"poison"), 0)).await;

        let mut plans = environment(&world);
        plans.insert("ISSUE_CONSUMER__BATCH__RECORDS_MAX".to_owned(), "40".to_owned());
        let kill = |step: &str| format!("{step}=1+1*kill");
        let fail = ["position.moved", "commit.before", "commit.done", "publish.acknowledged", "settle.replied"];
        let fail: Vec<String> = fail.iter().map(|step| format!("consumer.{step}=1*fail")).collect();
        for (name, failpoints) in [
            ("fails-and-dies-after-commit", format!("{};{}", fail[..2].join(";"), kill("consumer.commit.done"))),
            ("dies-after-dead-letter", "consumer.dead_letter.acknowledged=kill".to_owned()),
        ] {
            plans.insert("FAILPOINTS".to_owned(), failpoints);
            let mut consumer = spawn(&plans, name, folder.path());
            let gone = tokio::task::spawn_blocking(move || consumer.process().identity().wait_gone(PATIENCE)).await.unwrap();
            assert!(gone, "{name} was not killed: {}", stack::process::tail(&folder.path().join(format!("{name}.log"))));
        }
        plans.insert("FAILPOINTS".to_owned(), fail.join(";"));
        // Its clock is a day late, which no outcome may show: time is the append time.
        plans.insert("TRUEUP_CLOCK_OFFSET_MS".to_owned(), "-86400000".to_owned());
        let consumer = spawn(&plans, "finishes", folder.path());
        sql.until_rows(&coupon, 100).await;
        sql.until("SELECT count(*) FROM dead_letter", 1).await;
        assert_eq!(sql.outcomes(&coupon, "issued").await, 60);
        let points = consumer.failpoints();
        let step = points.wait_for("consumer.publish.acknowledged", PATIENCE, |step| step.fired == 1).unwrap();
        assert!(step.hits >= 1, "{step:?}");
        assert!(late_events(&world).await > 0, "the process' own clock is late");
        drop(consumer);
        invariants::hold(&world, &writer, &sql).await;
    }
}
