//! The fold's state in PostgreSQL: one batch is one transaction, and it moves the position first.

mod coupons;
mod load;
mod statements;
mod write;

use std::{collections::BTreeMap, time::Duration};

use contracts::Cause;
use domain::{
    coupon::{Coupon, Decisions, FoldState, Here, LogIncarnation, Place, decide},
    ids::{CouponCode, RequestId},
};
use postgres_io::PostgresSettings;
use tokio_postgres::Client;

pub(crate) use self::coupons::coupon as coupon_of_row;
use self::statements::Statements;
use crate::{
    batch::Slice,
    error::StoreError,
    fingerprints::Fingerprints,
    outgoing::{Delivered, Outgoing, outgoing},
    treatment::Treatment,
};

/// Whose position the store moves.
#[derive(Debug, Clone)]
pub struct Partition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The log that the offsets belong to.
    pub incarnation: LogIncarnation,
}

/// How much is loaded before a batch is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Ids are taken as new; the unique index tells if one is not, and then nothing was written.
    Optimistic,
    /// Everything that the batch names is looked up.
    Full,
}

/// One batch, or a part of one, to be decided in one transaction.
pub struct Job<'a> {
    /// The records.
    pub slice: Slice<'a>,
    /// The decided position that the transaction starts from.
    pub expected: i64,
    /// How the records are taken.
    pub treatment: &'a Treatment,
    /// What was forwarded or sent to the dead letters already, with where it was acknowledged.
    pub delivered: &'a BTreeMap<i64, Delivered>,
    /// The partition that a code hashes to now.
    pub home_of: &'a (dyn Fn(&CouponCode) -> i32 + Sync),
    /// How much to load.
    pub mode: Mode,
}

/// What a transaction came to.
#[derive(Debug)]
pub enum Applied {
    /// It is committed.
    Committed(Box<Committed>),
    /// Nothing is written: these records have to be passed on first.
    Undelivered(Vec<Outgoing>),
}

/// A committed batch.
#[derive(Debug, Default)]
pub struct Committed {
    /// What was decided.
    pub decisions: Decisions,
    /// The coupons of this partition that the batch named, as they are after it.
    pub coupons: Vec<Coupon>,
}

/// Notes a record that went to the dead letter topic.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    pub offset: i64,
    pub coupon: Option<CouponCode>,
    pub request: Option<RequestId>,
    pub cause: Cause,
    pub detail: String,
    pub place: Place,
}

/// A COPY of ours is sent at once, so that one which waits for its client for longer than a statement may take has lost it.
const END_STALLED: &str = "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
     WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid() AND state = 'active' \
     AND wait_event = 'ClientRead' AND query LIKE 'COPY coupon_request (%' \
     AND query_start < clock_timestamp() - $1::bigint * interval '1 millisecond') AS ended";

struct Connection {
    client: Client,
    statements: Statements,
}

/// One partition's way to the ledger, with a connection of its own.
pub struct FoldStore {
    settings: PostgresSettings,
    partition: Partition,
    transaction_timeout: Duration,
    connection: Option<Connection>,
    fingerprints: Fingerprints,
}

impl FoldStore {
    /// A store that connects at first use. A transaction that takes longer than `transaction_timeout` is given up.
    #[must_use]
    pub fn new(
        settings: PostgresSettings,
        partition: Partition,
        transaction_timeout: Duration,
        fingerprints: Fingerprints,
    ) -> Self {
        Self { settings, partition, transaction_timeout, connection: None, fingerprints }
    }

    /// Decides a job and commits it.
    ///
    /// # Errors
    /// [`StoreError`]. Except for `CommitUnknown`, nothing of the job is written then.
    pub async fn apply(&mut self, job: &Job<'_>) -> Result<Applied, StoreError> {
        // The connection is taken out, so that a future that is dropped half-way closes it and PostgreSQL rolls back.
        let connection = self.connected().await?;
        let mut committing = false;
        let transaction = transaction(&connection, &self.partition, &mut self.fingerprints, job, &mut committing);
        let result = match tokio::time::timeout(self.transaction_timeout, transaction).await {
            Ok(result) => result,
            Err(_) => Err(lost(committing, format!("no answer within {} ms", self.transaction_timeout.as_millis()))),
        };
        match &result {
            Ok(Applied::Committed(committed)) => {
                self.remember(committed);
                self.connection = Some(connection);
            }
            Err(StoreError::CommitUnknown(_) | StoreError::Moved { .. }) => self.fingerprints.clear(),
            Ok(Applied::Undelivered(_)) | Err(_) => {
                // Whatever is open is rolled back; a connection that cannot do this in time is closed instead.
                let rollback = connection.client.batch_execute("ROLLBACK");
                if matches!(tokio::time::timeout(self.transaction_timeout, rollback).await, Ok(Ok(()))) {
                    if matches!(result, Err(StoreError::Locked(_))) {
                        self.end_stalled(&connection.client).await;
                    }
                    self.connection = Some(connection);
                }
            }
        }
        result
    }

