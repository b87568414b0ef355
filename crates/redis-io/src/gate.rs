//! The gate's hot path: reserve and settle; [`crate::release`] takes back.

use domain::{
    clock::Timestamp,
    coupon::Coupon,
    ids::{CouponCode, MemberId, RequestId},
};

use crate::{
    connection::Connections,
    error::GateError,
    reply,
    script::{Call, RESERVE, SETTLE},
    settings::RedisSettings,
};

/// The most members in one [`Gate::reserve`], [`Gate::release_all`] or [`Gate::give_up`] call.
pub const RESERVE_MEMBERS_MAX: usize = 1_000;
/// The most items in one [`Gate::settle`] call: a script holds everybody else up while it runs.
pub const SETTLE_ITEMS_MAX: usize = 5_000;

/// The Redis gate of all reserved coupons. Share it behind an `Arc`; it holds the connections.
pub struct Gate {
    pub(crate) connections: Connections,
}

/// What the gate says to one asker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// A seat is kept under the request id that was given; publish it, signed as admitted.
    Reserved {
        /// When, by Redis' clock. With the id it names this very reservation: see [`Gate::release`].
        at: Timestamp,
    },
    /// The member already holds a reservation, which this answer hands to the caller: publish it again under this id.
    Pending(RequestId),
    /// The member holds an issue; the ledger names its request.
    Issued,
    /// No seat is left.
    SoldOut,
    /// Before the opening time, by Redis' clock.
    NotOpen {
        /// When it opens.
        opens_at: Timestamp,
    },
    /// At or after the closing time, by Redis' clock.
    Closed,
    /// Paused by an operator.
    Paused,
    /// Ended by an operator.
    Ended,
}

/// What one ledger row means to the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettleKind {
    /// The member holds the coupon now.
    Issued,
    /// The member holds the coupon by another request.
    Duplicate,
    /// Any other refusal: takes back the reservation of this very request, if it is still there.
    Refused,
}

/// One ledger row for [`Gate::settle`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettleItem {
    /// What it means.
    pub kind: SettleKind,
    /// Whose request it was.
    pub member: MemberId,
    /// The request.
    pub request: RequestId,
}

/// A coupon's rules as the gate keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateRules {
    /// Seats in all.
    pub total: i64,
    /// Newcomers before this moment hear `not_open`.
    pub opens_at: Option<Timestamp>,
    /// Newcomers at or after this moment hear `closed`.
    pub closes_at: Option<Timestamp>,
    /// Newcomers hear `paused`.
    pub paused: bool,
    /// Newcomers hear `ended`.
    pub ended: bool,
    /// The coupon's partition.
    pub partition: i32,
    /// The offset of the last command that changed the rules; the gate keeps the newer rules.
    pub rules_offset: i64,
}

impl From<&Coupon> for GateRules {
    fn from(coupon: &Coupon) -> Self {
        Self {
            total: coupon.total,
            opens_at: coupon.opens_at,
            closes_at: coupon.closes_at,
            paused: coupon.paused,
            ended: coupon.ended,
            partition: coupon.partition,
            rules_offset: coupon.rules_offset,
        }
    }
}

impl GateRules {
    /// Rules of a coupon of `total` seats on `partition` that is always open, as they are before any command has changed them.
    #[must_use]
    pub const fn always_open(total: i64, partition: i32) -> Self {
        Self { total, opens_at: None, closes_at: None, paused: false, ended: false, partition, rules_offset: 0 }
    }

    pub(crate) fn write<'a>(&self, call: Call<'a>) -> Call<'a> {
        call.number(self.total)
            .optional_number(self.opens_at.map(Timestamp::unix_ms))
            .optional_number(self.closes_at.map(Timestamp::unix_ms))
            .flag(self.paused)
            .flag(self.ended)
            .number(i64::from(self.partition))
            .number(self.rules_offset)
    }
}

/// What came of a settle call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// The gate's cursor stands at `to`, and everything before it is applied.
    Moved,
    /// Nothing was done, because the gate's cursor is another one than `from`: go on from this one.
    CursorAt(i64),
    /// Nothing was done, because the gate is cold; the reconciler will load it.
    Cold,
}

