//! Sends the plan: members who wait for each other (closed loop), or who come on a schedule (open loop).

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::ids::RequestId;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};

use super::{
    client::{ATTEMPTS_MAX, Answer, Client},
    ledger::{Promises, Turned},
    plan::{Ask, Plan, Repeat},
    progress::Counters,
    stats::{Stats, count},
    watch::Watched,
};

/// Members of an open loop who are in flight at a time; when as many are, the schedule waits, and that is reported.
pub const IN_FLIGHT_MAX: usize = 10_000;

/// The code of the gateway's answer when nothing is left.
const SOLD_OUT: &str = "sold_out";

/// All that a member's conversation needs.
pub struct Load {
    /// Who asks for what.
    pub plan: Plan,
    /// HTTP.
    pub client: Client,
    /// Counts and times.
    pub stats: Arc<Mutex<Stats>>,
    /// Progress.
    pub counters: Arc<Counters>,
    /// Every 202.
    pub promises: Arc<Promises>,
    /// Tickets to watch; none when nobody waits for outcomes.
    pub watch: Option<mpsc::Sender<Watched>>,
}

impl Load {
    fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends everything, and returns how long it took.
pub async fn run(load: Arc<Load>) -> Duration {
    let started = Instant::now();
    match load.plan.rate {
        Some(rate) => open_loop(&load, f64::from(rate), started).await,
        None => closed_loop(&load).await,
    }
    started.elapsed()
}

async fn closed_loop(load: &Arc<Load>) {
    let next = Arc::new(AtomicU64::new(0));
    let mut members = JoinSet::new();
    for _ in 0..load.plan.concurrency {
        let (load, next) = (Arc::clone(load), Arc::clone(&next));
        members.spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= load.plan.asks() {
                    return;
                }
                member(&load, index, Instant::now()).await;
            }
        });
    }
    while members.join_next().await.is_some() {}
}

async fn open_loop(load: &Arc<Load>, rate: f64, started: Instant) {
    let room = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut members = JoinSet::new();
    for index in 0..load.plan.asks() {
        #[allow(clippy::as_conversions, clippy::cast_precision_loss, reason = "the index is below five million")]
        let due = started + Duration::from_secs_f64(index as f64 / rate);
        tokio::time::sleep_until(due).await;
        let permit = match Arc::clone(&room).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                load.stats().late += 1;
                Arc::clone(&room).acquire_owned().await.ok()
            }
        };
        let load = Arc::clone(load);
        members.spawn(async move {
            member(&load, index, due).await;
            drop(permit);
        });
        // Tasks that are done must not pile up.
        while members.try_join_next().is_some() {}
    }
    while members.join_next().await.is_some() {}
}

/// One member's whole conversation; `from` is when it counts from.
async fn member(load: &Load, index: u64, from: Instant) {
    let ask = load.plan.ask(index);
    let Ok(id) = load.plan.member_id(ask.member) else { return };
    let code = load.plan.codes.get(ask.coupon).map_or("", |code| code.as_str());
    let key = ask.keyed.then(|| format!("{}-{}", id.as_str(), ask.coupon));
    let say = |gateway: usize, key: Option<&str>, from: Instant| {
        let (id, key) = (id.as_str().to_owned(), key.map(str::to_owned));
        async move { until_answered(load, &ask, gateway, code, &id, key.as_deref(), from).await }
    };
    let other = ask.gateway.saturating_add(1);
    let (first, second) = match ask.repeat {
        Repeat::None => (say(ask.gateway, key.as_deref(), from).await, None),
        Repeat::RetryLater | Repeat::AgainLater => {
            let first = say(ask.gateway, key.as_deref(), from).await;
            tokio::time::sleep(load.plan.think).await;
            (first, Some(say(other, key.as_deref(), Instant::now()).await))
        }
        Repeat::RetryAtOnce | Repeat::AgainAtOnce => {
            let (first, second) = tokio::join!(say(ask.gateway, key.as_deref(), from), say(other, key.as_deref(), from));
            (first, Some(second))
        }
    };
    if let Some(second) = second
        && ask.keyed
    {
        check_key(load, &ask, id.as_str(), &first, &second);
    }
    load.counters.asked.fetch_add(1, Ordering::Relaxed);
}

/// One key names one request: whoever asks again by it gets the same id. "Sold out" is never the answer to a request that exists. Another
/// refusal of a request that was accepted is kept: it has to be what the ledger says in the end.
fn check_key(load: &Load, ask: &Ask, member: &str, first: &Final, second: &Final) {
    match (first, second) {
        (Final::Accepted(first), Final::Accepted(second)) if first != second => {
            load.stats().violation("key_gave_two_ids", || format!("{member}: {first} and {second} by one Idempotency-Key"));
        }
        (Final::Accepted(first), Final::Refused(code)) if ask.repeat == Repeat::RetryLater && code == SOLD_OUT => {
            load.stats().violation("sold_out_though_accepted", || {
                format!("{member}: {first} was answered 202, then {code} by the same Idempotency-Key")
            });
        }
        (Final::Accepted(first), Final::Refused(code)) if ask.repeat == Repeat::RetryLater => {
            load.promises.turned(Turned { request: *first, coupon: ask.coupon, code: code.clone() });
        }
        _ => {}
    }
}

/// The last word to an ask.
enum Final {
    Accepted(RequestId),
    Refused(String),
    /// No answer that could be read, however often it was asked.
    None,
}

async fn until_answered(
    load: &Load,
    ask: &Ask,
    gateway: usize,
    code: &str,
    member: &str,
    key: Option<&str>,
    from: Instant,
) -> Final {
    let mut gateway = gateway;
    let mut last = String::new();
    for _ in 0..ATTEMPTS_MAX {
        match load.client.ask(gateway, code, member, key).await {
            Answer::Accepted(told) => {
                let now = Instant::now();
                let Some(request) = told.request_id else {
                    load.stats().answer(ask.coupon, "unreadable_answer", now - from);
                    return Final::None;
                };
                load.stats().answer(ask.coupon, "accepted", now - from);
                load.counters.accepted.fetch_add(1, Ordering::Relaxed);
                let promise = load.promises.add(request, ask.coupon);
                if let Some(outcome) = told.outcome() {
                    // A repeat of a request that is decided: its outcome came with the 202, and is counted where it was first told.
                    load.promises.told(promise, outcome);
                } else if let (Some(watch), Some(ticket)) = (&load.watch, told.ticket) {
                    let member = member.into();
                    let watched = Watched { promise, coupon: ask.coupon, ticket, member, gateway, accepted_at: now };
                    if watch.try_send(watched).is_ok() {
                        load.counters.watched.fetch_add(1, Ordering::Relaxed);
                    }
                }
                return Final::Accepted(request);
            }
            Answer::Refused(reason) => {
                load.stats().answer(ask.coupon, &reason, from.elapsed());
                return Final::Refused(reason);
            }
            Answer::Again(reason, pause) => {
                count(&mut load.stats().retried, &reason);
                last = reason;
                tokio::time::sleep(pause).await;
                // A gateway that is down must not stop a member while another one is up.
                gateway = gateway.saturating_add(1);
            }
        }
    }
    let reason = format!("gave_up_{last}");
    load.stats().answer(ask.coupon, &reason, from.elapsed());
    Final::None
}