    /// Ends transactions that stand in a COPY whose client has fallen silent, such as a stopped process. They hold the position, and
    /// PostgreSQL's own time-outs do not reach a COPY that waits for its client.
    async fn end_stalled(&self, client: &Client) {
        let limit_ms = i64::try_from(self.settings.statement_timeout_ms).unwrap_or(i64::MAX);
        let ending = tokio::time::timeout(self.transaction_timeout, client.query_one(END_STALLED, &[&limit_ms])).await;
        match ending.map(|row| row.and_then(|row| row.try_get::<_, i64>(0))) {
            Ok(Ok(0)) => {}
            Ok(Ok(ended)) => tracing::warn!(partition = self.partition.partition, ended, "ended transactions of a silent client"),
            Ok(Err(error)) => tracing::debug!(%error, "looking for silent clients"),
            Err(_) => tracing::debug!("looking for silent clients took too long"),
        }
    }

    /// Where the decided position stands; none if this log has no row.
    ///
    /// # Errors
    /// [`StoreError`], when the database cannot be asked.
    pub async fn position(&mut self) -> Result<Option<i64>, StoreError> {
        let connection = self.connected().await?;
        let Partition { topic, partition, incarnation } = &self.partition;
        let row = connection
            .client
            .query_opt(&connection.statements.position, &[topic, partition, &incarnation.cluster_id, &incarnation.topic_id])
            .await
            .map_err(|error| StoreError::from_postgres(&error))?;
        self.connection = Some(connection);
        row.map(|row| row.try_get(0)).transpose().map_err(|error| StoreError::from_postgres(&error))
    }

    async fn connected(&mut self) -> Result<Connection, StoreError> {
        if let Some(connection) = self.connection.take().filter(|connection| !connection.client.is_closed()) {
            return Ok(connection);
        }
        let connecting = async {
            let client = crate::connect::client(&self.settings).await?;
            let statements = Statements::prepare(&client).await.map_err(|error| StoreError::from_postgres(&error))?;
            Ok(Connection { client, statements })
        };
        tokio::time::timeout(self.transaction_timeout, connecting)
            .await
            .map_err(|_| StoreError::Transient("no connection in time".to_owned()))?
    }

    fn remember(&mut self, committed: &Committed) {
        for new in &committed.decisions.rows {
            if new.row.outcome.sequence().is_some()
                && let Some(member) = &new.row.member
            {
                self.fingerprints.add(&new.row.coupon, member);
            }
        }
        // Whoever holds a coupon that was born in this batch is known from its first issue on.
        for defined in &committed.decisions.defined {
            let issued = committed.decisions.rows.iter().filter(|new| new.row.coupon == defined.code);
            let issued = issued.filter(|new| new.row.outcome.sequence().is_some()).filter_map(|new| new.row.member.as_ref());
            let prints: Vec<u64> = issued.map(|member| self.fingerprints.fingerprint(member.as_str())).collect();
            self.fingerprints.learn(defined.code.clone(), prints);
        }
    }
}

fn lost(committing: bool, reason: String) -> StoreError {
    if committing { StoreError::CommitUnknown(reason) } else { StoreError::Transient(reason) }
}

async fn transaction(
    connection: &Connection,
    partition: &Partition,
    fingerprints: &mut Fingerprints,
    job: &Job<'_>,
    committing: &mut bool,
) -> Result<Applied, StoreError> {
    let records = job.treatment.records(&job.slice);
    let coupons = load::begin(connection, partition, job, &records).await?;
    service_kit::failpoint!("consumer.position.moved", return Err(StoreError::Transient("failpoint".to_owned())));
    let mut state = FoldState::default();
    coupons::put(&mut state, coupons);
    load::state(connection, fingerprints, job.mode, &records, &mut state).await?;

    let here = Here { partition: partition.partition, home_of: job.home_of };
    let decisions = decide(&mut state, &here, &records);
    let outgoing = outgoing(&job.slice, job.treatment, &decisions);
    let (delivered, missing): (Vec<_>, Vec<_>) = outgoing.into_iter().partition(|out| job.delivered.contains_key(&out.offset));
    if !missing.is_empty() {
        return Ok(Applied::Undelivered(missing));
    }
    let notes: Vec<Note> = delivered.into_iter().filter_map(|out| out.note(job.delivered)).collect();
    write::all(connection, partition.partition, &state, &decisions, &job.slice.traces(), &notes, committing).await?;
    let coupons = state.coupons.into_values().filter_map(|fold| fold.coupon).filter(|c| c.partition == partition.partition);
    Ok(Applied::Committed(Box::new(Committed { decisions, coupons: coupons.collect() })))
}
