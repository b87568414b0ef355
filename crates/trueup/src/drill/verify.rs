//! Holds every 202 of a drill against log and ledger.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use anyhow::Context;
use contracts::{Decoded, LogKey, decode};
use domain::{
    coupon::{Body, LogIncarnation},
    ids::{CouponCode, RequestId},
};
use kafka_io::{LogClient, LogReader};
use serde::Serialize;
use tokio::time::Instant;

use super::ledger::Turned;
use crate::{pg, settings::Settings};

/// Ids in one look-up.
const PAGE: usize = 5_000;
/// Records in one read.
const READ_RECORDS_MAX: usize = 5_000;
/// How often positions are looked at while outcomes are awaited.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Examples that are told of each kind.
const EXAMPLES_MAX: usize = 10;

/// What was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verification {
    /// Distinct requests that were answered 202.
    pub promised: u64,
    /// Of these, in the log at or after the place where the drill began.
    pub in_log: u64,
    /// Decided before this drill began: a member of an earlier drill.
    pub decided_before: u64,
    /// In the ledger.
    pub in_ledger: u64,
    /// Answered 202 and not in the log.
    pub lost_in_log: u64,
    /// Answered 202 and without an outcome.
    pub lost_in_ledger: u64,
    /// A ticket told another outcome than the ledger holds.
    pub changed: u64,
    /// Accepted, then refused under the same key, and decided otherwise than that refusal said.
    pub contradicted: u64,
    /// Accepted, then refused under the same key, as the ledger has it in the end. Never `sold_out`: that is a violation.
    pub refused_alike: u64,
    /// A few of what was lost or changed.
    pub examples: Vec<String>,
    /// Outcomes in the ledger, per coupon.
    pub outcomes: BTreeMap<String, BTreeMap<String, u64>>,
    /// Issued and total, per coupon.
    pub seats: BTreeMap<String, (i64, i64)>,
    /// The deciders reached the log's end in time.
    pub settled: bool,
}

impl Verification {
    /// Nothing is lost and nothing has changed.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.lost_in_log == 0 && self.lost_in_ledger == 0 && self.changed == 0 && self.contradicted == 0
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text());
        }
    }
}

/// Log and database, and where the coupons' partitions ended when the drill began.
pub struct Witness {
    kafka: LogClient,
    db: postgres_io::Db,
    log: LogIncarnation,
    starts: BTreeMap<i32, i64>,
}

impl Witness {
    /// Notes where the log stands, before anything is sent.
    ///
    /// # Errors
    /// A coupon is not known, or log or database cannot be reached.
    pub async fn begin(settings: &Settings, codes: &[CouponCode]) -> anyhow::Result<Self> {
        let (kafka, db) = (settings.log_client()?, settings.database().await?);
        let topic = &settings.kafka.topics.created;
        let log = kafka.incarnation(topic).await.with_context(|| settings.kafka_hint())?;
        let mut starts = BTreeMap::new();
        let mut connection = pg::connection(&db, settings).await?;
        for code in codes {
            let coupon = pg::coupon(&mut connection, code.as_str()).await?.with_context(|| {
                format!("no coupon `{code}` is defined; define it: trueup coupon define {code} --admission queued --total 1000")
            })?;
            if let std::collections::btree_map::Entry::Vacant(entry) = starts.entry(coupon.partition) {
                entry.insert(kafka.watermarks(topic, coupon.partition).await.with_context(|| settings.kafka_hint())?.high);
            }
        }
        drop(connection);
        Ok(Self { kafka, db, log, starts })
    }

