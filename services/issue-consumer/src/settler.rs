//! Tells the gates what the log decided: follows the ledger with a cursor for each reserved coupon, which the gate itself keeps.
//!
//! Redis may be down, a gate may be cold, somebody else may have moved a cursor: the settler then lags, asks the gate where it stands, and
//! reads the ledger from there. Deciding never waits for it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use domain::{
    coupon::{Admission, Coupon, NewRow, Outcome, Refusal},
    ids::{CouponCode, MemberId, RequestId},
};
use redis_io::{Gate, GateRules, Settle, SettleItem, SettleKind};
use service_kit::retry::Retry;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    board::PartitionStatus,
    feed::{Feed, Step},
    ledger::Ledger,
    metric,
};

/// Rows that one settle call carries: a script holds everybody else up while it runs.
const ITEMS_MAX: usize = 1_000;
/// Rows that are read from the ledger at once.
const PAGE_ROWS: i64 = 2_000;
/// How often idle gates are brought up to date and cold ones are asked again.
const TICK: Duration = Duration::from_millis(500);
/// A cursor that no gate has: asking with it makes the gate name its own.
const NO_CURSOR: i64 = -1;

/// The settler of one partition.
pub struct Settler {
    /// The ledger.
    pub ledger: Arc<Ledger>,
    /// The gates; none if this deployment has no Redis.
    pub gate: Arc<Gate>,
    /// What it reports.
    pub status: Arc<PartitionStatus>,
    /// Ends it.
    pub cancel: CancellationToken,
}

/// Where a gate's cursor is known to stand; absent from the map: not known, or cold.
type Cursors = HashMap<CouponCode, i64>;

enum Failure {
    /// Redis or the database is away.
    Away(String),
}

