//! What a service does with the partitions that a [`GroupMember`](crate::GroupMember) opens and closes for it.

use std::{future::Future, time::Duration};

use domain::coupon::LogIncarnation;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    client::Watermarks,
    consumer::{GroupConsumer, GroupPartition},
};

/// What a service does with its partitions.
pub trait PartitionOwner: Send + Sync {
    /// The way to the positions, held while partitions are opened.
    type Positions: Send + Sync;
    /// What the work on a partition shows of itself.
    type Status: Send + Sync;
    /// Why a partition must not go on before a person has looked at it.
    type Alarm: Send + Sync + 'static;
    /// Waits between attempts.
    type Delays: Iterator<Item = Duration> + Send;

    /// Reaches the positions; an error is waited out and tried again.
    fn positions(&self, consumer: &GroupConsumer) -> impl Future<Output = Result<Self::Positions, String>> + Send;

    /// The offset that a partition starts from, or why it must not start; an error is waited out and tried again.
    fn open(
        &self,
        positions: &Self::Positions,
        partition: i32,
        log: &LogIncarnation,
        marks: Watermarks,
    ) -> impl Future<Output = Result<Result<i64, Self::Alarm>, String>> + Send;

    /// Starts the work on a partition: what it shows, and its tasks, which end soon after they are cancelled.
    fn start(
        &self,
        records: GroupPartition,
        log: &LogIncarnation,
        position: i64,
        tie: Tie<Self::Alarm>,
    ) -> (Self::Status, Vec<JoinHandle<()>>);

    /// The next offset that is not dealt with: what is committed in the database, never more.
    fn position(&self, status: &Self::Status) -> i64;

    /// Waits between attempts to open partitions, from the first failure on.
    fn delays(&self) -> Self::Delays;

    /// Partitions cannot be opened for now.
    fn waits(&self, reason: &str);

    /// This partition does not start.
    fn alarm(&self, partition: i32, alarm: &Self::Alarm);

    /// All partitions that may start have started.
    fn opened(&self);

    /// All work is about to be stopped.
    fn closing(&self) {}

    /// The work on these partitions has stopped.
    fn closed(&self, _partitions: &[i32]) {}

    /// The group has taken these partitions away.
    fn gave_back(&self, _partitions: &[i32]) {}

    /// A turn was taken, or there was nothing to do: called at least once an interval.
    fn beat(&self) {}

    /// Before Kafka is told how far the work is.
    fn before_telling(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The log's end was looked up.
    fn looked(&self, partition: i32, status: &Self::Status, end: i64);
}

/// What ties the work on a partition to the member that started it.
pub struct Tie<A> {
    /// Ends the work.
    pub cancel: CancellationToken,
    pub(crate) partition: i32,
    pub(crate) ends: mpsc::Sender<(i32, Option<A>)>,
}

impl<A> Tie<A> {
    /// Says that the work ended by itself. With an alarm the partition stays closed until the group assigns it anew; without one it is
    /// opened again in a moment.
    pub async fn ended(&self, alarm: Option<A>) {
        if !self.cancel.is_cancelled() {
            // It fails only when the member is gone, and then nobody has to know.
            let _ = self.ends.send((self.partition, alarm)).await;
        }
    }
}
