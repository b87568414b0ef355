//! Random interleavings of everything that can happen to a few orders, on the real code and a real PostgreSQL, one step at a time: callbacks,
//! runs, cancels, redeliveries, restocks, changes at the gateway, replicas that are killed or stand still between any two steps.
//! At the end it is made quiet, and judged by the money check, by the tables of states, and by the stock.
//!
//! A case is made from a number, so that it can be had again: a failing one says how. `INTERLEAVINGS_SEED` is the number of the first case,
//! `INTERLEAVINGS_CASES` how many there are. The gateway's part of each case comes from that number alone; where the line adds
//! jitter, and where a future is cut off while its answer is under way, two plays of a case may differ.

use std::{collections::BTreeMap, env};

use domain::clock::{Clock as _, SystemClock};
use payment_providers::ProviderKind;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};

use crate::interleavings_play::{Shop, play};

/// Cases of the ordinary test: some seconds.
const CASES: u64 = 40;

/// Cases of the long one: some minutes.
const CASES_LONG: u64 = 1_000;

/// The ordinary test plays the same cases each time; the long one others.
const SEED: u64 = 20_240_229;

/// What the ordinary test's cases have to bring about, and what has to get in its way.
const EVERY_MOVE: [&str; 15] = [
    "order PENDING COMPLETED",
    "order PENDING FAILED",
    "order PENDING CANCELLED",
    "order COMPLETED CANCELLED",
    "payment PENDING SUCCESS",
    "payment PENDING FAILED",
    "payment PENDING REFUNDING",
    "payment FAILED REFUNDING",
    "payment SUCCESS REFUNDING",
    "payment REFUNDING REFUNDED",
    "payment REFUNDED REFUNDING",
    "refund sent again under its key",
    "refund made again under a new key",
    "step of somebody who lost the lease",
    "step cut off",
];

/// How long a failing case is made smaller, in milliseconds, and in how many plays.
const SHRINK_MS: u32 = 120_000;
const SHRINKS_MAX: u32 = 500;

/// How a payment begins at its gateway.
#[derive(Debug, Clone, Copy)]
pub enum Beginning {
    Open,
    Unknown,
    Paid,
    PaidAfter(u32),
    KnownAndPaidAfter(u32),
    Closed,
    Deposit,
}

/// What becomes of one refund of a payment.
#[derive(Debug, Clone, Copy)]
pub enum Back {
    Done,
    Pending(u32),
    FailsLater(u32),
    Reversed(u32),
    RefusedForNow,
    RefusedForGood,
}

/// What goes wrong on the way of one call.
#[derive(Debug, Clone, Copy)]
pub enum Mishap {
    Dropped,
    ReplyLost,
    Unavailable,
    Throttled,
    Malformed,
}

/// One attempt to pay.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub beginning: Beginning,
    /// Paid so much more than asked for.
    pub amiss: i64,
    pub refunds: Vec<Back>,
    /// What hits calls in order; true: refunds, else queries.
    pub mishaps: Vec<(bool, Mishap)>,
}

/// All that is given when a case begins.
#[derive(Debug, Clone)]
pub struct Plan {
    pub kind: ProviderKind,
    /// The gateway gives back what it does not hold, if it is asked under a new key.
    pub is_careless: bool,
    pub automatic_max: i64,
    pub stock: i64,
    pub orders: Vec<Vec<Attempt>>,
}

/// Something that happens. Numbers name orders, attempts and replicas, round and round.
#[derive(Debug, Clone, Copy)]
pub enum Event {
    /// The order service tells of an order, or tells again.
    Placed(usize),
    Cancelled(usize),
    /// An operator wants the money of a completed order to go back; true: and the pieces, too.
    CancelledByOperator(usize, bool),
    Paid(usize),
    Failed(usize),
    GivenBackAtTheDashboard(usize),
    KeysForgotten,
    Callback(usize),
    CallbacksSwept,
    StockSet(i64),
    ProductDeleted,
    Released,
    TimePasses(i64),
    /// A healthy replica makes a run.
    Run,
    /// Two replicas make a run at the same time.
    RunTogether,
    /// A run is told to end after so many polls.
    RunStopped(u32),
    /// A replica does its next step: claim, ask, settle, send, record.
    Step(usize),
    /// Its next step is cut off after so many polls, and it is gone.
    CutOff(usize, u32),
    Killed(usize),
}

fn beginning() -> impl Strategy<Value = Beginning> {
    prop_oneof![
        4 => Just(Beginning::Open),
        1 => Just(Beginning::Unknown),
        4 => Just(Beginning::Paid),
        2 => (1_u32..4).prop_map(Beginning::PaidAfter),
        1 => (1_u32..4).prop_map(Beginning::KnownAndPaidAfter),
        1 => Just(Beginning::Closed),
        1 => Just(Beginning::Deposit),
    ]
}

fn back() -> impl Strategy<Value = Back> {
    prop_oneof![
        2 => Just(Back::Done),
        2 => (1_u32..5).prop_map(Back::Pending),
        2 => (1_u32..5).prop_map(Back::FailsLater),
        2 => (1_u32..5).prop_map(Back::Reversed),
        1 => Just(Back::RefusedForNow),
        1 => Just(Back::RefusedForGood),
    ]
}

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        Just(Mishap::Dropped),
        Just(Mishap::ReplyLost),
        Just(Mishap::Unavailable),
        Just(Mishap::Throttled),
        Just(Mishap::Malformed)
    ]
}

