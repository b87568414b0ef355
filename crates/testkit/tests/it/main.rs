//! The kit itself: worlds are apart, and servers come and go.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]

use std::time::Duration;

use domain::clock::Clock;
use testkit::{FakeClock, PrivateRedis, TestFolder, World, eventually, postgres, unique};

#[tokio::test(flavor = "multi_thread")]
async fn two_worlds_share_servers_and_nothing_else() {
    let (one, two) = tokio::join!(World::new("one"), World::new("two"));
    assert_eq!(one.kafka.brokers, two.kafka.brokers);
    assert_ne!(one.kafka.topics, two.kafka.topics);
    assert_ne!(one.postgres_url, two.postgres_url);
    assert_ne!(one.coupon("c"), one.coupon("c"));
    let insert =
        "INSERT INTO consumer_position (topic, partition, next_offset, cluster_id, topic_id) VALUES ('t', 0, 7, 'c', 'i')";
    postgres().psql(&one.name, insert).unwrap();
    let count = |name: &str| postgres().psql(name, "SELECT count(*) FROM consumer_position").unwrap();
    assert_eq!((count(&one.name), count(&two.name)), ("1".to_owned(), "0".to_owned()));
    let environment = one.environment("ISSUE_CONSUMER");
    assert_eq!(environment["ISSUE_CONSUMER__KAFKA__TOPICS__CREATED"], one.kafka.topics.created);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_server_can_be_killed_and_comes_back() {
    let mut redis = PrivateRedis::start();
    let port = redis.port();
    redis.kill();
    assert!(!stack::redis::answers(port));
    redis.restart().unwrap();
    assert!(stack::redis::answers(port));
}

#[tokio::test]
async fn a_folder_goes_with_its_owner() {
    let folder = TestFolder::new("gone");
    let path = folder.path().to_owned();
    assert!(path.is_dir());
    drop(folder);
    assert!(!path.exists());
}

#[tokio::test]
#[should_panic(expected = "the moon: not within")]
async fn a_wait_ends_at_its_deadline_and_says_what_it_waited_for() {
    eventually(Duration::from_millis(30), "the moon", || async { false }).await;
}

#[test]
fn the_clock_stands_still_until_it_is_moved() {
    let clock = FakeClock::default();
    let before = clock.now();
    assert_eq!(clock.now(), before);
    clock.clone().advance_ms(5);
    assert_eq!(clock.now(), before.saturating_add_ms(5));
    assert_ne!(unique("a"), unique("a"));
}