impl Settler {
    /// Follows the ledger until it is cancelled or the decider has ended.
    pub async fn run(self, mut feed: Feed) {
        let mut seen = feed.position();
        let mut cursors = Cursors::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = Retry::new();
        loop {
            let result = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                step = feed.next(seen) => match step {
                    None => return,
                    Some(Step::Fresh(fresh)) => {
                        let rows = fresh.rows.iter().filter(|new| new.told_offset >= seen);
                        self.settle_range(&mut cursors, rows, &fresh.coupons, fresh.to).await.map(|()| fresh.to)
                    }
                    Some(Step::ReadTo(to)) => self.bring_up(&mut cursors, to).await.map(|()| to),
                },
                _ = tick.tick() => self.bring_up(&mut cursors, seen).await.map(|()| seen),
            };
            match result {
                Ok(to) => {
                    seen = to;
                    self.status.set_settled(seen);
                    retry = Retry::new();
                }
                Err(Failure::Away(reason)) => {
                    feed.fall_behind();
                    // What the gates hold is asked again once they answer.
                    cursors.clear();
                    metric::retried("settling");
                    tracing::warn!(partition = self.status.partition, seen, reason, "settling waits");
                    if !retry.wait(&self.cancel).await {
                        return;
                    }
                    tick.reset_at(Instant::now() + TICK);
                }
            }
        }
    }

    /// Settles the rows of one range, coupon by coupon. Everything before the range is settled, or its coupon is not in `cursors`.
    async fn settle_range<'a>(
        &self,
        cursors: &mut Cursors,
        rows: impl Iterator<Item = &'a NewRow>,
        coupons: &[Coupon],
        to: i64,
    ) -> Result<(), Failure> {
        let mut by_coupon: BTreeMap<&CouponCode, Vec<&NewRow>> = BTreeMap::new();
        for new in rows {
            by_coupon.entry(&new.row.coupon).or_default().push(new);
        }
        for coupon in coupons.iter().filter(|coupon| coupon.admission == Admission::Reserved) {
            let rows = by_coupon.remove(&coupon.code).unwrap_or_default();
            match cursors.get(&coupon.code).copied() {
                Some(cursor) => {
                    let moved = self.settle(coupon, cursor, &rows, to).await?;
                    self.note(cursors, coupon, moved, to).await?;
                }
                None => self.catch_up(cursors, coupon, to).await?,
            }
        }
        Ok(())
    }

    /// Brings every reserved coupon's gate up to `to`, from wherever it stands.
    async fn bring_up(&self, cursors: &mut Cursors, to: i64) -> Result<(), Failure> {
        let coupons = self.ledger.reserved_coupons().await.map_err(|error| Failure::Away(error.to_string()))?;
        cursors.retain(|code, _| coupons.iter().any(|coupon| coupon.code == *code));
        for coupon in &coupons {
            if self.cancel.is_cancelled() {
                return Ok(());
            }
            if cursors.get(&coupon.code).is_none_or(|cursor| *cursor < to) {
                self.catch_up(cursors, coupon, to).await?;
            }
        }
        Ok(())
    }

    /// Asks the gate where it stands, and settles from there by the ledger.
    async fn catch_up(&self, cursors: &mut Cursors, coupon: &Coupon, to: i64) -> Result<(), Failure> {
        let known = cursors.get(&coupon.code).copied();
        let mut cursor = match known {
            Some(cursor) => cursor,
            None => match self.call(coupon, NO_CURSOR, &[], NO_CURSOR).await? {
                Settle::CursorAt(cursor) => cursor,
                Settle::Moved | Settle::Cold => return Ok(()),
            },
        };
        while cursor < to {
            let rows = self.ledger.rows(cursor, to, Some(&coupon.code), PAGE_ROWS).await;
            let (rows, _) = rows.map_err(|error| Failure::Away(error.to_string()))?;
            let full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= PAGE_ROWS);
            let end = rows.last().filter(|_| full).map_or(to, |last| last.told_offset.saturating_add(1));
            let rows: Vec<&NewRow> = rows.iter().collect();
            match self.settle(coupon, cursor, &rows, end).await? {
                Settle::Moved => cursor = end,
                // Somebody else settles, or the reconciler opened the gate anew.
                Settle::CursorAt(at) if at != cursor => cursor = at,
                Settle::CursorAt(_) | Settle::Cold => {
                    cursors.remove(&coupon.code);
                    return Ok(());
                }
            }
        }
        cursors.insert(coupon.code.clone(), cursor);
        Ok(())
    }

    /// Takes what came of settling a range: a gate that stands elsewhere is caught up from there.
    async fn note(&self, cursors: &mut Cursors, coupon: &Coupon, settled: Settle, to: i64) -> Result<(), Failure> {
        match settled {
            Settle::Moved => {
                cursors.insert(coupon.code.clone(), to);
                Ok(())
            }
            Settle::CursorAt(cursor) => {
                cursors.insert(coupon.code.clone(), cursor);
                self.catch_up(cursors, coupon, to).await
            }
            Settle::Cold => {
                cursors.remove(&coupon.code);
                Ok(())
            }
        }
    }

    /// Settles rows in `[cursor, to)` in as many calls as they need.
    async fn settle(&self, coupon: &Coupon, mut cursor: i64, rows: &[&NewRow], to: i64) -> Result<Settle, Failure> {
        let unnamed = self.unnamed(coupon, rows).await?;
        let mut rest: Vec<&NewRow> = rows.iter().filter(|new| new.told_offset >= cursor).copied().collect();
        rest.sort_unstable_by_key(|new| new.told_offset);
        let mut chunks = rest.chunks(ITEMS_MAX).peekable();
        if to <= cursor {
            return Ok(Settle::Moved);
        }
        loop {
            let chunk = chunks.next().unwrap_or_default();
            let end = chunks.peek().and_then(|next| next.first()).map_or(to, |next| next.told_offset);
            let items: Vec<SettleItem> = chunk.iter().filter_map(|new| item(new, &unnamed)).collect();
            match self.call(coupon, cursor, &items, end).await? {
                Settle::Moved => cursor = end,
                // The answer to an earlier try of this very call was lost.
                Settle::CursorAt(at) if at == end => cursor = end,
                other => return Ok(other),
            }
            if cursor >= to {
                return Ok(Settle::Moved);
            }
        }
    }

    /// Whose reservations are pending by requests whose records did not say so. A gate holds a reservation by its member, and one whose
    /// request was refused must not be held for ever; one that is made after this look is settled when its own record is told.
    async fn unnamed(&self, coupon: &Coupon, rows: &[&NewRow]) -> Result<HashMap<RequestId, MemberId>, Failure> {
        let requests: HashSet<RequestId> =
            rows.iter().filter(|new| new.row.member.is_none()).map(|new| new.row.request).collect();
        let found = self.gate.pending_by_request(&coupon.code, &requests).await;
        let found = found.map_err(|error| Failure::Away(error.to_string()))?;
        Ok(found.into_iter().map(|(member, request)| (request, member)).collect())
    }

    async fn call(&self, coupon: &Coupon, from: i64, items: &[SettleItem], to: i64) -> Result<Settle, Failure> {
        service_kit::failpoint!("consumer.settle.before", return Err(Failure::Away("failpoint".to_owned())));
        let settled = self.gate.settle(&coupon.code, from, to, items, &GateRules::from(coupon)).await;
        service_kit::failpoint!("consumer.settle.replied", return Err(Failure::Away("failpoint".to_owned())));
        let settled = settled.map_err(|error| Failure::Away(error.to_string()))?;
        match settled {
            Settle::Moved => metric::settled(items.len()),
            Settle::Cold => metric::cold_gate(),
            Settle::CursorAt(_) => {}
        }
        Ok(settled)
    }
}

/// What a ledger row means to the gate; nothing where the member could not be read and the gate does not know him either.
fn item(new: &NewRow, unnamed: &HashMap<RequestId, MemberId>) -> Option<SettleItem> {
    let kind = match new.row.outcome {
        Outcome::Issued { .. } => SettleKind::Issued,
        Outcome::Refused { reason: Refusal::Duplicate, .. } => SettleKind::Duplicate,
        Outcome::Refused { .. } => SettleKind::Refused,
    };
    let member = new.row.member.as_ref().or_else(|| unnamed.get(&new.row.request))?;
    Some(SettleItem { kind, member: member.clone(), request: new.row.request })
}