fn attempt() -> impl Strategy<Value = Attempt> {
    let amiss = prop_oneof![6 => Just(0_i64), 1 => Just(-1_i64), 1 => Just(1_i64)];
    (beginning(), amiss, vec(back(), 0..4), vec((any::<bool>(), mishap()), 0..4))
        .prop_map(|(beginning, amiss, refunds, mishaps)| Attempt { beginning, amiss, refunds, mishaps })
}

fn plan() -> impl Strategy<Value = Plan> {
    let kind = prop_oneof![2 => Just(ProviderKind::Generic), 1 => Just(ProviderKind::Toss), 1 => Just(ProviderKind::Stripe)];
    let automatic_max = prop_oneof![3 => Just(100_i64), 1 => 0_i64..3];
    (kind, any::<bool>(), automatic_max, 0_i64..7, vec(vec(attempt(), 1..3), 1..4))
        .prop_map(|(kind, is_careless, automatic_max, stock, orders)| Plan { kind, is_careless, automatic_max, stock, orders })
}

fn event() -> impl Strategy<Value = Event> {
    let one = 0_usize..6;
    // A moment, the grace of a refund, a lease, what makes an order stale, the payment window twice, half a day, keys that expire.
    let times = prop::sample::select(vec![1_000, 31_000, 121_000, 121_000, 660_000, 4_000_000, 45_000_000, 90_000_000_i64]);
    prop_oneof![
        3 => one.clone().prop_map(Event::Placed),
        1 => one.clone().prop_map(Event::Cancelled),
        2 => (one.clone(), any::<bool>()).prop_map(|(order, restock)| Event::CancelledByOperator(order, restock)),
        4 => one.clone().prop_map(Event::Paid),
        1 => one.clone().prop_map(Event::Failed),
        1 => one.clone().prop_map(Event::GivenBackAtTheDashboard),
        1 => Just(Event::KeysForgotten),
        2 => one.clone().prop_map(Event::Callback),
        1 => Just(Event::CallbacksSwept),
        1 => (0_i64..7).prop_map(Event::StockSet),
        1 => Just(Event::ProductDeleted),
        1 => Just(Event::Released),
        11 => times.prop_map(Event::TimePasses),
        3 => Just(Event::Run),
        1 => Just(Event::RunTogether),
        1 => (1_u32..30).prop_map(Event::RunStopped),
        30 => one.clone().prop_map(Event::Step),
        4 => (one.clone(), 1_u32..14).prop_map(|(replica, polls)| Event::CutOff(replica, polls)),
        2 => one.prop_map(Event::Killed),
    ]
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Plays cases, each from its own number; what moved in them, as the database saw it.
fn play_all(seed: u64, cases: u64, how_to_repeat: &str) -> BTreeMap<String, i64> {
    testkit::show_logs();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let shop = runtime.block_on(Shop::open());
    let strategy = (plan(), vec(event(), 20..90));
    for number in (0..cases).map(|case| seed.wrapping_add(case)) {
        let config = Config {
            cases: 1,
            failure_persistence: None,
            max_shrink_time: SHRINK_MS,
            max_shrink_iters: SHRINKS_MAX,
            ..Config::default()
        };
        let mut bytes = [0_u8; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let played = runner.run(&strategy, |(plan, events)| {
            runtime.block_on(Box::pin(play(&shop, &plan, &events))).map_err(TestCaseError::fail)
        });
        if let Err(error) = played {
            let told = match error {
                TestError::Fail(reason, (plan, events)) => {
                    format!("made smaller, it is\n{plan:?}\n{events:?}\nand fails so: {reason}")
                }
                TestError::Abort(reason) => reason.to_string(),
            };
            panic!(
                "case {number} fails; have it again with\n  INTERLEAVINGS_SEED={number} INTERLEAVINGS_CASES=1 {how_to_repeat}\n{told}"
            );
        }
    }
    let moved = runtime.block_on(shop.moved());
    println!("from INTERLEAVINGS_SEED={seed}, {cases} cases: {moved:?}");
    moved
}

/// How the one that fails alone is played again.
const AGAIN: &str = "cargo test -p payment-reconciler --test it whatever_happens_in_whatever_order";

#[test]
fn whatever_happens_in_whatever_order_the_money_ends_where_it_belongs() {
    let cases = number("INTERLEAVINGS_CASES").unwrap_or(CASES);
    let moved = play_all(number("INTERLEAVINGS_SEED").unwrap_or(SEED), cases, AGAIN);
    // Cases in which nothing happens would show nothing.
    if cases >= CASES {
        let rare: Vec<_> = EVERY_MOVE.into_iter().filter(|one| moved.get(*one).is_none_or(|times| *times == 0)).collect();
        assert!(rare.is_empty(), "in no case happened {rare:?}, only {moved:?}");
    }
}

#[test]
#[ignore = "takes many minutes: cargo test -p payment-reconciler --test it a_thousand_interleavings -- --ignored --nocapture"]
fn a_thousand_interleavings_that_nobody_has_seen_end_well() {
    let seed = number("INTERLEAVINGS_SEED").unwrap_or_else(|| SystemClock.now().unix_ms().unsigned_abs());
    play_all(seed, number("INTERLEAVINGS_CASES").unwrap_or(CASES_LONG), AGAIN);
}
