//! Writes what gateways, operators and reconcilers would write to the log of coupons.

use contracts::{Encoded, encode_cancel, encode_change, encode_define, encode_request, partition_of};
use domain::{
    clock::SystemClock,
    coupon::{Admission, Cancel, Change, Define, Place, Request},
    ids::{CommandId, CouponCode, MemberId, RequestId},
};
use kafka_io::{CommandProducer, KafkaSettings, ProducerSettings};

use crate::log::{ENVELOPE, log_key};

/// Records that may wait to be sent: a whole test's at once.
const QUEUE_RECORDS_MAX: u32 = 200_000;
/// How long a record may take to be acknowledged, in milliseconds: a broker may be stopped meanwhile.
const DELIVERY_TIMEOUT_MS: u32 = 60_000;

/// A producer of records to the log of coupons.
pub struct Writer {
    producer: CommandProducer,
    topic: String,
    /// How many partitions the log has.
    pub partitions: i32,
}

impl Writer {
    /// Writes to the log of these settings.
    ///
    /// # Panics
    /// The log cannot be reached.
    pub async fn new(kafka: &KafkaSettings) -> Self {
        let settings = ProducerSettings {
            queue_records_max: QUEUE_RECORDS_MAX,
            delivery_timeout_ms: DELIVERY_TIMEOUT_MS,
            ..ProducerSettings::default()
        };
        let producer = CommandProducer::new(kafka, &settings).expect("a producer");
        let topic = kafka.topics.created.clone();
        let partitions = producer.partition_count(&topic).await.expect("partitions");
        Self { producer, topic, partitions }
    }

    /// The partition that a coupon's records belong to.
    #[must_use]
    pub fn home(&self, coupon: &CouponCode) -> i32 {
        partition_of(coupon.as_str().as_bytes(), self.partitions)
    }

    /// Puts a record there and waits until it is acknowledged.
    ///
    /// # Panics
    /// It is not.
    pub async fn put(&self, partition: i32, record: &Encoded) -> Place {
        self.producer.publish(&self.topic, Some(partition), record).expect("queued").await.expect("acknowledged")
    }

    /// Puts many records in order and waits for all.
    ///
    /// # Panics
    /// One is not acknowledged.
    pub async fn put_all(&self, partition: i32, records: impl IntoIterator<Item = Encoded>) -> Vec<Place> {
        let publish = |record: Encoded| self.producer.publish(&self.topic, Some(partition), &record).expect("queued");
        let waiting: Vec<_> = records.into_iter().map(publish).collect();
        let mut places = Vec::with_capacity(waiting.len());
        for delivery in waiting {
            places.push(delivery.await.expect("acknowledged"));
        }
        places
    }

    /// Defines an always open coupon on its home partition and gives that.
    ///
    /// # Panics
    /// The definition is not acknowledged.
    pub async fn define(&self, coupon: &CouponCode, admission: Admission, total: i64) -> i32 {
        let define = Define {
            id: CommandId::fresh(&SystemClock),
            coupon: coupon.clone(),
            actor: "ann".to_owned(),
            name: "Spring sale".to_owned(),
            admission,
            total,
            opens_at: None,
            closes_at: None,
        };
        let home = self.home(coupon);
        self.put(home, &encode_define(&define, &log_key(), &ENVELOPE)).await;
        home
    }
}

/// The n-th member.
///
/// # Panics
/// Never: it is a name that members may have.
#[must_use]
pub fn member(n: usize) -> MemberId {
    MemberId::new(format!("member-{n}")).expect("a member")
}

/// The n-th member's request for a coupon: the same id each time it is made.
#[must_use]
pub fn request(coupon: &CouponCode, n: usize) -> Request {
    let id = RequestId::from_idempotency_key(coupon, &member(n), "test");
    Request { id, coupon: coupon.clone(), member: member(n), admitted: false }
}

/// A request's record.
#[must_use]
pub fn encoded(request: &Request) -> Encoded {
    encode_request(request, None, &log_key(), &ENVELOPE)
}

/// The records of many members' requests.
#[must_use]
pub fn asks(coupon: &CouponCode, members: std::ops::Range<usize>) -> Vec<Encoded> {
    members.map(|n| encoded(&request(coupon, n))).collect()
}

/// A new change of a coupon that changes nothing yet.
#[must_use]
pub fn change(coupon: &CouponCode) -> Change {
    Change::new(CommandId::fresh(&SystemClock), coupon.clone(), "bob")
}

/// A change's record.
#[must_use]
pub fn encoded_change(change: &Change) -> Encoded {
    encode_change(change, &log_key(), &ENVELOPE)
}

/// The record of a new cancel of a request.
#[must_use]
pub fn encoded_cancel(request: &Request) -> Encoded {
    let cancel = Cancel {
        id: CommandId::fresh(&SystemClock),
        coupon: request.coupon.clone(),
        actor: "bob".to_owned(),
        member: request.member.clone(),
        request: request.id,
    };
    encode_cancel(&cancel, &log_key(), &ENVELOPE)
}
