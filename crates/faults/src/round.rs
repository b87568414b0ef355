//! One round, from fresh coupons to its verdict.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use domain::{
    clock::{Clock, SystemClock},
    coupon::Admission,
    ids::{CouponCode, MemberId},
};
use redis_io::{Gate, GateState};
use tokio::runtime::Handle;

use crate::{
    action::{Action, Who},
    book::Book,
    check,
    client::Client,
    collect::{self, Known, Marks},
    evidence::{Evidence, Limit, Sample},
    inject::Injector,
    load::{Load, Open},
    places::Places,
    plan::{CouponPlan, GATEWAYS, Plan},
    quiet,
    report::{RoundReport, Verdict},
    world::World,
};

/// How long the line may take to come to rest once all is up again.
const QUIET_LIMIT: Duration = Duration::from_secs(90);
/// How long members insist, at most.
const INSIST_LIMIT: Duration = Duration::from_secs(60);
/// How often everybody without a coupon asks again while seats are empty.
const PASSES_MAX: u32 = 6;
/// The pause between two such passes: a restock is noticed within a second.
const PASS_PAUSE: Duration = Duration::from_millis(1_000);
/// How long a fresh coupon's gate may take to open before the load begins anyway.
const GATE_LIMIT: Duration = Duration::from_secs(5);
/// How often the database is looked at while things break.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// The time between the definition of a coupon and the load, which its opening time is counted from.
const DEFINE_MS: i64 = 500;
/// A refusal while the broker is known to be away may take so long at the median, in milliseconds, on a busy machine.
const REFUSAL_MS_MAX: u64 = 250;
/// A gateway's memory at its peak, in kibibytes.
const GATEWAY_KIB_MAX: u64 = 400_000;

/// What a round leaves behind.
#[derive(Debug)]
pub struct Outcome {
    /// Its report.
    pub report: RoundReport,
    /// What it was judged by, if it came that far.
    pub evidence: Option<Evidence>,
}

/// Runs a round on a line that is at rest; gives the line back.
pub async fn run(world: World, plan: Plan) -> (World, Outcome) {
    let started = Instant::now();
    let plan = Arc::new(plan);
    let mut report = RoundReport::begin(&plan);
    let (world, result) = broken_and_healed(world, Arc::clone(&plan), &mut report).await;
    let evidence = match result {
        Ok(evidence) => {
            report.violations = check::judge(&evidence);
            report.verdict = if report.violations.is_empty() { Verdict::Clean } else { Verdict::Violated };
            Some(evidence)
        }
        Err(error) => {
            report.verdict = Verdict::CannotTell;
            report.trouble = Some(format!("{error:#}"));
            None
        }
    };
    report.duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    (world, Outcome { report, evidence })
}

