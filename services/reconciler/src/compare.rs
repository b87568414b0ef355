//! The full comparison of a gate with the ledger: both sides are streamed once, in bounded memory.
//!
//! The line moves on meanwhile, so neither stream is believed; each only names suspects, and each suspect is judged by himself:
//!
//! - *only in PostgreSQL*: holders are read page by page and asked for in the set. One who is not there is a mismatch if his issue was told
//!   before the cursor that the gate had when the comparison began: the settler has passed him.
//! - *only in Redis*: the set is scanned. Whoever was not in the first stream and has no reservation that waits is looked up in the ledger.
//!   One without an issue is taken out, by a script that does nothing if the settler is past that snapshot, or if he has a reservation by now.
//!
//! Both streams are plain commands, which cost Redis a fraction of a script and do not look at the state of the gate; suspects are judged by
//! scripts, which do.
//!
//! The first stream is remembered as a Bloom filter of fixed size. Its false positives hide a mismatch in this comparison only: the
//! filter is seeded anew each time. It never makes a mismatch of what is none.

use std::collections::HashSet;

use domain::ids::{CouponCode, MemberId};
use fastbloom::BloomFilter;
use redis_io::{Gate, GateState, Removal, Step};
use serde::Serialize;

use crate::{config::CompareSettings, error::TaskError, repairs::Kind, store::Store, walk::Walk};

/// Members that a report names; all are counted, and each repair has its row.
pub const LISTED_MAX: usize = 100;
/// How often suspects are judged by a newer snapshot because the settler was past the one before.
const JUDGEMENTS_MAX: u32 = 8;

/// Mismatches of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mismatches {
    /// How many.
    pub count: i64,
    /// How many of them were repaired. None in a dry run.
    pub repaired: i64,
    /// The first [`LISTED_MAX`] of them.
    pub members: Vec<String>,
}

impl Mismatches {
    fn found(&mut self, members: &[&str]) {
        self.count = self.count.saturating_add(signed(members.len()));
        let room = LISTED_MAX.saturating_sub(self.members.len());
        self.members.extend(members.iter().take(room).map(|member| (*member).to_owned()));
    }
}

/// What a full comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Holders read from the ledger.
    pub db_members: i64,
    /// Members read from the set, those with a waiting reservation among them.
    pub redis_members: i64,
    /// In the set without an issue or a waiting reservation.
    pub only_in_redis: Mismatches,
    /// Holders of an issue who were not in the set.
    pub only_in_postgres: Mismatches,
    /// Suspects who could not be judged, because the settler was always past the snapshot. The next comparison looks at them again.
    pub not_judged: i64,
    /// Repairs that failed, with their error.
    pub errors: Vec<String>,
}

impl Comparison {
    /// Mismatches of both kinds.
    #[must_use]
    pub const fn mismatch_count(&self) -> i64 {
        self.only_in_redis.count.saturating_add(self.only_in_postgres.count)
    }
}

/// One comparison under way.
pub struct Comparing<'a> {
    /// PostgreSQL.
    pub store: &'a Store,
    /// Redis.
    pub gate: &'a Gate,
    /// The coupon.
    pub code: &'a CouponCode,
    /// Sizes.
    pub settings: &'a CompareSettings,
    /// Looks, and repairs nothing.
    pub dry_run: bool,
    /// Signs of life, and the end of the process.
    pub walk: &'a Walk,
}