    /// Waits until everything that is in the coupons' partitions now is decided; false when that takes longer than `limit`.
    ///
    /// # Errors
    /// Log or database cannot be reached.
    pub async fn settled(&self, settings: &Settings, limit: Duration) -> anyhow::Result<bool> {
        let deadline = Instant::now() + limit;
        let topic = &settings.kafka.topics.created;
        let mut ends = BTreeMap::new();
        for partition in self.starts.keys() {
            ends.insert(*partition, self.kafka.watermarks(topic, *partition).await.with_context(|| settings.kafka_hint())?.high);
        }
        let mut connection = pg::connection(&self.db, settings).await?;
        loop {
            let positions = pg::positions(&mut connection, topic).await?;
            let decided =
                |partition: i32| positions.iter().find(|row| row.partition == partition).map_or(0, |row| row.next_offset);
            if ends.iter().all(|(partition, end)| decided(*partition) >= *end) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Holds `promises` (distinct, with the outcome that tickets told) against log and ledger.
    ///
    /// # Errors
    /// Log or database cannot be read.
    pub async fn verify(
        &self,
        settings: &Settings,
        codes: &[CouponCode],
        promises: &[(RequestId, usize, Option<String>)],
        turned: &[Turned],
    ) -> anyhow::Result<Verification> {
        let mut found = Verification { promised: u64::try_from(promises.len())?, ..Verification::default() };
        let log_key = settings.log_key()?;
        let in_log = self.read_log(settings, &log_key, promises).await?;
        let mut connection = pg::connection(&self.db, settings).await?;
        for page in promises.chunks(PAGE) {
            let code_of = |coupon: usize| codes.get(coupon).map_or_else(String::new, |code| code.as_str().to_owned());
            let (page_codes, ids): (Vec<_>, Vec<_>) = page.iter().map(|(id, coupon, _)| (code_of(*coupon), id.uuid())).unzip();
            let rows = pg::ledger_by_ids(&mut connection, &page_codes, &ids).await?;
            let rows: HashMap<_, _> = rows.iter().map(|row| ((row.coupon_code.as_str(), row.request_id), row)).collect();
            for ((id, _, told), code) in page.iter().zip(&page_codes) {
                let row = rows.get(&(code.as_str(), id.uuid()));
                let before = row.is_some_and(|row| self.starts.get(&row.partition).is_some_and(|start| row.log_offset < *start));
                if in_log.contains(id) {
                    found.in_log += 1;
                } else if before {
                    found.decided_before += 1;
                } else {
                    found.lost_in_log += 1;
                    found.example(|| format!("{code} {id}: answered 202, not in the log"));
                }
                let Some(row) = row else {
                    found.lost_in_ledger += 1;
                    found.example(|| format!("{code} {id}: answered 202, has no outcome"));
                    continue;
                };
                found.in_ledger += 1;
                if let Some(told) = told
                    && *told != row.outcome
                {
                    found.changed += 1;
                    found.example(|| format!("{code} {id}: its ticket told {told}, the ledger holds {}", row.outcome));
                }
                let outcomes = found.outcomes.entry(code.clone()).or_default();
                super::stats::count(outcomes, &row.outcome);
            }
        }
        for page in turned.chunks(PAGE) {
            let code_of = |turned: &Turned| codes.get(turned.coupon).map_or_else(String::new, |code| code.as_str().to_owned());
            let (page_codes, ids): (Vec<_>, Vec<_>) = page.iter().map(|turned| (code_of(turned), turned.request.uuid())).unzip();
            let rows = pg::ledger_by_ids(&mut connection, &page_codes, &ids).await?;
            let outcomes: HashMap<_, _> = rows.iter().map(|row| (row.request_id, row.outcome.as_str())).collect();
            for turned in page {
                // One that has no row is lost, and counted as such above.
                match outcomes.get(&turned.request.uuid()) {
                    Some(outcome) if *outcome != turned.code => {
                        found.contradicted += 1;
                        let (id, code) = (turned.request, &turned.code);
                        found.example(|| {
                            format!("{id}: answered 202, then {code} under the same key; the ledger holds {outcome}")
                        });
                    }
                    _ => found.refused_alike += 1,
                }
            }
        }
        for code in codes {
            if let Some(coupon) = pg::coupon(&mut connection, code.as_str()).await? {
                found.seats.insert(code.to_string(), (coupon.issued_quantity, coupon.total_quantity));
            }
        }
        Ok(found)
    }

    /// Which of the promised ids the log holds since the drill began.
    async fn read_log(
        &self,
        settings: &Settings,
        log_key: &LogKey,
        promises: &[(RequestId, usize, Option<String>)],
    ) -> anyhow::Result<HashSet<RequestId>> {
        let promised: HashSet<RequestId> = promises.iter().map(|(id, ..)| *id).collect();
        let topic = &settings.kafka.topics.created;
        let mut seen = HashSet::with_capacity(promised.len());
        for (partition, start) in &self.starts {
            let end = self.kafka.watermarks(topic, *partition).await?.high;
            let mut reader = LogReader::open(&settings.kafka, topic, *partition, *start, end)?;
            while let Some(batch) = reader.next_batch(READ_RECORDS_MAX).await.with_context(|| settings.kafka_hint())? {
                for raw in batch.iter() {
                    if let Decoded::Usable(record) = decode(&raw, log_key, &self.log)
                        && let Body::Request(request) = record.body
                        && promised.contains(&request.id)
                    {
                        seen.insert(request.id);
                    }
                }
            }
        }
        Ok(seen)
    }
}
