//! Questions about the log, and reading it.

use kafka_io::{KafkaIoError, LogClient, LogReader, topics};
use testkit::{create_topics, eventually, unique};

use crate::support::{SOON, producer, request, topics};

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_again_is_another_log() {
    let settings = topics("again", 1).await;
    let client = LogClient::new(&settings).unwrap();
    let topic = &settings.topics.created;
    let before = client.incarnation(topic).await.unwrap();
    assert!(!before.cluster_id.is_empty() && !before.topic_id.is_empty());
    assert_eq!(client.incarnation(topic).await.unwrap(), before);
    assert_eq!(producer(&settings).incarnation(topic).await.unwrap(), before);

    topics::delete(&client, &[topic]).await.unwrap();
    eventually(SOON, "the topic is gone", || async {
        matches!(client.incarnation(topic).await, Err(KafkaIoError::NoSuchTopic(_)))
    })
    .await;
    create_topics(&settings, 1).await;
    let after = client.incarnation(topic).await.unwrap();
    assert_eq!(after.cluster_id, before.cluster_id);
    assert_ne!(after.topic_id, before.topic_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_once_grow_and_stamp_the_append_time() {
    let settings = topics("plans", 2).await;
    testkit::create_payment_topics(&settings, 2).await;
    let client = LogClient::new(&settings).unwrap();
    let plan = |partitions| topics::plans(&settings.topics, partitions, 1, 90);
    for (_, change) in topics::create(&client, &plan(2)).await.unwrap() {
        assert_eq!(change, topics::TopicChange::Unchanged { partitions: 2 });
    }
    for (_, change) in topics::create(&client, &plan(3)).await.unwrap() {
        assert_eq!(change, topics::TopicChange::Grown { from: 2, to: 3 });
    }
    for name in [&settings.topics.created, &settings.topics.dead_letter, &settings.topics.order_placed] {
        assert!(topics::has_append_time(&client, name).await.unwrap());
        eventually(SOON, "three partitions", || async { client.partition_count(name).await.is_ok_and(|count| count == 3) }).await;
    }
    let nowhere = unique("nowhere");
    assert!(matches!(client.partition_count(&nowhere).await, Err(KafkaIoError::NoSuchTopic(_))));
    assert!(matches!(client.incarnation(&nowhere).await, Err(KafkaIoError::NoSuchTopic(_))));
    assert!(client.watermarks(&nowhere, 0).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_reads_exactly_the_offsets_it_was_asked_for() {
    let settings = topics("reader", 1).await;
    let producer = producer(&settings);
    let topic = &settings.topics.created;
    let mut last = None;
    for number in 0..1_000 {
        last = Some(producer.publish(topic, Some(0), &request("c", number).1).unwrap());
    }
    last.unwrap().await.unwrap();
    for (from, to, expected) in [(0, 1_000, 0..1_000), (10, 17, 10..17), (990, 5_000, 990..1_000), (5, 5, 5..5)] {
        let mut reader = LogReader::open(&settings, topic, 0, from, to).unwrap();
        let mut offsets = Vec::new();
        while let Some(batch) = reader.next_batch(300).await.unwrap() {
            assert!(batch.len() <= 300);
            offsets.extend(batch.iter().map(|raw| raw.offset));
        }
        assert_eq!(offsets, expected.collect::<Vec<i64>>(), "{from}..{to}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_says_when_its_start_is_not_in_the_log() {
    let settings = topics("beyond", 1).await;
    producer(&settings).publish(&settings.topics.created, Some(0), &request("c", 1).1).unwrap().await.unwrap();
    let mut reader = LogReader::open(&settings, &settings.topics.created, 0, 50, 100).unwrap();
    let error = reader.next_batch(10).await.unwrap_err();
    assert!(matches!(error, KafkaIoError::OutOfRange { partition: 0, .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_partition_reads_as_nothing() {
    let settings = topics("empty", 1).await;
    let mut reader = LogReader::open(&settings, &settings.topics.created, 0, 0, 10).unwrap();
    assert!(reader.next_batch(10).await.unwrap().is_none());
}
