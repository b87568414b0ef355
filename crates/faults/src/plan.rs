//! One round, as a function of seed and faults alone: who asks for what, when, and what breaks meanwhile.

use contracts::partition_of;
use domain::{
    coupon::Admission,
    ids::{CouponCode, MemberId},
};
use serde::Serialize;

use crate::{action::Step, fault::Fault, places::PARTITIONS, seed::Seed};

/// What a fault may bend before the round is drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// How long members come, in milliseconds.
    pub load_ms: u64,
    /// Members of each coupon.
    pub members: u64,
    /// Seats of each coupon in percent of its members.
    pub seats_percent: u64,
    /// Asks in progress at a time, at most.
    pub concurrency: usize,
    /// Members who come at the same moment; 0: evenly over the load.
    pub burst_at_ms: Option<u64>,
    /// How often the first member of each coupon asks, by both gateways at once; 0: as everybody.
    pub hammer: u64,
    /// Coupons open so long after the load began, in a third of the rounds.
    pub may_open_late: bool,
    /// Coupons close within the hour, long after the round.
    pub closes: bool,
    /// Load and outages as long as the fault needs them in earnest, not scaled down.
    pub in_earnest: bool,
    /// Refusals have to be fast and memory bounded.
    pub limits_refusals: bool,
    /// Consumers at the beginning.
    pub consumers: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            load_ms: 6_000,
            members: 600,
            seats_percent: 55,
            concurrency: 256,
            burst_at_ms: None,
            hammer: 0,
            may_open_late: true,
            closes: false,
            in_earnest: false,
            limits_refusals: false,
            consumers: 2,
        }
    }
}

/// A fresh coupon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CouponPlan {
    /// Its code.
    pub code: CouponCode,
    /// Who judges first.
    pub admission: Admission,
    /// Seats.
    pub total: i64,
    /// It opens so long after the load began, in milliseconds.
    pub opens_after_ms: Option<i64>,
    /// It closes so long after the load began, in milliseconds; always after the round's end.
    pub closes_after_ms: Option<i64>,
}

/// One ask of a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AskPlan {
    /// The pause before, in milliseconds.
    pub after_ms: u64,
    /// Index of the gateway.
    pub gateway: usize,
    /// Number of the Idempotency-Key, if one is sent.
    pub key: Option<u8>,
    /// He gives up after so long, in milliseconds.
    pub patience_ms: u64,
    /// He looks at his ticket right after a 202.
    pub looks: bool,
}

/// A member and all that he does while things break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberPlan {
    /// Who.
    pub id: MemberId,
    /// Index of his coupon.
    pub coupon: usize,
    /// When he comes, in milliseconds.
    pub comes_ms: u64,
    /// What he asks, one after the other.
    pub asks: Vec<AskPlan>,
}

/// One round.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// What it all follows from.
    pub seed: u64,
    /// The faults' numbers.
    pub faults: Vec<u8>,
    /// As the faults bent it.
    pub shape: Shape,
    /// The coupons.
    pub coupons: Vec<CouponPlan>,
    /// Everybody.
    pub members: Vec<MemberPlan>,
    /// What breaks, by its moment.
    pub steps: Vec<Step>,
}

/// The patience of somebody who waits for the answer.
const PATIENT_MS: u64 = 8_000;
/// A closing time that no round reaches, and that a clock an hour off is past.
const CLOSES_AFTER_MS: i64 = 2_400_000;
/// Gateways.
pub const GATEWAYS: usize = 2;
/// Consumers, at most.
pub const CONSUMERS: usize = 3;
/// Reconcilers.
pub const RECONCILERS: usize = 2;

