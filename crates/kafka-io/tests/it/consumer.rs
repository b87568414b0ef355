//! Group membership with deferred assignment.

use std::time::Duration;

use kafka_io::{
    BatchLimits, ConsumerSettings, GroupConsumer, GroupEvent, GroupPartition, KafkaIoError, KafkaSettings, LogClient,
    topics::grow,
};
use testkit::{eventually, unique};
use tokio::{sync::mpsc, time::timeout};

use crate::support::{SOON, producer, request, topics};

const LIMITS: BatchLimits = BatchLimits { records_max: 100, bytes_max: 1_000_000, wait: Duration::ZERO };

fn join(settings: &KafkaSettings, group: &str) -> (GroupConsumer, mpsc::Receiver<GroupEvent>) {
    let consumer = ConsumerSettings {
        group_id: group.to_owned(),
        session_timeout_ms: 6_000,
        heartbeat_interval_ms: 500,
        ..ConsumerSettings::default()
    };
    GroupConsumer::join(settings, &consumer, &settings.topics.created).unwrap()
}

async fn next(events: &mut mpsc::Receiver<GroupEvent>) -> GroupEvent {
    timeout(SOON, events.recv()).await.expect("an event in time").expect("the group is alive")
}

async fn assigned(events: &mut mpsc::Receiver<GroupEvent>) -> Vec<i32> {
    match next(events).await {
        GroupEvent::Assigned(mut partitions) => {
            partitions.sort_unstable();
            partitions
        }
        other => panic!("{other:?}"),
    }
}

async fn fill(settings: &KafkaSettings, partition: i32, records: usize) {
    let producer = producer(settings);
    let mut last = None;
    for number in 0..records {
        last = Some(producer.publish(&settings.topics.created, Some(partition), &request("c", number).1).unwrap());
    }
    last.unwrap().await.unwrap();
}

