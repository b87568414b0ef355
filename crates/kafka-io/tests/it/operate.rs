//! What drills do to a log and to a group.

use contracts::Encoded;
use kafka_io::{ConsumerSettings, GroupConsumer, GroupEvent, LogClient, delete_group, repeat_log, topics};
use testkit::{eventually, read_all, unique};

use crate::support::{SOON, producer, request, topics as made};

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_repeated_byte_for_byte_headers_included() {
    let settings = made("repeat", 2).await;
    let (producer, topic) = (producer(&settings), &settings.topics.created);
    let mut odd = Encoded::new(None, None, 2);
    odd.push_header(b"\xff\xfe", Some(b"\x00"));
    odd.push_header(b"empty", None);
    producer.publish(topic, Some(1), &odd).unwrap().await.unwrap();
    let mut last = None;
    for number in 0..2_500 {
        last = Some(producer.publish(topic, Some(1), &request("c", number).1).unwrap());
    }
    last.unwrap().await.unwrap();
    producer.publish(topic, Some(0), &request("other", 1).1).unwrap().await.unwrap();

    assert_eq!(repeat_log(&settings, &producer, topic, 1, 0).await.unwrap(), 2_501);
    let all = read_all(&settings, topic, 1).await;
    assert_eq!(all.len(), 5_002);
    for index in 0..2_501 {
        let (first, again) = (all.get(index).unwrap(), all.get(index + 2_501).unwrap());
        assert_eq!((first.key, first.value), (again.key, again.value), "record {index}");
        assert!(first.headers.iter().eq(again.headers.iter()), "headers of record {index}");
    }
    assert_eq!(repeat_log(&settings, &producer, topic, 1, 5_000).await.unwrap(), 2, "only what begins at an offset");
    assert_eq!(read_all(&settings, topic, 0).await.len(), 1, "other partitions are left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_forgotten_once_it_has_no_members() {
    let settings = made("group", 1).await;
    let (client, topic) = (LogClient::new(&settings).unwrap(), &settings.topics.created);
    let consuming = ConsumerSettings { group_id: unique("group"), ..ConsumerSettings::default() };
    assert!(!delete_group(&client, &consuming.group_id).await.unwrap(), "there is none yet");
    let (consumer, mut events) = GroupConsumer::join(&settings, &consuming, topic).unwrap();
    let assigned = tokio::time::timeout(SOON, events.recv()).await.unwrap();
    assert!(matches!(assigned, Some(GroupEvent::Assigned(partitions)) if partitions == [0]));
    consumer.assign(&[(0, 0)]).unwrap();
    consumer.commit_for_lag_tools(&[(0, 0)]);
    assert!(delete_group(&client, &consuming.group_id).await.is_err(), "it has a member");
    consumer.leave().await;
    eventually(SOON, "the group is deleted", || async { matches!(delete_group(&client, &consuming.group_id).await, Ok(true)) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_grows_and_never_shrinks() {
    let settings = made("grow", 2).await;
    let (client, topic) = (LogClient::new(&settings).unwrap(), &settings.topics.created);
    assert_eq!(topics::grow(&client, topic, 5).await.unwrap(), topics::TopicChange::Grown { from: 2, to: 5 });
    eventually(SOON, "five partitions", || async { client.partition_count(topic).await.is_ok_and(|count| count == 5) }).await;
    assert_eq!(topics::grow(&client, topic, 3).await.unwrap(), topics::TopicChange::Unchanged { partitions: 5 });
}