async fn broken_and_healed(world: World, plan: Arc<Plan>, report: &mut RoundReport) -> (World, Result<Evidence>) {
    let places = world.places().clone();
    let prepared = prepare(&places, &plan).await;
    let (client, since) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return (world, Err(error.context("before anything broke"))),
    };
    let book = Arc::new(Book::begin());
    let load = Arc::new(Load::new(&plan, client.clone(), Arc::clone(&book)));
    let stop = Arc::new(AtomicBool::new(false));
    let sampler = tokio::spawn(sample(places.clone(), Arc::clone(&plan), Arc::clone(&book), Arc::clone(&stop)));
    let members = tokio::spawn(Arc::clone(&load).drive(Arc::clone(&plan)));
    let broken = tokio::task::spawn_blocking({
        let (plan, client, since, runtime) = (Arc::clone(&plan), client.clone(), since.clone(), Handle::current());
        let began = Instant::now();
        let mut world = world;
        move || {
            let mut injector = Injector { world: &mut world, plan: &plan, client: &client, since: &since, runtime: &runtime };
            let done = injector.run(began);
            (world, done)
        }
    });
    let (mut world, done) = match broken.await {
        Ok(broken) => broken,
        // The world went down with its thread, so there is nothing to give back.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    report.steps = done;
    let open = members.await.unwrap_or_default();
    let peaks = peaks(&mut world);
    let consumers = plan.shape.consumers.max(1);
    let healed = tokio::task::spawn_blocking({
        let plan = Arc::clone(&plan);
        move || {
            let healed = heal(&mut world, &plan, consumers);
            (world, healed)
        }
    });
    let (world, healed) = match healed.await {
        Ok(healed) => healed,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    let judged = async {
        report.effects = healed.context("not everything came up again")?;
        let after = afterwards(&places, &plan, &load, open).await?;
        stop.store(true, Ordering::Relaxed);
        let oversold = sampler.await.unwrap_or_default();
        let mut evidence = Evidence { unrest: after.unrest.clone(), ..Evidence::default() };
        for (index, coupon) in plan.coupons.iter().enumerate() {
            let known = known(&plan, index, coupon, &book, &after, &oversold);
            evidence.coupons.push(collect::coupon(&places, known, &since).await?);
        }
        if plan.shape.limits_refusals {
            evidence.limits = limits(&book, &peaks);
        }
        anyhow::Ok(evidence)
    };
    let judged = judged.await;
    stop.store(true, Ordering::Relaxed);
    report.requests = book.requests();
    report.answers = book.tally();
    if let Ok(evidence) = &judged {
        report.count(evidence);
    }
    (world, judged)
}

/// Fresh coupons, and their gates open.
async fn prepare(places: &Places, plan: &Plan) -> Result<(Client, Marks)> {
    let client = Client::new(places.gateways.clone())?;
    let since = collect::marks(places).await?;
    for coupon in &plan.coupons {
        let at = |after: i64| SystemClock.now().saturating_add_ms(after.saturating_add(DEFINE_MS)).to_string();
        client.define(coupon, coupon.opens_after_ms.map(at), coupon.closes_after_ms.map(at)).await?;
    }
    let gate = Gate::connect(&places.redis).await?;
    let deadline = Instant::now() + GATE_LIMIT;
    for coupon in plan.coupons.iter().filter(|coupon| coupon.admission == Admission::Reserved) {
        while gate.status(&coupon.code).await?.state != GateState::Open && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok((client, since))
}

/// Looks for seats that are given twice, as often as the database answers.
async fn sample(places: Places, plan: Arc<Plan>, book: Arc<Book>, stop: Arc<AtomicBool>) -> Vec<(CouponCode, Sample)> {
    let mut found = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        // The database is one of the things that break.
        if let Ok(database) = places.database().await {
            while !stop.load(Ordering::Relaxed) && look(&database, &plan, &book, &mut found).await.is_ok() {
                tokio::time::sleep(SAMPLE_EVERY).await;
            }
        }
        tokio::time::sleep(SAMPLE_EVERY).await;
    }
    found
}

async fn look(database: &tokio_postgres::Client, plan: &Plan, book: &Book, found: &mut Vec<(CouponCode, Sample)>) -> Result<()> {
    for coupon in &plan.coupons {
        if let Some(sample) = collect::oversold(database, &coupon.code, book.now_ms()).await? {
            found.push((coupon.code.clone(), sample));
        }
    }
    Ok(())
}

/// Links first: a service that was started behind a dead one would not become ready. Says how often failpoints took effect.
fn heal(world: &mut World, plan: &Plan, consumers: usize) -> Result<Vec<String>> {
    let (links, others): (Vec<_>, Vec<_>) = plan.steps.iter().partition(|step| matches!(step.action, Action::Trouble { .. }));
    links.iter().try_for_each(|step| world.undo(&step.action).map(drop))?;
    world.heal(consumers)?;
    let effects: Vec<Option<String>> = others.iter().map(|step| world.undo(&step.action)).collect::<Result<_>>()?;
    Ok(effects.into_iter().flatten().collect())
}

/// What is known once members have stopped asking.
struct After {
    unrest: Option<String>,
    unanswered: Vec<(usize, MemberId)>,
}

async fn afterwards(places: &Places, plan: &Plan, load: &Load, open: BTreeSet<Open>) -> Result<After> {
    let codes: Vec<CouponCode> = plan.coupons.iter().map(|coupon| coupon.code.clone()).collect();
    let mut left = load.insist(&open, INSIST_LIMIT).await;
    let mut unrest = quiet::wait(places, &codes, QUIET_LIMIT).await;
    let mut known = BTreeMap::new();
    let mut untold = load.resolve(&mut known, INSIST_LIMIT).await;
    for _ in 0..PASSES_MAX {
        let hopeful = hopeful(places, plan).await?;
        if unrest.is_some() || hopeful.is_empty() {
            break;
        }
        left.extend(load.insist(&hopeful, INSIST_LIMIT).await);
        unrest = quiet::wait(places, &codes, QUIET_LIMIT).await;
        untold.extend(load.resolve(&mut known, INSIST_LIMIT).await);
        tokio::time::sleep(PASS_PAUSE).await;
    }
    // The looks were answered by gateways that hold what they know for a moment; the line itself has to be at rest when it is read.
    if unrest.is_none() {
        unrest = quiet::wait(places, &codes, QUIET_LIMIT).await;
    }
    let unanswered = left.into_iter().map(|open| (open.coupon, open.member));
    let untold = untold.into_iter().map(|(_, ticket)| (ticket.coupon, ticket.member));
    Ok(After { unrest, unanswered: unanswered.chain(untold).collect() })
}

/// Everybody without a coupon, where seats are empty.
async fn hopeful(places: &Places, plan: &Plan) -> Result<BTreeSet<Open>> {
    let database = places.database().await?;
    let mut hopeful = BTreeSet::new();
    for (index, coupon) in plan.coupons.iter().enumerate() {
        let code = coupon.code.as_str();
        let total: i64 =
            database.query_one("SELECT total_quantity FROM coupon WHERE coupon_code = $1", &[&code]).await?.try_get(0)?;
        let holders = "SELECT member_id FROM coupon_request WHERE coupon_code = $1 AND outcome = 'issued'";
        let mut issued: BTreeSet<String> = BTreeSet::new();
        for row in database.query(holders, &[&code]).await? {
            issued.insert(row.try_get(0)?);
        }
        if i64::try_from(issued.len()).unwrap_or(i64::MAX) < total {
            let without = plan.members.iter().filter(|member| member.coupon == index && !issued.contains(member.id.as_str()));
            hopeful.extend(without.map(|member| Open { coupon: index, member: member.id.clone(), key: None }));
        }
    }
    Ok(hopeful)
}

fn known(plan: &Plan, index: usize, coupon: &CouponPlan, book: &Book, after: &After, oversold: &[(CouponCode, Sample)]) -> Known {
    let total_changed = plan.steps.iter().any(|step| matches!(step.action, Action::SetTotal { coupon, .. } if coupon == index));
    Known {
        code: coupon.code.clone(),
        admission: coupon.admission,
        is_plain: !total_changed && coupon.opens_after_ms.is_none(),
        members: plan.members.iter().filter(|member| member.coupon == index).map(|member| member.id.clone()).collect(),
        answers: book.answers(index),
        unanswered: after.unanswered.iter().filter(|(of, _)| *of == index).map(|(_, member)| member.clone()).collect(),
        oversold: oversold.iter().filter(|(of, _)| *of == coupon.code).map(|(_, sample)| sample.clone()).collect(),
    }
}

/// The most memory that each gateway ever held, in kibibytes, where it still runs.
fn peaks(world: &mut World) -> Vec<u64> {
    let peak = |pid: u32| -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok())
    };
    (0..GATEWAYS).filter_map(|index| peak(world.pid(Who::Gateway(index))?)).collect()
}

fn limits(book: &Book, peaks: &[u64]) -> Vec<Limit> {
    let refusals = book.times_of("log_unavailable");
    let median = refusals.get(refusals.len() / 2).copied().unwrap_or(0);
    let mut limits = vec![Limit { what: "median refusal in ms".to_owned(), found: median, at_most: REFUSAL_MS_MAX }];
    limits.extend(peaks.iter().map(|peak| Limit {
        what: "a gateway's peak in KiB".to_owned(),
        found: *peak,
        at_most: GATEWAY_KIB_MAX,
    }));
    limits
}
