//! Hands freshly committed rows to the followers in memory, so that a follower that keeps up costs the database nothing.
//!
//! The channel is an optimisation only: whatever does not fit through it is read from the ledger. A follower that is stuck is not waited
//! for, one that is merely busy is waited for a bounded moment, which is cheaper than reading the rows back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::coupon::{Coupon, NewRow};
use tokio::sync::{mpsc, watch};

use crate::{memory::Share, trace::Traces};

/// Batches that may wait for one follower.
const WAITING_BATCHES_MAX: usize = 2;
/// How long the decider waits for a follower that keeps up.
const HAND_OVER_WAIT: Duration = Duration::from_millis(250);
/// A follower this many offsets behind, or fewer, is fed in memory again.
const CATCH_UP_WITHIN: i64 = 10_000;

/// What one committed transaction added to the ledger.
#[derive(Debug, Default)]
pub struct Fresh {
    /// The decided position before it.
    pub from: i64,
    /// The decided position after it.
    pub to: i64,
    /// New rows, in the order of the log.
    pub rows: Vec<NewRow>,
    /// The traces of their requests.
    pub traces: Traces,
    /// The coupons that it named, as they are after it.
    pub coupons: Vec<Coupon>,
    /// Whether `rows` is all that followers have to tell of this range. Rows that were only told again are in the ledger alone.
    pub complete: bool,
    /// The memory that the rows take.
    pub share: Share,
}

/// What a follower does next.
#[derive(Debug)]
pub enum Step {
    /// These rows begin at or before its cursor.
    Fresh(Arc<Fresh>),
    /// Read the ledger from its cursor up to this position.
    ReadTo(i64),
}

struct Outlet {
    sender: mpsc::Sender<Arc<Fresh>>,
    keeps_up: Arc<AtomicBool>,
}

/// The decider's end.
pub struct FeedSender {
    outlets: Vec<Outlet>,
    position: watch::Sender<i64>,
}

/// A follower's end.
pub struct Feed {
    receiver: mpsc::Receiver<Arc<Fresh>>,
    keeps_up: Arc<AtomicBool>,
    position: watch::Receiver<i64>,
}

/// A feed with two followers, from the decided position on.
#[must_use]
pub fn feed(position: i64) -> (FeedSender, Feed, Feed) {
    let (position_sender, position) = watch::channel(position);
    let make = || {
        let (sender, receiver) = mpsc::channel(WAITING_BATCHES_MAX);
        let keeps_up = Arc::new(AtomicBool::new(false));
        (Outlet { sender, keeps_up: keeps_up.clone() }, Feed { receiver, keeps_up, position: position.clone() })
    };
    let ((first_outlet, first), (second_outlet, second)) = (make(), make());
    (FeedSender { outlets: vec![first_outlet, second_outlet], position: position_sender }, first, second)
}

impl FeedSender {
    /// Hands a committed batch over. Waits at most a quarter of a second for each follower.
    pub async fn push(&self, fresh: Fresh) {
        let to = fresh.to;
        let fresh = Arc::new(fresh);
        for outlet in &self.outlets {
            if outlet.keeps_up.load(Ordering::Acquire) {
                let sent = outlet.sender.send_timeout(fresh.clone(), HAND_OVER_WAIT).await;
                if sent.is_err() {
                    outlet.keeps_up.store(false, Ordering::Release);
                }
            }
        }
        // After the rows: who sees the position and finds no rows knows that none will come.
        self.position.send_replace(to);
    }

    /// The decided position moved in a way that only the ledger tells.
    pub fn moved(&self, to: i64) {
        self.position.send_replace(to);
    }
}

impl Feed {
    /// The decided position.
    #[must_use]
    pub fn position(&self) -> i64 {
        *self.position.borrow()
    }

    /// The decider need not wait: this follower is stuck.
    pub fn fall_behind(&self) {
        self.keeps_up.store(false, Ordering::Release);
    }

    /// Waits until there is something behind `cursor`. None when the decider is gone. Cancel safe.
    pub async fn next(&mut self, cursor: i64) -> Option<Step> {
        loop {
            let position = self.position();
            if position.saturating_sub(cursor) <= CATCH_UP_WITHIN {
                self.keeps_up.store(true, Ordering::Release);
            }
            match self.receiver.try_recv() {
                Ok(fresh) => match step(fresh, cursor) {
                    Some(step) => return Some(step),
                    None => continue,
                },
                Err(mpsc::error::TryRecvError::Disconnected) if position <= cursor => return None,
                Err(_) if position > cursor => return Some(Step::ReadTo(position)),
                Err(_) => {}
            }
            tokio::select! {
                fresh = self.receiver.recv() => match fresh {
                    Some(fresh) => if let Some(step) = step(fresh, cursor) { return Some(step) },
                    None if self.position() <= cursor => return None,
                    None => {}
                },
                changed = self.position.changed() => if changed.is_err() && self.position() <= cursor { return None },
            }
        }
    }
}

fn step(fresh: Arc<Fresh>, cursor: i64) -> Option<Step> {
    if fresh.to <= cursor {
        None
    } else if fresh.from <= cursor && fresh.complete {
        Some(Step::Fresh(fresh))
    } else {
        Some(Step::ReadTo(fresh.to))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn fresh(from: i64, to: i64) -> Fresh {
        Fresh { from, to, complete: true, ..Fresh::default() }
    }

    async fn read_to(feed: &mut Feed, cursor: i64) -> i64 {
        match feed.next(cursor).await {
            Some(Step::ReadTo(to)) => to,
            other => panic!("expected a read, got {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_follower_that_keeps_up_is_fed_and_one_that_does_not_reads() {
        let (sender, mut quick, mut slow) = feed(0);
        quick.keeps_up.store(true, Ordering::Release);
        sender.push(fresh(0, 5)).await;
        assert!(matches!(quick.next(0).await, Some(Step::Fresh(f)) if f.to == 5));
        assert_eq!(read_to(&mut slow, 0).await, 5);
        sender.push(fresh(5, 7)).await;
        assert!(matches!(slow.next(5).await, Some(Step::Fresh(f)) if f.from == 5));
    }

    #[tokio::test]
    async fn gaps_and_incomplete_batches_are_read() {
        let (sender, mut follower, _other) = feed(0);
        follower.keeps_up.store(true, Ordering::Release);
        sender.push(fresh(3, 5)).await;
        assert_eq!(read_to(&mut follower, 0).await, 5);
        sender.push(Fresh { complete: false, ..fresh(5, 9) }).await;
        assert_eq!(read_to(&mut follower, 5).await, 9);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_follower_is_waited_for_once() {
        let (sender, mut stuck, _other) = feed(0);
        stuck.keeps_up.store(true, Ordering::Release);
        let started = tokio::time::Instant::now();
        for n in 0..20 {
            sender.push(fresh(n, n + 1)).await;
        }
        assert_eq!(started.elapsed(), HAND_OVER_WAIT);
        let mut cursor = 0;
        while cursor < 20 {
            cursor = match stuck.next(cursor).await.expect("the decider is there") {
                Step::Fresh(fresh) => fresh.to,
                Step::ReadTo(to) => to,
            };
        }
        drop(sender);
        assert!(stuck.next(20).await.is_none());
    }
}
