//! Decides coupons from the log: one fold per partition, its outcomes in PostgreSQL, and two followers that tell Kafka and the gates.

pub mod batch;
pub mod board;
pub mod config;
pub mod connect;
pub mod coordinator;
pub mod copy_rows;
pub mod decider;
pub mod error;
pub mod exits;
#[cfg(feature = "failpoints")]
pub mod failpoints;
pub mod feed;
pub mod fingerprints;
pub mod hopper;
pub mod intake;
pub mod ledger;
pub mod memory;
pub mod metric;
pub mod outgoing;
pub mod positions;
pub mod publisher;
pub mod settler;
pub mod store;
pub mod trace;
pub mod treatment;
pub mod worker;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use domain::clock::SystemClock;
use kafka_io::CommandProducer;
use redis_io::Gate;
use tokio_util::sync::CancellationToken;

use crate::{
    board::Board,
    config::Settings,
    coordinator::{Coordinator, Shared},
    fingerprints::Held,
    memory::Memory,
};

/// A consumer that is set up and has not joined its group yet.
pub struct Service {
    shared: Arc<Shared>,
}

impl Service {
    /// Prepares the clients. Servers that are away are waited for later.
    ///
    /// # Errors
    /// Settings that no client accepts.
    pub async fn new(settings: Settings) -> anyhow::Result<Self> {
        let producer = CommandProducer::new(&settings.kafka, &settings.producer).context("the Kafka producer")?;
        let gate = Gate::connect(&settings.redis).await.context("the Redis gate")?;
        let log_key = settings.keys.log_key().context("keys.log_signing")?;
        let clock = Arc::new(SystemClock);
        let board = Arc::new(Board::new(clock.clone()));
        let memory = Arc::new(Memory::new(settings.memory_bytes_max));
        let fingerprints = Held::at_most(settings.fingerprints_max);
        let (gate, log_key) = (Arc::new(gate), Arc::new(log_key));
        let shared = Shared { settings, producer, gate, log_key, clock, board, memory, fingerprints };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What the partitions are doing.
    #[must_use]
    pub fn board(&self) -> Arc<Board> {
        self.shared.board.clone()
    }

    /// Joins the group and works until `cancel`; then stops its partitions, leaves the group and flushes what waits.
    ///
    /// # Errors
    /// The membership failed for good.
    pub async fn run(self, cancel: CancellationToken) -> anyhow::Result<()> {
        let flush = Duration::from_millis(self.shared.settings.stop_timeout_ms);
        let producer = self.shared.producer.clone();
        let coordinator = Coordinator::join(self.shared).context("joining the group")?;
        metric::ways_from_the_start();
        let result = coordinator.run(cancel).await;
        if let Err(error) = producer.flush(flush).await {
            tracing::warn!(%error, "outcomes that were not acknowledged are announced again by the next owner");
        }
        result.map_err(|reason| anyhow::anyhow!("the consumer group: {reason}"))
    }
}
