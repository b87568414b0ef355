//! What a publisher is told: acknowledged, refused, or not known.

use std::time::Duration;

use contracts::decode;
use domain::coupon::{LogIncarnation, Place};
use kafka_io::{CommandProducer, LogClient, ProducerSettings, PublishError};
use testkit::{PrivateKafka, create_topics, eventually, eventually_some, kafka_settings, log_key, read_all, unique};

use crate::support::{SOON, producer, request, requested, topics};

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_record_is_where_the_acknowledgement_says() {
    let settings = topics("ack", 3).await;
    let producer = producer(&settings);
    let topic = &settings.topics.created;
    let mut waiting = Vec::new();
    for number in 0..500 {
        let (request, encoded) = request("coupon-1", number);
        waiting.push((request, producer.publish(topic, Some(2), &encoded).unwrap()));
    }
    let log = producer.incarnation(topic).await.unwrap();
    let mut expected = Vec::new();
    for (request, delivery) in waiting {
        expected.push((delivery.await.unwrap(), request));
    }
    let all = read_all(&settings, topic, 2).await;
    assert_eq!(all.len(), 500);
    // One producer's order is kept.
    for (raw, (place, request)) in all.iter().zip(&expected) {
        assert_eq!(raw.place(), *place);
        assert_eq!(requested(decode(&raw, &log_key(), &log)), *request);
        assert!(raw.timestamp_ms > 1_700_000_000_000, "the append time is the broker's");
    }
    assert_eq!(producer.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_a_partition_goes_where_javas_client_sends_its_key() {
    let settings = topics("murmur", 12).await;
    let producer = producer(&settings);
    for number in 0..40 {
        let code = format!("coupon-{number}");
        let place = producer.publish(&settings.topics.created, None, &request(&code, 1).1).unwrap().await.unwrap();
        assert_eq!(place.partition, contracts::partition_of(code.as_bytes(), 12), "{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_arrive_is_refused() {
    let settings = topics("refused", 2).await;
    let producer = producer(&settings);
    let topic = &settings.topics.created;
    producer.publish(topic, Some(0), &request("c", 1).1).unwrap().await.unwrap();
    let unknown_partition = match producer.publish(topic, Some(99), &request("c", 2).1) {
        Ok(delivery) => delivery.await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(unknown_partition, PublishError::Refused(_)), "{unknown_partition:?}");
    let huge = contracts::Encoded::new(Some(b"c"), Some(&vec![b'x'; 3 * 1024 * 1024]), 0);
    assert!(matches!(producer.publish(topic, Some(0), &huge), Err(PublishError::TooLarge(_))));
    assert_eq!(read_all(&settings, topic, 0).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_nothing_is_sent_and_everything_is_refused() {
    // Port 1 on loopback: nobody listens there.
    let settings = kafka_settings("127.0.0.1:1", &unique("nobody"));
    let limits = ProducerSettings { delivery_timeout_ms: 1_000, queue_records_max: 10, ..ProducerSettings::default() };
    let producer = CommandProducer::new(&settings, &limits).unwrap();
    let mut waiting = Vec::new();
    let mut full = 0;
    for number in 0..15 {
        match producer.publish(&settings.topics.created, Some(0), &request("c", number).1) {
            Ok(delivery) => waiting.push(delivery),
            Err(PublishError::Refused(reason)) => {
                assert!(reason.contains("ull"), "{reason}");
                full += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((waiting.len(), full), (10, 5), "the queue is bounded");
    assert!(producer.flush(Duration::from_millis(10)).await.is_err());
    for delivery in waiting {
        assert!(matches!(delivery.await, Err(PublishError::Refused(_))));
    }
    eventually(SOON, "the producer notices that nobody answers", || async { !producer.is_up() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_producer_ends_every_wait() {
    let settings = kafka_settings("127.0.0.1:1", &unique("dropped"));
    let producer = CommandProducer::new(&settings, &ProducerSettings::default()).unwrap();
    let delivery = producer.publish(&settings.topics.created, Some(0), &request("c", 1).1).unwrap();
    tokio::task::spawn_blocking(move || drop(producer)).await.unwrap();
    assert!(matches!(delivery.await, Err(PublishError::Refused(_))));
}

/// The case for which this producer exists: the broker got the request, and its answer never came.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_falls_silent_after_the_send_leaves_the_record_unknown() {
    let mut kafka = PrivateKafka::start();
    let settings = kafka_settings(&kafka.brokers(), &unique("silent"));
    create_topics(&settings, 1).await;
    let limits = ProducerSettings { delivery_timeout_ms: 2_000, linger_ms: 0, ..ProducerSettings::default() };
    let producer = CommandProducer::new(&settings, &limits).unwrap();
    let topic = &settings.topics.created;
    // Connected, with its producer id: from here on a record is sent at once.
    let first = producer.publish(topic, Some(0), &request("c", 0).1).unwrap().await.unwrap();
    assert_eq!(first, Place { partition: 0, offset: 0 });

    kafka.process().pause();
    let mut waiting = Vec::new();
    for number in 1..=10 {
        let (request, encoded) = request("c", number);
        waiting.push((request, producer.publish(topic, Some(0), &encoded).unwrap()));
    }
    let (mut unknown, mut refused) = (Vec::new(), Vec::new());
    for (request, delivery) in waiting {
        match delivery.await.unwrap_err() {
            error @ PublishError::Unknown(_) => {
                assert!(error.may_be_persisted());
                unknown.push(request);
            }
            // At most five produce requests are under way; what still waited behind them was never sent.
            PublishError::Refused(_) => refused.push(request),
            other => panic!("{other:?}"),
        }
    }
    assert!(!unknown.is_empty());
    eventually(SOON, "the producer notices", || async { !producer.is_up() }).await;
    kafka.process().resume();
    eventually(SOON, "the producer notices that it is back", || async { producer.is_up() }).await;

    // Unknown meant just that: the broker finds the requests in its socket and appends them.
    let client = LogClient::new(&settings).unwrap();
    eventually(SOON, "records that were reported as timed out are in the log", || async {
        client.watermarks(topic, 0).await.is_ok_and(|marks| marks.high > 1)
    })
    .await;
    // And the producer goes on, under the same idempotence: it may need a moment to settle what was unknown.
    let place = eventually_some(SOON, "a record is acknowledged again", || async {
        producer.publish(topic, Some(0), &request("c", 11).1)?.await
    })
    .await;
    assert!(place.offset > first.offset);
    let log = LogIncarnation { cluster_id: String::new(), topic_id: String::new() };
    let all = read_all(&settings, topic, 0).await;
    let there: Vec<_> = all.iter().map(|raw| requested(decode(&raw, &log_key(), &log))).collect();
    assert!(unknown.iter().any(|request| there.contains(request)));
    assert!(!refused.iter().any(|request| there.contains(request)), "refused means that it is not in the log");
}
