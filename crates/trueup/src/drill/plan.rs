//! Who asks for what, and how: a function of the seed alone.

use std::time::Duration;

use anyhow::{Context, ensure};
use domain::ids::{CouponCode, MemberId};

use crate::cli::{DrillArgs, IdentityArg};

/// Requests that a drill may plan in all: each accepted one is remembered, in some 32 bytes, until it is verified.
pub const ASKS_MAX: u64 = 5_000_000;

/// How a member repeats himself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Asks once.
    None,
    /// The same Idempotency-Key again, after a pause: must name the same request.
    RetryLater,
    /// The same Idempotency-Key at the same moment by another gateway: must name the same request.
    RetryAtOnce,
    /// Asks again without a key, after a pause.
    AgainLater,
    /// Asks twice at the same moment, by two gateways.
    AgainAtOnce,
}

/// One member's wish for one coupon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Index of the coupon.
    pub coupon: usize,
    /// Number of the member.
    pub member: u64,
    /// Sends an Idempotency-Key.
    pub keyed: bool,
    /// How he repeats himself.
    pub repeat: Repeat,
    /// Index of the gateway that is asked first.
    pub gateway: usize,
}

/// The whole drill.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The coupons.
    pub codes: Vec<CouponCode>,
    /// How many members.
    pub members: u64,
    /// Requests per second in all; none: closed loop.
    pub rate: Option<u32>,
    /// Members who ask at the same time in a closed loop.
    pub concurrency: usize,
    /// Share of members who ask again.
    pub repeat_share: f64,
    /// The pause before that.
    pub think: Duration,
    /// The header that names the member, if any.
    pub identity_header: Option<String>,
    /// Makes it repeatable.
    pub seed: u64,
    /// The gateways.
    pub gateways: Vec<String>,
}

impl Plan {
    /// Checks the arguments.
    ///
    /// # Errors
    /// What is wrong with them, and what to do.
    pub fn new(args: &DrillArgs, gateways: Vec<String>, fresh_seed: u64) -> anyhow::Result<Self> {
        let codes: Vec<CouponCode> = args
            .codes
            .iter()
            .map(|code| CouponCode::new(code).map_err(|error| anyhow::anyhow!("the coupon's code `{code}` {error}")))
            .collect::<Result<_, _>>()?;
        let mut sorted: Vec<_> = codes.iter().collect();
        sorted.sort();
        sorted.dedup();
        ensure!(sorted.len() == codes.len(), "a coupon is named twice; name each once");
        ensure!(!gateways.is_empty(), "no gateway is known; set TRUEUP__GATEWAYS or give --gateways");
        let members = u64::from(args.members);
        let asks = members.saturating_mul(u64::try_from(codes.len()).unwrap_or(u64::MAX));
        ensure!(
            asks <= ASKS_MAX,
            "{asks} requests are more than the {ASKS_MAX} that a drill remembers; give fewer members or coupons"
        );
        let concurrency = usize::try_from(args.concurrency).context("the concurrency is too large")?;
        Ok(Self {
            codes,
            members,
            rate: args.rate,
            concurrency,
            repeat_share: args.repeat_share,
            think: Duration::from_millis(args.think_ms),
            identity_header: (args.identity == IdentityArg::Header).then(|| args.identity_header.clone()),
            seed: args.seed.unwrap_or(fresh_seed),
            gateways,
        })
    }

    /// How many asks there are; each repeats itself or not.
    #[must_use]
    pub fn asks(&self) -> u64 {
        self.members.saturating_mul(u64::try_from(self.codes.len()).unwrap_or(0))
    }

    /// The ask at `index` of [`Plan::asks`]; the coupons take turns.
    #[must_use]
    pub fn ask(&self, index: u64) -> Ask {
        let coupons = u64::try_from(self.codes.len()).unwrap_or(1).max(1);
        let random = mix(self.seed ^ mix(index));
        // 53 bits are what a float holds exactly.
        #[allow(clippy::as_conversions, clippy::cast_precision_loss, reason = "53 bits fit a float exactly")]
        let share = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let choice = mix(random);
        let keyed = choice & 1 == 0;
        let repeat = match (share < self.repeat_share, keyed, choice & 2 == 0) {
            (false, ..) => Repeat::None,
            (true, true, true) => Repeat::RetryLater,
            (true, true, false) => Repeat::RetryAtOnce,
            (true, false, true) => Repeat::AgainLater,
            (true, false, false) => Repeat::AgainAtOnce,
        };
        let gateways = u64::try_from(self.gateways.len()).unwrap_or(1).max(1);
        Ask {
            coupon: usize::try_from(index % coupons).unwrap_or(0),
            member: index / coupons,
            keyed,
            repeat,
            gateway: usize::try_from((choice >> 8) % gateways).unwrap_or(0),
        }
    }

    /// The id of a member of this drill.
    ///
    /// # Errors
    /// Never for numbers of [`Plan::members`]; the id is short and printable.
    pub fn member_id(&self, member: u64) -> anyhow::Result<MemberId> {
        MemberId::new(format!("drill-{:x}-{member}", self.seed)).context("the member's id")
    }
}

/// splitmix64: a good mixer in three lines; the drill needs no cryptography.
#[must_use]
pub const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use std::collections::HashSet;

    use super::*;

    fn plan(seed: u64) -> Plan {
        Plan {
            codes: vec![CouponCode::new("a").unwrap(), CouponCode::new("b").unwrap()],
            members: 5_000,
            rate: None,
            concurrency: 4,
            repeat_share: 0.2,
            think: Duration::ZERO,
            identity_header: None,
            seed,
            gateways: vec!["http://one".to_owned(), "http://two".to_owned()],
        }
    }

    #[test]
    fn every_member_asks_for_every_coupon_once_and_the_shares_are_kept() {
        let plan = plan(1);
        let asks: Vec<_> = (0..plan.asks()).map(|index| plan.ask(index)).collect();
        let distinct: HashSet<_> = asks.iter().map(|ask| (ask.coupon, ask.member)).collect();
        assert_eq!((asks.len(), distinct.len()), (10_000, 10_000));
        let repeats = asks.iter().filter(|ask| ask.repeat != Repeat::None).count();
        assert!((1_800..2_200).contains(&repeats), "{repeats} of 10,000 repeat themselves, not a fifth");
        for kind in [Repeat::RetryLater, Repeat::RetryAtOnce, Repeat::AgainLater, Repeat::AgainAtOnce] {
            let share = asks.iter().filter(|ask| ask.repeat == kind).count();
            assert!((350..650).contains(&share), "{kind:?}: {share}");
        }
        let at_first = asks.iter().filter(|ask| ask.gateway == 0).count();
        assert!((4_700..5_300).contains(&at_first), "{at_first} of 10,000 at the first gateway");
        assert!(asks.iter().all(|ask| ask.keyed || !matches!(ask.repeat, Repeat::RetryLater | Repeat::RetryAtOnce)));
    }

    #[test]
    fn the_seed_decides_everything() {
        let asks = |seed| (0..1_000).map(|index| plan(seed).ask(index)).collect::<Vec<_>>();
        assert_eq!(asks(7), asks(7));
        assert_ne!(asks(7), asks(8));
        assert_ne!(plan(7).member_id(3).unwrap(), plan(8).member_id(3).unwrap());
    }
}