impl Gate {
    /// Prepares the connections and, where the server answers, checks that it keeps what it is given.
    ///
    /// A server that is away is no failure here: queued coupons go on without Redis, and each later call connects by itself.
    ///
    /// # Errors
    /// [`GateError::Settings`] for settings that cannot be used, [`GateError::Eviction`] for a server that may throw keys away.
    pub async fn connect(settings: &RedisSettings) -> Result<Self, GateError> {
        let gate = Self { connections: Connections::new(settings)? };
        match gate.check().await {
            Err(GateError::Unavailable { reason, .. }) => {
                tracing::warn!(%reason, "Redis does not answer; starting all the same");
                Ok(gate)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(gate),
        }
    }

    /// Prepares the connections and makes none: the first call connects, on the runtime it is made from.
    ///
    /// # Errors
    /// [`GateError::Settings`] for settings that cannot be used.
    pub fn lazy(settings: &RedisSettings) -> Result<Self, GateError> {
        Ok(Self { connections: Connections::new(settings)? })
    }

    /// Asks whether Redis answers and keeps what it is given; one round trip.
    ///
    /// # Errors
    /// [`GateError::Unavailable`] or [`GateError::Eviction`].
    pub async fn check(&self) -> Result<(), GateError> {
        self.connections.checked().await.map(drop)
    }

    /// Reserves a seat for each of up to [`RESERVE_MEMBERS_MAX`] members, in their order, in one script call. The answers
    /// come in the same order.
    ///
    /// Who is in the gate already is told so, whatever the window and the stock say.
    ///
    /// # Errors
    /// [`GateError::Cold`] when the gate must not be asked. After [`GateError::Unavailable`] with `maybe_executed`, reservations
    /// under the given ids may exist: asking again finds them pending, and publishing the same ids settles them.
    pub async fn reserve(&self, code: &CouponCode, asks: &[(MemberId, RequestId)]) -> Result<Vec<Reserve>, GateError> {
        if asks.is_empty() {
            return Ok(Vec::new());
        }
        at_most(asks.len(), RESERVE_MEMBERS_MAX)?;
        let call = Call::new(&RESERVE, code, asks.len() * 2);
        let call = asks.iter().fold(call, |call, (member, request)| call.text(member.as_str()).request(*request));
        let mut values = reply::array(self.connections.hot(&call).await?)?.into_iter();
        if reply::integer(&reply::next(&mut values)?)? == 0 {
            return Err(GateError::Cold);
        }
        let opens_at = reply::optional_number(&reply::next(&mut values)?)?.map(Timestamp::from_unix_ms).unwrap_or_default();
        let now = Timestamp::from_unix_ms(reply::parsed(&reply::next(&mut values)?)?);
        let answers = values.map(|value| read_reserve(&value, opens_at, now)).collect::<Result<Vec<_>, _>>()?;
        if answers.len() == asks.len() {
            Ok(answers)
        } else {
            Err(GateError::Reply(format!("{} answers to {} askers", answers.len(), asks.len())))
        }
    }

    /// Tells the gate what the log decided in `[from, to)`: at most [`SETTLE_ITEMS_MAX`] items, and the coupon's rules as of a
    /// snapshot that reaches at least to `to`. One call applies all or nothing.
    ///
    /// A lost reply is harmless: the same call again answers [`Settle::CursorAt`] with `to`.
    ///
    /// # Errors
    /// [`GateError::Unavailable`].
    pub async fn settle(
        &self,
        code: &CouponCode,
        from: i64,
        to: i64,
        items: &[SettleItem],
        rules: &GateRules,
    ) -> Result<Settle, GateError> {
        at_most(items.len(), SETTLE_ITEMS_MAX)?;
        let (refused, holders): (Vec<_>, Vec<_>) = items.iter().partition(|item| item.kind == SettleKind::Refused);
        let mut call = rules.write(Call::new(&SETTLE, code, 10 + items.len() * 2).number(from).number(to));
        call = call.number(i64::try_from(holders.len()).unwrap_or(i64::MAX));
        for item in holders {
            call = call.text(item.member.as_str());
        }
        for item in refused {
            call = call.text(item.member.as_str()).request(item.request);
        }
        let mut values = reply::array(self.connections.hot(&call).await?)?.into_iter();
        match reply::integer(&reply::next(&mut values)?)? {
            0 => Ok(Settle::Cold),
            1 => Ok(Settle::CursorAt(reply::parsed(&reply::next(&mut values)?)?)),
            2 => Ok(Settle::Moved),
            other => Err(GateError::Reply(format!("settle answered {other}"))),
        }
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

pub(crate) fn at_most(given: usize, max: usize) -> Result<(), GateError> {
    if given > max { Err(GateError::TooMany { given, max }) } else { Ok(()) }
}

fn read_reserve(value: &deadpool_redis::redis::Value, opens_at: Timestamp, now: Timestamp) -> Result<Reserve, GateError> {
    use deadpool_redis::redis::Value::Int;
    Ok(match value {
        Int(1) => Reserve::Reserved { at: now },
        Int(2) => Reserve::Issued,
        Int(3) => Reserve::SoldOut,
        Int(4) => Reserve::NotOpen { opens_at },
        Int(5) => Reserve::Closed,
        Int(6) => Reserve::Paused,
        Int(7) => Reserve::Ended,
        Int(_) => return Err(reply::unexpected("an answer from 1 to 7", value)),
        _ => Reserve::Pending(reply::parsed(value)?),
    })
}
