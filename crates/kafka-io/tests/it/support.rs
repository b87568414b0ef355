//! What these tests share.

use std::time::Duration;

use contracts::{Encoded, encode_request};
use domain::{
    coupon::{Body, Request},
    ids::{CouponCode, MemberId, RequestId},
};
use kafka_io::{CommandProducer, KafkaSettings, ProducerSettings};
use testkit::{ENVELOPE, FakeClock, create_topics, kafka_brokers, kafka_settings, log_key, show_logs, unique};

pub const SOON: Duration = Duration::from_secs(20);

/// Topics of its own on the shared broker.
pub async fn topics(name: &str, partitions: i32) -> KafkaSettings {
    show_logs();
    let settings = kafka_settings(&kafka_brokers(), &unique(name));
    create_topics(&settings, partitions).await;
    settings
}

pub fn producer(settings: &KafkaSettings) -> CommandProducer {
    CommandProducer::new(settings, &ProducerSettings::default()).unwrap()
}

/// A request of member `m-<number>`, unadmitted.
pub fn request(coupon: &str, number: usize) -> (Request, Encoded) {
    let request = Request {
        id: RequestId::fresh(&FakeClock::default()),
        coupon: CouponCode::new(coupon).unwrap(),
        member: MemberId::new(format!("m-{number}")).unwrap(),
        admitted: false,
    };
    let encoded = encode_request(&request, None, &log_key(), &ENVELOPE);
    (request, encoded)
}

/// The request in a decoded record.
pub fn requested(decoded: contracts::Decoded) -> Request {
    match decoded {
        contracts::Decoded::Usable(record) => match record.body {
            Body::Request(request) => request,
            other => panic!("no request: {other:?}"),
        },
        contracts::Decoded::Unusable(unusable) => panic!("unusable: {unusable:?}"),
    }
}
