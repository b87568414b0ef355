//! What a member of the group does with its partitions when the work on one of them ends by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use domain::coupon::LogIncarnation;
use kafka_io::{
    BatchLimits, ConsumerSettings, GroupConsumer, GroupMember, GroupPartition, MemberSettings, PartitionOwner, Tie, Watermarks,
};
use testkit::{Running, eventually, unique};
use tokio::task::JoinHandle;

use crate::support::{SOON, producer, request, topics};

const LIMITS: BatchLimits = BatchLimits { records_max: 1, bytes_max: 1_000_000, wait: Duration::ZERO };
const PARTITIONS: i32 = 3;

/// What became of the partitions.
#[derive(Default)]
struct Seen {
    /// The next offset of each, as a database would keep it.
    positions: BTreeMap<i32, i64>,
    /// How often each was started.
    starts: BTreeMap<i32, usize>,
    alarms: BTreeSet<i32>,
}

/// Reads records one by one. At its first record, `ill` ends with an alarm, and `moved` without one.
#[derive(Clone)]
struct Reader {
    seen: Arc<Mutex<Seen>>,
    ill: i32,
    moved: i32,
}

impl PartitionOwner for Reader {
    type Positions = ();
    type Status = Arc<AtomicI64>;
    type Alarm = &'static str;
    type Delays = std::iter::Empty<Duration>;

    async fn positions(&self, _consumer: &GroupConsumer) -> Result<(), String> {
        Ok(())
    }

    async fn open(
        &self,
        (): &(),
        partition: i32,
        _log: &LogIncarnation,
        marks: Watermarks,
    ) -> Result<Result<i64, &'static str>, String> {
        Ok(Ok(self.seen.lock().unwrap().positions.get(&partition).copied().unwrap_or(marks.low)))
    }

    fn start(
        &self,
        mut records: GroupPartition,
        _log: &LogIncarnation,
        position: i64,
        tie: Tie<&'static str>,
    ) -> (Arc<AtomicI64>, Vec<JoinHandle<()>>) {
        let partition = records.partition();
        let status = Arc::new(AtomicI64::new(position));
        let again = {
            let mut seen = self.seen.lock().unwrap();
            let starts = seen.starts.entry(partition).or_default();
            *starts += 1;
            *starts > 1
        };
        let (seen, reached, ill, moved) = (Arc::clone(&self.seen), Arc::clone(&status), self.ill, self.moved);
        let reading = async move {
            loop {
                let batch = tokio::select! {
                    () = tie.cancel.cancelled() => return,
                    batch = records.next_batch(LIMITS) => batch.unwrap(),
                };
                if partition == ill {
                    return tie.ended(Some("ill")).await;
                }
                if partition == moved && !again {
                    return tie.ended(None).await;
                }
                let next = batch.iter().last().unwrap().offset + 1;
                reached.store(next, Ordering::Release);
                seen.lock().unwrap().positions.insert(partition, next);
            }
        };
        (status, vec![tokio::spawn(reading)])
    }

    fn position(&self, status: &Arc<AtomicI64>) -> i64 {
        status.load(Ordering::Acquire)
    }

    fn delays(&self) -> Self::Delays {
        std::iter::empty()
    }

    fn waits(&self, _reason: &str) {}

    fn alarm(&self, partition: i32, _alarm: &&'static str) {
        self.seen.lock().unwrap().alarms.insert(partition);
    }

    fn opened(&self) {}

    fn looked(&self, _partition: i32, _status: &Arc<AtomicI64>, _end: i64) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_ends_by_an_alarm_stays_closed_and_other_work_goes_on() {
    let settings = topics("member", PARTITIONS).await;
    let producer = producer(&settings);
    let put = async |partition: i32| {
        let record = request("c", 1).1;
        producer.publish(&settings.topics.created, Some(partition), &record).unwrap().await.unwrap();
    };
    let seen = Arc::new(Mutex::new(Seen::default()));
    let owner = Reader { seen: Arc::clone(&seen), ill: 0, moved: 1 };
    // A member that is only slow keeps its partitions: anew assigned, the closed one would be tried again.
    let consumer = ConsumerSettings { group_id: unique("member"), session_timeout_ms: 60_000, ..ConsumerSettings::default() };
    let pace = MemberSettings { look_every: Duration::from_millis(50), stop_patience: SOON };
    let member = GroupMember::join(owner, pace, &settings, &consumer, &settings.topics.created).unwrap();
    let running = Running::start(|cancel| member.run(cancel));
    let reached = |partition: i32, next: i64| {
        let seen = Arc::clone(&seen);
        async move { seen.lock().unwrap().positions.get(&partition) == Some(&next) }
    };

    put(2).await;
    eventually(SOON, "the third is read", || reached(2, 1)).await;
    put(0).await;
    let barred = || async { seen.lock().unwrap().alarms.contains(&0) };
    eventually(SOON, "the first is told to be closed", barred).await;
    let before = seen.lock().unwrap().starts[&0];
    // Ends without an alarm: all are opened again, the first one excepted.
    put(1).await;
    eventually(SOON, "the second is read after all", || reached(1, 1)).await;
    put(2).await;
    eventually(SOON, "the third is read on from where it was", || reached(2, 2)).await;
    {
        let seen = seen.lock().unwrap();
        assert_eq!(seen.starts[&0], before, "nobody starts what must not go on");
        assert!(seen.starts[&1] >= 2 && !seen.positions.contains_key(&0));
        assert_eq!(seen.alarms, [0].into());
    }
    running.stop().await;
}
