//! Polls tickets until their outcome is visible, as clients do.

use std::{
    collections::BinaryHeap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use super::{client::Client, ledger::Promises, progress::Counters, stats::Stats};

/// Tickets that wait for their outcome at a time; further ones are not watched, only verified afterwards.
pub const WATCHED_MAX: usize = 100_000;
/// Polls in flight at a time.
pub const POLLS_MAX: usize = 64;
/// The first poll comes this long after the 202.
const FIRST_POLL: Duration = Duration::from_millis(15);
/// Each further one waits longer, by this many tenths, up to [`POLL_PAUSE_MAX`].
const POLL_PAUSE_TENTHS: u32 = 16;
/// The longest pause between two polls of one ticket.
const POLL_PAUSE_MAX: Duration = Duration::from_secs(1);

/// A ticket whose outcome is waited for.
#[derive(Debug)]
pub struct Watched {
    /// Its number in [`Promises`].
    pub promise: usize,
    /// Index of the coupon.
    pub coupon: usize,
    /// The ticket.
    pub ticket: Box<str>,
    /// Who asked.
    pub member: Box<str>,
    /// The gateway that gave it; another one is asked.
    pub gateway: usize,
    /// When the 202 came.
    pub accepted_at: Instant,
}

/// By due time; the heap's greatest is the earliest.
struct Due {
    at: Instant,
    pause: Duration,
    watched: Watched,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at.cmp(&self.at)
    }
}

/// Everything that the watcher reports to.
#[derive(Clone)]
pub struct Reports {
    /// Counts and times.
    pub stats: Arc<Mutex<Stats>>,
    /// Progress.
    pub counters: Arc<Counters>,
    /// What the tickets told.
    pub promises: Arc<Promises>,
}

/// Polls what comes in until the channel is closed and every ticket told its outcome, or `stop` is set. Returns how many are left.
pub async fn watch(client: Client, mut incoming: mpsc::Receiver<Watched>, reports: Reports, stop: Arc<AtomicBool>) -> usize {
    let mut waiting: BinaryHeap<Due> = BinaryHeap::new();
    let mut polls: JoinSet<Option<Due>> = JoinSet::new();
    let mut open = true;
    loop {
        if stop.load(Ordering::Relaxed) || (!open && waiting.is_empty() && polls.is_empty()) {
            let left = waiting.len().saturating_add(polls.len());
            polls.abort_all();
            return left;
        }
        let now = Instant::now();
        while polls.len() < POLLS_MAX && waiting.peek().is_some_and(|due| due.at <= now) {
            if let Some(due) = waiting.pop() {
                polls.spawn(poll(client.clone(), due, reports.clone()));
            }
        }
        // While all polls are in flight only one of them can make room; a due time in the past must not spin.
        let next = waiting.peek().filter(|_| polls.len() < POLLS_MAX).map(|due| due.at);
        let wake = next.unwrap_or_else(|| now + POLL_PAUSE_MAX).min(now + POLL_PAUSE_MAX);
        tokio::select! {
            arrived = incoming.recv(), if open && waiting.len() < WATCHED_MAX => match arrived {
                Some(watched) => waiting.push(Due { at: watched.accepted_at + FIRST_POLL, pause: FIRST_POLL, watched }),
                None => open = false,
            },
            Some(done) = polls.join_next(), if !polls.is_empty() => {
                if let Ok(Some(due)) = done {
                    waiting.push(due);
                }
            },
            () = tokio::time::sleep_until(wake) => {}
        }
    }
}

/// One poll; what is still pending comes back with its next due time.
async fn poll(client: Client, due: Due, reports: Reports) -> Option<Due> {
    let Due { pause, watched, .. } = due;
    let told = client.ticket(watched.gateway.saturating_add(1), &watched.ticket, &watched.member).await;
    let longer = (pause * POLL_PAUSE_TENTHS / 10).min(POLL_PAUSE_MAX);
    let wait = match &told {
        Ok(told) => {
            if let Some(outcome) = told.outcome() {
                reports.promises.told(watched.promise, outcome);
                reports.counters.visible.fetch_add(1, Ordering::Relaxed);
                let mut stats = reports.stats.lock().unwrap_or_else(PoisonError::into_inner);
                stats.visible.note(watched.accepted_at.elapsed());
                stats.outcome(watched.coupon, outcome);
                return None;
            }
            longer
        }
        Err(retry_after) => longer.max(*retry_after),
    };
    Some(Due { at: Instant::now() + wait, pause: longer, watched })
}
