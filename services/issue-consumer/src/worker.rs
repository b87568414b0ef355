//! One partition's tasks: intake, decider, publisher and settler, started and stopped together.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    board::PartitionStatus,
    decider::{Decider, End},
    feed::Feed,
    intake::Intake,
    publisher::Publisher,
    settler::Settler,
};

/// The running tasks of one partition.
pub struct Worker {
    /// What it reports.
    pub status: Arc<PartitionStatus>,
    cancel: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// What a partition's tasks are made of.
pub struct Parts {
    /// Reads.
    pub intake: Intake,
    /// Decides.
    pub decider: Decider,
    /// Announces.
    pub publisher: (Publisher, Feed),
    /// Tells the gates.
    pub settler: (Settler, Feed),
}

impl Worker {
    /// Starts the tasks; `ends` hears why deciding ended, unless it was stopped.
    #[must_use]
    pub fn start(parts: Parts, cancel: CancellationToken, ends: mpsc::Sender<(i32, End)>) -> Self {
        let Parts { intake, decider, publisher: (publisher, publisher_feed), settler: (settler, settler_feed) } = parts;
        let status = decider.status.clone();
        let hopper = intake.hopper.clone();
        let partition = status.partition;
        let deciding_cancel = cancel.clone();
        let deciding = async move {
            let filling = hopper.clone();
            let reading = tokio::spawn(async move {
                let end = intake.run().await;
                filling.close();
                end
            });
            let decided = Box::pin(decider.run(&hopper)).await;
            // The intake sees its hopper closed, or has ended itself and says why.
            hopper.close();
            let read = reading.await.unwrap_or(End::Cancelled);
            let end = if decided == End::Cancelled { read } else { decided };
            if !deciding_cancel.is_cancelled() {
                // A full channel means that the coordinator is going through ends already; it looks at all workers then.
                let _ = ends.send((partition, end)).await;
            }
        };
        let tasks =
            vec![tokio::spawn(deciding), tokio::spawn(publisher.run(publisher_feed)), tokio::spawn(settler.run(settler_feed))];
        Self { status, cancel, tasks }
    }

    /// Asks the tasks to stop between two steps.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Waits until the tasks have stopped; after `patience` they are dropped where they stand, which rolls open transactions back.
    pub async fn stopped(self, patience: Duration) {
        self.cancel.cancel();
        let deadline = tokio::time::Instant::now() + patience;
        for mut task in self.tasks {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                tracing::warn!(partition = self.status.partition, "a task did not stop in time and is dropped");
                task.abort();
                let _ = task.await;
            }
        }
    }
}
