//! Decides the batches of one partition, one after the other, and never skips a record.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use contracts::partition_of;
use domain::ids::CouponCode;
use service_kit::retry::Retry;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    batch::{Batch, Slice},
    board::{Alarm, Board, PartitionStatus},
    error::StoreError,
    exits::{Exits, Passing},
    feed::{FeedSender, Fresh},
    hopper::Hopper,
    memory::Share,
    metric,
    outgoing::{Delivered, Outgoing},
    store::{Applied, Committed, FoldStore, Job, Mode},
    treatment::Treatment,
};

/// After ids were found decided, so many batches are decided with everything loaded: repeats come in swarms.
const FULL_BATCHES_AFTER_COLLISION: u32 = 16;

/// Why a partition's worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Cancelled,
    /// Somebody else decides the partition, or the group gave it to somebody else.
    Zombie,
    /// The log cannot be read on from where it was; opening the partition again tells why.
    OutOfRange,
    /// A person has to look at it.
    Alarm(Alarm),
}

/// Decides one partition.
pub struct Decider {
    /// The partition's way to the ledger.
    pub store: FoldStore,
    /// Where records go that leave.
    pub exits: Exits,
    /// The followers.
    pub feed: FeedSender,
    /// What it reports.
    pub status: Arc<PartitionStatus>,
    /// The board that the status hangs on.
    pub board: Arc<Board>,
    /// The decided position.
    pub position: i64,
    /// Batches that are still decided with everything loaded.
    pub full_batches: u32,
    /// The memory of the records that it works on.
    pub share: Share,
    /// Ends it between two transactions.
    pub cancel: CancellationToken,
}

type Stack<'a> = Vec<(Slice<'a>, Treatment)>;

impl Decider {
    /// Decides batches until they end, it is cancelled, or it has to stop.
    pub async fn run(mut self, hopper: &Hopper) -> End {
        loop {
            let (batch, share) = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return End::Cancelled,
                batch = hopper.take() => match batch {
                    Some(taken) => taken,
                    None => return End::Cancelled,
                },
            };
            self.share = share;
            let span = crate::trace::batch_span(&batch, self.status.partition);
            if let Err(end) = self.batch(&batch).instrument(span).await {
                return end;
            }
        }
    }

    async fn batch(&mut self, batch: &Batch) -> Result<(), End> {
        // A batch that begins before the position was fetched again after a rebalance; what is decided is left out.
        let whole = batch.whole().starting_at(self.position);
        let mut stack: Stack<'_> = vec![(whole, Treatment::AsRead)];
        while let Some((slice, treatment)) = stack.pop() {
            if !slice.is_empty() {
                self.slice(slice, treatment, &mut stack).await?;
            }
        }
        self.full_batches = self.full_batches.saturating_sub(1);
        Ok(())
    }

    /// Decides a slice in one transaction; or puts its halves on the stack, if PostgreSQL refuses its data.
    async fn slice<'a>(&mut self, slice: Slice<'a>, mut treatment: Treatment, stack: &mut Stack<'a>) -> Result<(), End> {
        let started = Instant::now();
        let mut delivered: BTreeMap<i64, Delivered> = BTreeMap::new();
        let mut mode = if self.full_batches > 0 { Mode::Full } else { Mode::Optimistic };
        let mut perhaps_committed = false;
        let mut retry = Retry::new();
        loop {
            let partitions = self.exits.partitions.load(Ordering::Acquire);
            let home_of = move |code: &CouponCode| partition_of(code.as_str().as_bytes(), partitions);
            let expected = self.position;
            let job = Job { slice, expected, treatment: &treatment, delivered: &delivered, home_of: &home_of, mode };
            service_kit::failpoint!("consumer.transaction.before");
            match self.store.apply(&job).await {
                Ok(Applied::Committed(committed)) => {
                    metric::committed(&committed.decisions, slice.len(), started.elapsed());
                    self.commit(&slice, *committed).await;
                    return Ok(());
                }
                Ok(Applied::Undelivered(missing)) => self.deliver(&slice, missing, &mut delivered).await?,
                Err(StoreError::Moved { found: Some(found), .. }) if perhaps_committed && found == slice.to => {
                    tracing::info!(partition = self.status.partition, found, "the commit whose answer was lost had been done");
                    self.position = slice.to;
                    self.status.set_decided(slice.to, self.board.now());
                    self.feed.moved(slice.to);
                    return Ok(());
                }
                Err(error @ StoreError::Moved { .. }) => {
                    metric::zombie();
                    tracing::warn!(partition = self.status.partition, %error, "stopping");
                    return Err(End::Zombie);
                }
                Err(StoreError::Collision(reason)) if mode == Mode::Optimistic => {
                    tracing::debug!(partition = self.status.partition, reason, "deciding again with everything loaded");
                    metric::decided_again("collision");
                    self.full_batches = FULL_BATCHES_AFTER_COLLISION;
                    mode = Mode::Full;
                }
                Err(StoreError::Data(reason) | StoreError::Collision(reason)) => {
                    metric::decided_again("refused");
                    tracing::warn!(partition = self.status.partition, from = slice.from, to = slice.to, reason, "refused data");
                    if let Some((first, second)) = slice.halves() {
                        stack.push((second, Treatment::AsRead));
                        stack.push((first, Treatment::AsRead));
                        return Ok(());
                    }
                    // One record is left. It is given up; what the database says even then is no fault of the record.
                    if treatment == Treatment::AsRead {
                        delivered.clear();
                    }
                    treatment = treatment.harsher(reason.clone()).ok_or(End::Alarm(Alarm::Fatal(reason)))?;
                }
                Err(StoreError::Fatal(reason)) => return Err(End::Alarm(Alarm::Fatal(reason))),
                Err(error @ (StoreError::CommitUnknown(_) | StoreError::Transient(_) | StoreError::Locked(_))) => {
                    perhaps_committed |= matches!(error, StoreError::CommitUnknown(_));
                    self.wait(&mut retry, "deciding", &error).await?;
                }
            }
        }
    }

    async fn commit(&mut self, slice: &Slice<'_>, committed: Committed) {
        let to = slice.to;
        let from = std::mem::replace(&mut self.position, to);
        self.status.set_waits(false, self.board.now());
        self.status.set_decided(to, self.board.now());
        let Committed { decisions, coupons } = committed;
        let complete = decisions.told.is_empty();
        let share = self.share.for_rows(decisions.rows.len());
        self.feed.push(Fresh { from, to, rows: decisions.rows, traces: slice.traces(), coupons, complete, share }).await;
    }

    /// Passes records on until all are acknowledged.
    async fn deliver(&self, slice: &Slice<'_>, missing: Vec<Outgoing>, done: &mut BTreeMap<i64, Delivered>) -> Result<(), End> {
        let mut retry = Retry::new();
        let mut passing = Passing::new(missing);
        while let Err(reason) = self.exits.pass_on(slice, &mut passing, done).await {
            self.wait(&mut retry, "passing_on", &reason).await?;
        }
        Ok(())
    }

    async fn wait(&self, retry: &mut Retry, stage: &'static str, error: &(dyn std::fmt::Display + Sync)) -> Result<(), End> {
        metric::retried(stage);
        tracing::warn!(partition = self.status.partition, stage, %error, "waiting; nothing is skipped");
        self.status.set_waits(true, self.board.now());
        if retry.wait(&self.cancel).await { Ok(()) } else { Err(End::Cancelled) }
    }
}