impl Comparing<'_> {
    /// Compares both sides and repairs what differs. A failed repair is noted, and the others go on.
    ///
    /// # Errors
    /// A side cannot be read, or the gate is cold: then there is nothing to compare, and it is loaded anew.
    pub async fn run(&self) -> Result<Comparison, TaskError> {
        let status = self.gate.status(self.code).await?;
        let (GateState::Open, Some(cursor)) = (status.state, status.cursor) else {
            return Err(redis_io::GateError::Cold.into());
        };
        let mut found = Comparison::default();
        if !self.dry_run {
            self.finish_open_repairs().await?;
        }
        let filter = self.holders(cursor, &mut found).await?;
        self.set(&filter, &mut found).await?;
        // A gate that was lost meanwhile was not compared.
        if self.gate.status(self.code).await?.state.is_cold() {
            return Err(redis_io::GateError::Cold.into());
        }
        Ok(found)
    }

    /// Repairs whose answer was lost: whoever is as he should be was repaired then.
    async fn finish_open_repairs(&self) -> Result<(), TaskError> {
        for (kind, repaired_if) in [(Kind::OnlyInRedis, false), (Kind::OnlyInPostgres, true), (Kind::RefusedByDatabase, false)] {
            let limit = signed(self.settings.page);
            let open = self.store.open_repairs(self.code, kind, limit).await?;
            let ids: Vec<MemberId> = open.iter().filter_map(|member| MemberId::new(member).ok()).collect();
            let held = self.gate.holds(self.code, &ids).await?;
            let done: Vec<&str> =
                ids.iter().zip(held).filter(|(_, held)| *held == repaired_if).map(|(member, _)| member.as_str()).collect();
            self.store.close(self.code, kind, &done, &[]).await?;
        }
        Ok(())
    }

    /// Streams the ledger's holders, and gives them as a filter.
    async fn holders(&self, cursor: i64, found: &mut Comparison) -> Result<BloomFilter, TaskError> {
        let mut filter = BloomFilter::with_num_bits(self.settings.filter_bits).hashes(self.settings.filter_hashes);
        let mut page = self.store.holders_after(self.code, "", self.settings.page).await?;
        while let Some(last) = page.last() {
            self.go_on()?;
            found.db_members = found.db_members.saturating_add(signed(page.len()));
            for member in &page {
                filter.insert(member.as_str());
            }
            // The next page is read while this one is held against the set.
            let (held, next) = tokio::join!(
                self.gate.seems_to_hold(self.code, &page),
                self.store.holders_after(self.code, last.as_str(), self.settings.page)
            );
            let mut missing: Vec<MemberId> = without(page, &held?);
            if !missing.is_empty() {
                let held = self.gate.holds(self.code, &missing).await?;
                missing = without(missing, &held);
                self.add(cursor, missing, found).await?;
            }
            page = next?;
        }
        Ok(filter)
    }

    /// Judges holders who are not in the set, and adds those whom the settler has passed.
    async fn add(&self, cursor: i64, suspects: Vec<MemberId>, found: &mut Comparison) -> Result<(), TaskError> {
        let missing = self.store.told_before(self.code, &suspects, cursor).await?;
        let names: Vec<&str> = missing.iter().map(MemberId::as_str).collect();
        if names.is_empty() {
            return Ok(());
        }
        found.only_in_postgres.found(&names);
        tracing::warn!(couponCode = %self.code, members = ?sample(&names), count = names.len(), dryRun = self.dry_run,
            "[RECONCILIATION] mismatch: only in PostgreSQL");
        if self.dry_run {
            return Ok(());
        }
        let repaired = async {
            self.store.note(self.code, Kind::OnlyInPostgres, &names).await?;
            service_kit::failpoint!("reconciler.compare.noted");
            self.gate.add(self.code, &missing).await?;
            service_kit::failpoint!("reconciler.compare.repaired");
            self.store.close(self.code, Kind::OnlyInPostgres, &names, &[]).await
        };
        match repaired.await {
            Ok(()) => repaired_of(&mut found.only_in_postgres, Kind::OnlyInPostgres, names.len()),
            Err(error) => self.failed(found, &error),
        }
        Ok(())
    }

    /// Streams the set and judges whoever was not among the holders.
    async fn set(&self, filter: &BloomFilter, found: &mut Comparison) -> Result<(), TaskError> {
        let mut suspects: Vec<String> = Vec::new();
        let mut next = Some(self.scan(0).await?);
        while let Some(step) = next {
            self.go_on()?;
            found.redis_members = found.redis_members.saturating_add(signed(step.members.len()));
            // The next step is under way while this one is held against the holders.
            let (following, ()) = tokio::join!(
                async {
                    match step.next {
                        Some(position) => self.scan(position).await.map(Some),
                        None => Ok(None),
                    }
                },
                async {
                    suspects.extend(step.members.into_iter().filter(|member| !filter.contains(member.as_str())));
                }
            );
            next = following?;
            // One step may bring more than a page, as a small set comes whole.
            while suspects.len() >= self.settings.page || (next.is_none() && !suspects.is_empty()) {
                let rest = suspects.split_off(self.settings.page.min(suspects.len()));
                let page = std::mem::replace(&mut suspects, rest);
                self.remove(page, found).await?;
            }
        }
        Ok(())
    }

    async fn scan(&self, from: u64) -> Result<Step, TaskError> {
        Ok(self.gate.scan(self.code, from, self.settings.scan_count).await?)
    }

    /// Judges members of the set by a snapshot that the settler has not passed, and takes out those without an issue.
    async fn remove(&self, mut suspects: Vec<String>, found: &mut Comparison) -> Result<(), TaskError> {
        suspects.sort_unstable();
        suspects.dedup();
        self.without_reservations(&mut suspects).await?;
        for _ in 0..JUDGEMENTS_MAX {
            let holders = self.store.holders_among(self.code, &suspects).await?;
            suspects.retain(|member| !holders.members.contains(member));
            let Some(position) = holders.position.filter(|_| !suspects.is_empty()) else {
                return Ok(());
            };
            service_kit::failpoint!("reconciler.compare.judged");
            if self.dry_run {
                // The same judgement as the script's, without its hand.
                let status = self.gate.status(self.code).await?;
                if status.cursor.is_some_and(|cursor| cursor <= position) {
                    self.found_in_redis(&suspects, found);
                    return Ok(());
                }
                continue;
            }
            match self.take_out(position, &suspects).await {
                Ok(Removal::CursorAt(_)) => {}
                Ok(Removal::Done(taken)) => {
                    let out: Vec<String> =
                        suspects.iter().zip(taken).filter(|(_, taken)| *taken).map(|(member, _)| member.clone()).collect();
                    self.found_in_redis(&out, found);
                    repaired_of(&mut found.only_in_redis, Kind::OnlyInRedis, out.len());
                    return Ok(());
                }
                Err(error) => return self.one_by_one(position, &suspects, error, found).await,
            }
        }
        found.not_judged = found.not_judged.saturating_add(signed(suspects.len()));
        Ok(())
    }

    /// Leaves out whoever has a reservation that waits. What is no member's id has none.
    async fn without_reservations(&self, suspects: &mut Vec<String>) -> Result<(), TaskError> {
        let (names, ids): (Vec<String>, Vec<MemberId>) =
            suspects.iter().filter_map(|suspect| Some((suspect.clone(), MemberId::new(suspect).ok()?))).unzip();
        let reserved = self.gate.pending_of(self.code, &ids).await?;
        let waiting: HashSet<String> =
            names.into_iter().zip(reserved).filter(|(_, reserved)| reserved.is_some()).map(|(name, _)| name).collect();
        suspects.retain(|suspect| !waiting.contains(suspect));
        Ok(())
    }

    /// A page was refused: one who cannot be repaired must not keep the others from it. Servers that are away refuse everybody, so that
    /// only what the database says no to is tried again.
    async fn one_by_one(
        &self,
        position: i64,
        suspects: &[String],
        error: TaskError,
        found: &mut Comparison,
    ) -> Result<(), TaskError> {
        if suspects.len() < 2 || !matches!(error, TaskError::Database(_)) {
            self.failed(found, &error);
            self.found_in_redis(suspects, found);
            return Ok(());
        }
        for suspect in suspects {
            self.go_on()?;
            let one = std::slice::from_ref(suspect);
            match self.take_out(position, one).await {
                Ok(Removal::CursorAt(_)) => found.not_judged = found.not_judged.saturating_add(1),
                Ok(Removal::Done(taken)) => {
                    if taken.contains(&true) {
                        self.found_in_redis(one, found);
                        repaired_of(&mut found.only_in_redis, Kind::OnlyInRedis, 1);
                    }
                }
                Err(error) => {
                    self.failed(found, &error);
                    self.found_in_redis(one, found);
                }
            }
        }
        Ok(())
    }

    async fn take_out(&self, position: i64, members: &[String]) -> Result<Removal, TaskError> {
        let names: Vec<&str> = members.iter().map(String::as_str).collect();
        self.store.note(self.code, Kind::OnlyInRedis, &names).await?;
        service_kit::failpoint!("reconciler.compare.noted");
        let removal = self.gate.remove(self.code, position, members).await?;
        service_kit::failpoint!("reconciler.compare.repaired");
        let (mut out, mut none) = (Vec::new(), Vec::new());
        match &removal {
            Removal::CursorAt(_) => none = names,
            Removal::Done(taken) => {
                for (member, taken) in names.into_iter().zip(taken) {
                    if *taken { out.push(member) } else { none.push(member) }
                }
            }
        }
        self.store.close(self.code, Kind::OnlyInRedis, &out, &none).await?;
        Ok(removal)
    }

    fn found_in_redis(&self, members: &[String], found: &mut Comparison) {
        if members.is_empty() {
            return;
        }
        let names: Vec<&str> = members.iter().map(String::as_str).collect();
        found.only_in_redis.found(&names);
        tracing::warn!(couponCode = %self.code, members = ?sample(&names), count = names.len(), dryRun = self.dry_run,
            "[RECONCILIATION] mismatch: only in Redis");
    }

    fn failed(&self, found: &mut Comparison, error: &TaskError) {
        tracing::error!(couponCode = %self.code, %error, "[RECONCILIATION] repair failed; the next comparison tries again");
        metrics::counter!("trueup_reconciler_repair_failures_total", "cause" => error.code()).increment(1);
        if found.errors.len() < LISTED_MAX {
            found.errors.push(error.to_string());
        }
    }

    fn go_on(&self) -> Result<(), TaskError> {
        (self.walk.beat)();
        if self.walk.stop.is_cancelled() { Err(TaskError::Stopped) } else { Ok(()) }
    }
}

/// Those who are not held, of members and whether each is.
fn without(members: Vec<MemberId>, held: &[bool]) -> Vec<MemberId> {
    members.into_iter().zip(held).filter(|(_, held)| !**held).map(|(member, _)| member).collect()
}

fn repaired_of(mismatches: &mut Mismatches, kind: Kind, count: usize) {
    mismatches.repaired = mismatches.repaired.saturating_add(signed(count));
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    metrics::counter!("trueup_reconciler_repairs_total", "kind" => kind.as_str()).increment(count);
}

/// As many as a line of the log should hold.
fn sample<'a>(names: &'a [&'a str]) -> &'a [&'a str] {
    names.get(..LISTED_MAX).unwrap_or(names)
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