async fn offsets(records: &mut GroupPartition, count: usize) -> Vec<i64> {
    let mut offsets = Vec::new();
    while offsets.len() < count {
        let batch = timeout(SOON, records.next_batch(LIMITS)).await.expect("a batch in time").unwrap();
        assert!(batch.len() <= LIMITS.records_max);
        assert!(batch.iter().all(|raw| raw.partition == records.partition()));
        offsets.extend(batch.iter().map(|raw| raw.offset));
    }
    offsets
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_are_noticed_soon() {
    let settings = topics("grown", 1).await;
    let (consumer, mut events) = join(&settings, &unique("group"));
    assert_eq!(assigned(&mut events).await, [0]);
    drop(consumer.assign(&[(0, 0)]).unwrap());
    let client = LogClient::new(&settings).unwrap();
    grow(&client, &settings.topics.created, 3).await.unwrap();
    // Topics are looked at every ten seconds; the library's default would be five minutes.
    let noticed = timeout(Duration::from_secs(60), events.recv()).await.expect("the growth is noticed in time");
    assert_eq!(noticed, Some(GroupEvent::Revoked { partitions: vec![0], lost: false }));
    consumer.unassign().unwrap();
    assert_eq!(assigned(&mut events).await, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_start_where_the_coordinator_says_and_stay_apart() {
    let settings = topics("deferred", 2).await;
    fill(&settings, 0, 300).await;
    fill(&settings, 1, 300).await;
    let (consumer, mut events) = join(&settings, &unique("group"));
    assert_eq!(assigned(&mut events).await, [0, 1]);
    assert_eq!(consumer.partition_count().await.unwrap(), 2);
    assert_eq!(consumer.watermarks(1).await.unwrap().high, 300);

    let mut records = consumer.assign(&[(0, 120), (1, 0)]).unwrap();
    let mut one = records.pop().unwrap();
    let mut zero = records.pop().unwrap();
    // Partition 0 is not read at all, and partition 1 comes nevertheless.
    assert_eq!(offsets(&mut one, 300).await, (0..300).collect::<Vec<i64>>());
    assert_eq!(offsets(&mut zero, 180).await, (120..300).collect::<Vec<i64>>());

    // Nothing more is there; a wait that is given up loses nothing.
    assert!(timeout(Duration::from_millis(50), zero.next_batch(LIMITS)).await.is_err());
    fill(&settings, 0, 1).await;
    assert_eq!(offsets(&mut zero, 1).await, [300]);
    drop((zero, one));
    consumer.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_member_takes_its_share_and_gives_it_back() {
    let settings = topics("share", 2).await;
    let group = unique("group");
    let (first, mut first_events) = join(&settings, &group);
    assert_eq!(assigned(&mut first_events).await, [0, 1]);
    let records = first.assign(&[(0, 0), (1, 0)]).unwrap();

    let (second, mut second_events) = join(&settings, &group);
    assert_eq!(next(&mut first_events).await, GroupEvent::Revoked { partitions: vec![0, 1], lost: false });
    drop(records);
    first.unassign().unwrap();
    let (mine, yours) = (assigned(&mut first_events).await, assigned(&mut second_events).await);
    assert_eq!((mine.len(), yours.len()), (1, 1));
    assert_ne!(mine, yours);
    let first_records = first.assign(&[(mine[0], 0)]).unwrap();
    let second_records = second.assign(&[(yours[0], 0)]).unwrap();

    // The second leaves in order: the first gets everything long before the session time-out would say so.
    drop(second_records);
    second.leave().await;
    assert!(matches!(next(&mut first_events).await, GroupEvent::Revoked { .. }));
    drop(first_records);
    first.unassign().unwrap();
    assert_eq!(assigned(&mut first_events).await, [0, 1]);
    let records = first.assign(&[(0, 0), (1, 0)]).unwrap();
    drop(records);
    first.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_outside_of_the_log_is_an_alarm_and_no_skip() {
    let settings = topics("alarm", 1).await;
    fill(&settings, 0, 5).await;
    let (consumer, mut events) = join(&settings, &unique("group"));
    assigned(&mut events).await;
    let mut records = consumer.assign(&[(0, 500)]).unwrap();
    let error = timeout(SOON, records[0].next_batch(LIMITS)).await.expect("an answer in time").unwrap_err();
    assert!(matches!(error, KafkaIoError::OutOfRange { partition: 0, .. }), "{error:?}");
    assert_eq!(error.kind(), kafka_io::ErrorKind::Fatal);
    drop(records);
    consumer.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_ends_at_its_limits() {
    let settings = topics("limits", 1).await;
    fill(&settings, 0, 200).await;
    let (consumer, mut events) = join(&settings, &unique("group"));
    assigned(&mut events).await;
    let mut records = consumer.assign(&[(0, 0)]).unwrap().pop().unwrap();
    let few = BatchLimits { records_max: 7, wait: Duration::from_secs(5), ..LIMITS };
    assert_eq!(records.next_batch(few).await.unwrap().len(), 7);
    let small = BatchLimits { bytes_max: 1_000, wait: Duration::from_secs(5), ..LIMITS };
    let batch = records.next_batch(small).await.unwrap();
    assert!((1..7).contains(&batch.len()), "{} records, {} bytes", batch.len(), batch.size_bytes());
    drop(records);
    consumer.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_tools_see_how_far_the_group_is() {
    let settings = topics("lag", 1).await;
    fill(&settings, 0, 10).await;
    let group = unique("group");
    let (consumer, mut events) = join(&settings, &group);
    assigned(&mut events).await;
    let records = consumer.assign(&[(0, 0)]).unwrap();
    consumer.commit_for_lag_tools(&[(0, 7)]);
    eventually(SOON, "kafka-consumer-groups shows the offset", || {
        let (brokers, group) = (settings.brokers.clone(), group.clone());
        async move {
            let mut tool = stack::kafka::tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand").unwrap();
            tool.args(["--bootstrap-server", &brokers, "--describe", "--group", &group]);
            let output = tokio::task::spawn_blocking(move || tool.output().unwrap()).await.unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().any(|line| line.split_whitespace().nth(3) == Some("7"))
        }
    })
    .await;
    drop(records);
    consumer.leave().await;
}
