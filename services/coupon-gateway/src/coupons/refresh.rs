//! Reads the held coupons again, all by one query, and keeps the memory of those that are sold out.

use std::{collections::HashMap, sync::Arc, time::Duration};

use domain::{
    clock::Timestamp,
    coupon::{Admission, Coupon},
    ids::CouponCode,
};
use redis_io::Gate;
use tokio_util::sync::CancellationToken;

use super::{CouponView, Fingerprints, SoldOut};
use crate::{
    state::AppState,
    store::{self, StoreError},
};

/// Sold out for this long before an end of the log counts: by then no gateway appends by an older reading.
const SETTLE_MS: i64 = 2_000;

/// What is known of a coupon of which every seat is given.
#[derive(Debug, Clone)]
struct Memory {
    since: Timestamp,
    issued: i64,
    total: i64,
    holders: Option<Fingerprints>,
    end_seen: Option<i64>,
    all_decided: bool,
}

/// Reads the held coupons again, for ever.
pub struct Refresher {
    app: Arc<AppState>,
    gate: Arc<Gate>,
    memories: HashMap<CouponCode, Memory>,
}

impl Refresher {
    /// A refresher of `app`'s coupons.
    #[must_use]
    pub fn new(app: Arc<AppState>, gate: Arc<Gate>) -> Self {
        Self { app, gate, memories: HashMap::new() }
    }

    /// Refreshes at the set pace until `stop`; `alive` is called after each round, whatever came of it.
    pub async fn run(mut self, stop: CancellationToken, alive: impl Fn()) {
        let mut pace = tokio::time::interval(Duration::from_millis(self.app.settings.coupons.refresh_ms));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = pace.tick() => {}
            }
            match self.run_once().await {
                Ok(()) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("the held coupons are read again");
                    }
                }
                Err(StoreError) => {
                    self.app.metrics.refresh_failures.increment(1);
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!("the held coupons could not be read; until they are, nobody is refused by them");
                    }
                }
            }
            alive();
        }
    }

    /// One round.
    ///
    /// # Errors
    /// The database did not answer; everything stays as it was.
    pub async fn run_once(&mut self) -> Result<(), StoreError> {
        let app = Arc::clone(&self.app);
        // The reading is as old as its question.
        let asked_at = app.clock.now();
        let codes = app.coupons.codes();
        let mut sold_out = Vec::new();
        if !codes.is_empty() {
            for view in store::load_coupons(&app, &codes).await? {
                if view.all_issued() && !view.coupon.ended {
                    sold_out.push(view.clone());
                } else {
                    self.memories.remove(&view.coupon.code);
                }
                app.coupons.put(view);
            }
        }
        app.coupons.refreshed(asked_at);
        for view in sold_out {
            let memory = self.remember(&view, asked_at).await;
            app.coupons.set_sold_out(&view.coupon.code, memory);
        }
        let held = app.coupons.codes();
        self.memories.retain(|code, _| held.contains(code));
        app.metrics.coupons_held.set(count(held.len()));
        app.metrics.fingerprints.set(count(self.fingerprints()));
        Ok(())
    }

    fn fingerprints(&self) -> usize {
        self.memories.values().filter_map(|memory| memory.holders.as_ref()).map(Fingerprints::len).sum()
    }

    /// What this process may answer for a coupon of which every seat is given; none: nothing.
    async fn remember(&mut self, view: &CouponView, now: Timestamp) -> Option<SoldOut> {
        let coupon = &view.coupon;
        let known = self.memories.remove(&coupon.code);
        let mut memory =
            known.filter(|memory| memory.total == coupon.total && memory.issued == coupon.issued).unwrap_or(Memory {
                since: now,
                issued: coupon.issued,
                total: coupon.total,
                holders: None,
                end_seen: None,
                all_decided: false,
            });
        if memory.holders.is_none() {
            memory.holders = self.load_holders(coupon).await;
        }
        self.look_for_the_end(view, &mut memory, now).await;
        let usable = coupon.admission == Admission::Queued || self.nothing_is_pending(coupon, &memory).await;
        let sold_out = match &memory.holders {
            Some(holders) if usable => Some(SoldOut::new(coupon, holders.clone(), memory.all_decided)),
            _ => None,
        };
        self.memories.insert(coupon.code.clone(), memory);
        sold_out
    }

    /// The members that hold an issue, unless they are too many or cannot be read.
    async fn load_holders(&self, coupon: &Coupon) -> Option<Fingerprints> {
        let room = self.app.settings.coupons.fingerprints_max.saturating_sub(self.fingerprints());
        let issued = usize::try_from(coupon.issued).unwrap_or(usize::MAX);
        if issued > room {
            return None;
        }
        let all = store::issued_fingerprints(&self.app, &coupon.code, issued).await.ok()?;
        // Fewer than the coupon says: another snapshot. More never come, because nothing is issued any more.
        (all.len() >= issued).then(|| Fingerprints::new(all))
    }

    /// Notes an end of the log that was seen when no gateway took new requests any more, and whether it is reached.
    async fn look_for_the_end(&self, view: &CouponView, memory: &mut Memory, now: Timestamp) {
        if memory.end_seen.is_none() && now >= memory.since.saturating_add_ms(SETTLE_MS) {
            let topic = &self.app.settings.kafka.topics.created;
            let watermarks = self.app.producer.watermarks(topic, view.coupon.partition).await;
            memory.end_seen = watermarks.map(|watermarks| watermarks.high).ok();
        }
        memory.all_decided = memory.all_decided || memory.end_seen.is_some_and(|end| view.next_offset >= end);
    }

    /// No member holds a reservation that the log has not decided: then whoever is not in the ledger has no request.
    async fn nothing_is_pending(&self, coupon: &Coupon, memory: &Memory) -> bool {
        match self.gate.status(&coupon.code).await {
            Ok(status) if !status.state.is_cold() => status.pending == 0,
            // The reservations are lost or cannot be seen; what was acknowledged of them is in the log.
            _ => memory.all_decided,
        }
    }
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}
