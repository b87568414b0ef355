//! A short round against real servers and real service processes, and corruptions planted into what it leaves behind.

use std::collections::BTreeMap;

use faults::{
    World,
    action::Who,
    check, collect_again,
    evidence::{Evidence, What},
    fault,
    plan::{CONSUMERS, GATEWAYS, Plan, RECONCILERS},
    report::Verdict,
    run_round,
};
use redis_io::keys;
use stack::paths;
use testkit::TestFolder;
use tokio::runtime::Handle;

/// The coupon with a gate.
const RESERVED: usize = 0;
/// The coupon without.
const QUEUED: usize = 1;

/// A line whose services have ended, so that nobody mends what is planted.
struct Still {
    world: World,
    evidence: Evidence,
}

impl Still {
    async fn sql(&self, sql: &str) -> u64 {
        let database = self.world.places().database().await.unwrap();
        // The schema would refuse nearly all of it.
        database.batch_execute("SET session_replication_role = replica").await.unwrap();
        database.execute(sql, &[]).await.unwrap()
    }

    async fn redis(&self, command: &str, key: &str, member: &str) -> i64 {
        let client = deadpool_redis::redis::Client::open(self.world.places().redis.url.expose()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        deadpool_redis::redis::cmd(command).arg(key).arg(member).query_async(&mut connection).await.unwrap()
    }

    /// The kinds that are found now, with how often.
    async fn kinds(&self) -> BTreeMap<&'static str, usize> {
        let evidence = collect_again(self.world.places(), &self.evidence).await.unwrap();
        let mut kinds = BTreeMap::new();
        for violation in check::judge(&evidence) {
            *kinds.entry(violation.kind.as_str()).or_default() += 1;
        }
        kinds
    }

    fn code(&self, coupon: usize) -> &str {
        self.evidence.coupons[coupon].code.as_str()
    }
}

async fn after_a_round() -> (TestFolder, Still) {
    let folder = TestFolder::new("faults");
    let (path, runtime) = (folder.path().to_path_buf(), Handle::current());
    let start = move || {
        let mut world = World::start(&path, &paths::binaries("debug").unwrap(), &runtime).unwrap();
        world.heal(2).unwrap();
        world
    };
    let world = tokio::task::spawn_blocking(start).await.unwrap();
    // Redis dies in it, so that more than the usual way was gone.
    let mut plan = Plan::draw(5, &[fault::find("9").unwrap()], false).unwrap();
    plan.members.truncate(600);
    let (mut world, outcome) = Box::pin(run_round(world, plan)).await;
    let report = outcome.report;
    assert_eq!((report.verdict, &report.violations, &report.trouble), (Verdict::Clean, &Vec::new(), &None), "{report:?}");
    assert!(report.requests > 600 && report.failed_steps().count() == 0, "{report:?}");
    let stop = move || {
        for index in 0..GATEWAYS {
            world.kill(Who::Gateway(index));
        }
        for index in 0..RECONCILERS {
            world.kill(Who::Reconciler(index));
        }
        for index in 0..CONSUMERS {
            world.kill(Who::Consumer(index));
        }
        world
    };
    let world = tokio::task::spawn_blocking(stop).await.unwrap();
    (folder, Still { world, evidence: outcome.evidence.unwrap() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_is_clean_and_each_corruption_planted_behind_it_is_found_and_nothing_else() {
    let (_folder, still) = after_a_round().await;
    assert_eq!(still.kinds().await, BTreeMap::new(), "the round itself");

    let issued = keys::issued(&still.evidence.coupons[RESERVED].code);
    assert_eq!(still.redis("SADD", &issued, "a-stranger").await, 1);
    assert_eq!(still.kinds().await, BTreeMap::from([("redis_extra", 1)]));
    assert_eq!(still.redis("SREM", &issued, "a-stranger").await, 1);

    let holder = still.evidence.coupons[RESERVED].gate.as_ref().unwrap().members[0].clone();
    assert_eq!(still.redis("SREM", &issued, &holder).await, 1);
    assert_eq!(still.kinds().await, BTreeMap::from([("redis_missing", 1)]));
    assert_eq!(still.redis("SADD", &issued, &holder).await, 1);

    let count = |by: i64| {
        let code = still.code(RESERVED);
        format!("UPDATE coupon SET issued_quantity = issued_quantity + {by} WHERE coupon_code = '{code}'")
    };
    assert_eq!(still.sql(&count(-1)).await, 1);
    assert_eq!(still.kinds().await, BTreeMap::from([("wrong_count", 1)]));
    assert_eq!(still.sql(&count(1)).await, 1);

    // Two winners change their numbers. The unique index is checked row by row, so one of them steps aside meanwhile.
    let code = still.code(QUEUED);
    let renumber = |from: i64, to: i64| {
        format!(
            "UPDATE coupon_request SET sequence = {to} WHERE coupon_code = '{code}' AND outcome = 'issued' AND sequence = {from}"
        )
    };
    for (from, to) in [(1, 1_000_000), (2, 1), (1_000_000, 2)] {
        assert_eq!(still.sql(&renumber(from, to)).await, 1);
    }
    assert_eq!(still.kinds().await, BTreeMap::from([("wrong_order", 2)]));
    for (from, to) in [(1, 1_000_000), (2, 1), (1_000_000, 2)] {
        assert_eq!(still.sql(&renumber(from, to)).await, 1);
    }

    // Somebody was told of a refusal, and the ledger says another by now; then it says nothing.
    let told = still.evidence.coupons[QUEUED].answers.iter().find_map(|answer| match &answer.what {
        What::Told { request, outcome: Some(outcome) } if outcome != "issued" => Some(*request),
        _ => None,
    });
    let told = told.expect("somebody who was refused by the log");
    assert_eq!(still.sql(&format!("UPDATE coupon_request SET outcome = 'ended' WHERE request_id = '{told}'")).await, 1);
    assert_eq!(still.kinds().await, BTreeMap::from([("changed_outcome", 1)]));
    assert_eq!(still.sql(&format!("DELETE FROM coupon_request WHERE request_id = '{told}'")).await, 1);
    assert_eq!(still.kinds().await, BTreeMap::from([("lost_accept", 1)]));
}