impl Plan {
    /// Draws the round.
    ///
    ///
    /// # Errors
    /// A code or an id that is none, which would be a mistake here.
    pub fn draw(seed: u64, faults: &[&'static Fault], in_earnest: bool) -> anyhow::Result<Self> {
        let root = Seed::new(seed);
        let numbers: Vec<u8> = faults.iter().map(|fault| fault.number).collect();
        let mut shape = Shape { in_earnest, ..Shape::default() };
        for fault in faults {
            (fault.bend)(&mut shape);
        }
        let name = numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join("-");
        let mut coupons = Vec::new();
        let mut members = Vec::new();
        for (index, admission) in [Admission::Reserved, Admission::Queued].into_iter().enumerate() {
            let mut draw = root.fork(&format!("coupon-{index}"));
            let late = shape.may_open_late && draw.chance(33);
            let opens_after_ms = late.then(|| i64::try_from(draw.within(300, 1_500)).unwrap_or(300));
            let total = i64::try_from(shape.members.saturating_mul(shape.seats_percent) / 100)?;
            let code = code(&format!("f{name}-{seed:x}-{}", admission.as_str()), index)?;
            let closes_after_ms = shape.closes.then_some(CLOSES_AFTER_MS);
            coupons.push(CouponPlan { code, admission, total, opens_after_ms, closes_after_ms });
            for number in 0..shape.members {
                members.push(member(&root, &shape, index, admission, number, &name)?);
            }
        }
        members.sort_by_key(|member| member.comes_ms);
        let mut steps = Vec::new();
        for fault in faults {
            steps.extend((fault.steps)(&shape, &mut root.fork(fault.name)));
        }
        steps.sort_by_key(|step| step.at_ms);
        Ok(Self { seed, faults: numbers, shape, coupons, members, steps })
    }

    /// Asks in all, while things break.
    #[must_use]
    pub fn asks(&self) -> usize {
        self.members.iter().map(|member| member.asks.len()).sum()
    }
}

/// The codes of a round hash to different halves of the log's partitions, so that of two consumers each has something to decide.
fn code(name: &str, half: usize) -> anyhow::Result<CouponCode> {
    const TRIES: u32 = 1_000;
    let halves = i32::try_from(half)? % 2;
    for number in 0..TRIES {
        let code = format!("{name}-{number}");
        if partition_of(code.as_bytes(), PARTITIONS) / (PARTITIONS / 2) == halves {
            return Ok(CouponCode::new(code)?);
        }
    }
    anyhow::bail!("no code like {name} hashes to half {half} of the partitions");
}

fn member(
    root: &Seed,
    shape: &Shape,
    coupon: usize,
    admission: Admission,
    number: u64,
    name: &str,
) -> anyhow::Result<MemberPlan> {
    let mut draw = root.fork(&format!("member-{coupon}-{number}"));
    let id = MemberId::new(format!("m{:x}-{name}-{}-{number}", root.clone().draw() % 0xffff, admission.as_str()))?;
    let comes_ms = match shape.burst_at_ms {
        Some(burst) => burst.saturating_add(draw.within(0, 500)),
        None => draw.within(0, shape.load_ms),
    };
    if shape.hammer > 0 && number == 0 {
        let asks = (0..shape.hammer).map(|index| AskPlan {
            after_ms: 0,
            gateway: usize::try_from(index).unwrap_or(0) % GATEWAYS,
            key: draw.chance(30).then_some(0),
            patience_ms: PATIENT_MS,
            looks: draw.chance(5),
        });
        return Ok(MemberPlan { id, coupon, comes_ms: 100, asks: asks.collect() });
    }
    let keyed = draw.chance(50);
    let times = 1 + draw.within(0, 3);
    let mut asks = Vec::new();
    for index in 0..times {
        // Some change their mind about the key, which makes another request of the same member.
        let key = if draw.chance(10) { draw.chance(50).then_some(1) } else { keyed.then_some(0) };
        asks.push(AskPlan {
            after_ms: if index == 0 { 0 } else { draw.within(20, 1_500) },
            gateway: draw.index(GATEWAYS),
            key,
            patience_ms: if draw.chance(20) { draw.within(20, 800) } else { PATIENT_MS },
            looks: draw.chance(30),
        });
    }
    Ok(MemberPlan { id, coupon, comes_ms, asks })
}
