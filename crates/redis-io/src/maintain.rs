//! What the reconciler does with a gate: look at it, load it, open it, and find reservations that nobody publishes.

use std::time::Duration;

use domain::{
    clock::Timestamp,
    ids::{CouponCode, MemberId, RequestId},
};
use uuid::Uuid;

use crate::{
    error::GateError,
    gate::{Gate, GateRules, RESERVE_MEMBERS_MAX, at_most},
    release::{self, Reservation},
    reply,
    script::{BEGIN_LOAD, Call, LOAD, OPEN, PENDING_OF, PENDING_OLDER_THAN, SHUT, STATUS},
};

/// The most members in one [`Gate::load`] call.
pub const LOAD_MEMBERS_MAX: usize = 5_000;
/// The most reservations that one [`Gate::pending_older_than`] call hands out.
pub const PENDING_PAGE_MAX: usize = 1_000;

/// Names one attempt to load a gate; the newest attempt wins, and an older one finds its token gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadToken(Uuid);

impl LoadToken {
    /// A token from a fresh id of the caller's.
    #[must_use]
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    fn request(self) -> RequestId {
        RequestId::from_uuid(self.0)
    }
}

/// Whether a gate may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateState {
    /// Redis knows nothing of it.
    Absent,
    /// A load is under way, or died half-way; or it was shut.
    Loading,
    /// It answers.
    Open,
    /// It was opened or loaded under another run id of the server.
    OtherRun,
}

impl GateState {
    /// Whether it has to be loaded before it can be asked.
    #[must_use]
    pub const fn is_cold(self) -> bool {
        !matches!(self, Self::Open)
    }

    /// The name in logs and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Loading => "loading",
            Self::Open => "open",
            Self::OtherRun => "other_run",
        }
    }
}

/// A gate as Redis holds it at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateStatus {
    /// Whether it may be asked.
    pub state: GateState,
    /// Everything below this offset of the coupon's partition is applied.
    pub cursor: Option<i64>,
    /// Members in the set: holders of an issue and of a reservation.
    pub members: i64,
    /// Reservations among them.
    pub pending: i64,
    /// Seats in all.
    pub total: Option<i64>,
    /// The readable copy of the seats left.
    pub stock: Option<i64>,
    /// When the reservation that waits longest was last published or handed out.
    pub oldest_publish: Option<Timestamp>,
    /// Redis' clock.
    pub now: Timestamp,
    /// The coupon's partition.
    pub partition: Option<i64>,
    /// Paused by an operator.
    pub paused: bool,
    /// Ended by an operator.
    pub ended: bool,
    /// Opening time.
    pub opens_at: Option<Timestamp>,
    /// Closing time.
    pub closes_at: Option<Timestamp>,
    /// The offset of the last rule change that the gate knows.
    pub rules_offset: Option<i64>,
}

impl Gate {
    /// Shuts a cold gate and starts a load. False when the gate is open under the server's run id: then there is nothing to do.
    /// Reservations of the lost gate are dropped; what was acknowledged of them stands in the log, which has to be drained
    /// before the members are read.
    ///
    /// # Errors
    /// [`GateError::Unavailable`]; starting again with the same token is safe until members were loaded.
    pub async fn begin_load(&self, code: &CouponCode, token: LoadToken) -> Result<bool, GateError> {
        let call = Call::new(&BEGIN_LOAD, code, 1).request(token.request());
        Ok(reply::integer(&self.connections.pooled(&call).await?)? == 1)
    }

    /// Adds up to [`LOAD_MEMBERS_MAX`] members. False when the token is gone (another attempt began, or Redis restarted); begin again.
    ///
    /// # Errors
    /// [`GateError::Unavailable`]; the same chunk may be sent again.
    pub async fn load(&self, code: &CouponCode, token: LoadToken, members: &[MemberId]) -> Result<bool, GateError> {
        at_most(members.len(), LOAD_MEMBERS_MAX)?;
        let mut call = Call::new(&LOAD, code, 1 + members.len()).request(token.request());
        for member in members {
            call = call.text(member.as_str());
        }
        Ok(reply::integer(&self.connections.pooled(&call).await?)? == 1)
    }

    /// Opens a loaded gate: the settler goes on from `cursor`. Answers the number of members; `None` when the token is gone.
    ///
    /// # Errors
    /// [`GateError::Unavailable`]; look at [`Gate::status`] to learn whether it opened.
    pub async fn open(
        &self,
        code: &CouponCode,
        token: LoadToken,
        rules: &GateRules,
        cursor: i64,
    ) -> Result<Option<i64>, GateError> {
        let call = rules.write(Call::new(&OPEN, code, 9).request(token.request()).number(cursor));
        let members = reply::integer(&self.connections.pooled(&call).await?)?;
        Ok((members >= 0).then_some(members))
    }

    /// Shuts an open gate that was seen at `cursor`, because that is an offset of a log that is gone. False when it is not open, or stands
    /// elsewhere by now.
    ///
    /// # Errors
    /// [`GateError::Unavailable`]; harmless when repeated.
    pub async fn shut(&self, code: &CouponCode, cursor: i64) -> Result<bool, GateError> {
        let call = Call::new(&SHUT, code, 1).number(cursor);
        Ok(reply::integer(&self.connections.pooled(&call).await?)? == 1)
    }

    /// Takes back up to [`RESERVE_MEMBERS_MAX`] reservations that [`Gate::pending_older_than`] handed out, because the log will never decide
    /// them. The answers come in the same order: true when it was taken back, false when it was settled, or is another one by now.
    ///
    /// # Errors
    /// [`GateError::Unavailable`]; harmless when repeated.
    pub async fn give_up(&self, code: &CouponCode, reservations: &[Reservation]) -> Result<Vec<bool>, GateError> {
        if reservations.is_empty() {
            return Ok(Vec::new());
        }
        at_most(reservations.len(), RESERVE_MEMBERS_MAX)?;
        let texts: Vec<String> = reservations.iter().map(|one| format!("{}:handed", one.text())).collect();
        release::read(self.connections.pooled(&release::call(code, reservations, &texts)).await?)
    }

    /// Hands out up to `limit` (at most [`PENDING_PAGE_MAX`]) reservations that nobody has undertaken to publish for `age`, the oldest
    /// first. From then on their makers cannot release them, and they are not handed out again before `age` has gone by once more.
    ///
    /// # Errors
    /// [`GateError::Cold`], [`GateError::Unavailable`].
    pub async fn pending_older_than(
        &self,
        code: &CouponCode,
        age: Duration,
        limit: usize,
    ) -> Result<Vec<Reservation>, GateError> {
        at_most(limit, PENDING_PAGE_MAX)?;
        let call = Call::new(&PENDING_OLDER_THAN, code, 2)
            .number(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
            .number(i64::try_from(limit).unwrap_or(i64::MAX));
        let mut values = reply::array(self.connections.pooled(&call).await?)?.into_iter();
        if reply::integer(&reply::next(&mut values)?)? == 0 {
            return Err(GateError::Cold);
        }
        let mut found = Vec::new();
        while let Some(member) = values.next() {
            found.push(Reservation {
                member: reply::parsed(&member)?,
                request: reply::parsed(&reply::next(&mut values)?)?,
                reserved_at: Timestamp::from_unix_ms(reply::parsed(&reply::next(&mut values)?)?),
            });
        }
        Ok(found)
    }

    /// The reservations that up to [`LOAD_MEMBERS_MAX`] members hold, in their order; writes nothing and hands nothing out.
    ///
    /// # Errors
    /// [`GateError::Cold`], [`GateError::Unavailable`].
    pub async fn pending_of(&self, code: &CouponCode, members: &[MemberId]) -> Result<Vec<Option<RequestId>>, GateError> {
        at_most(members.len(), LOAD_MEMBERS_MAX)?;
        if members.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = Call::new(&PENDING_OF, code, members.len());
        for member in members {
            call = call.text(member.as_str());
        }
        let mut values = reply::array(self.connections.hot(&call).await?)?.into_iter();
        if reply::integer(&reply::next(&mut values)?)? == 0 {
            return Err(GateError::Cold);
        }
        values.map(|value| if reply::text(&value)?.is_empty() { Ok(None) } else { reply::parsed(&value).map(Some) }).collect()
    }

    /// Looks at a gate; writes nothing.
    ///
    /// # Errors
    /// [`GateError::Unavailable`].
    pub async fn status(&self, code: &CouponCode) -> Result<GateStatus, GateError> {
        let call = Call::new(&STATUS, code, 0);
        let mut values = reply::array(self.connections.hot(&call).await?)?.into_iter();
        let mut next = || reply::next(&mut values);
        let state = match reply::integer(&next()?)? {
            0 => GateState::Absent,
            1 => GateState::Loading,
            2 => GateState::Open,
            3 => GateState::OtherRun,
            other => return Err(GateError::Reply(format!("status answered {other}"))),
        };
        let moment = |value: Option<i64>| value.map(Timestamp::from_unix_ms);
        Ok(GateStatus {
            state,
            cursor: reply::optional_number(&next()?)?,
            members: reply::integer(&next()?)?,
            pending: reply::integer(&next()?)?,
            total: reply::optional_number(&next()?)?,
            stock: reply::optional_number(&next()?)?,
            oldest_publish: moment(reply::optional_number(&next()?)?),
            now: Timestamp::from_unix_ms(reply::parsed(&next()?)?),
            partition: reply::optional_number(&next()?)?,
            paused: reply::text(&next()?)? == "1",
            ended: reply::text(&next()?)? == "1",
            opens_at: moment(reply::optional_number(&next()?)?),
            closes_at: moment(reply::optional_number(&next()?)?),
            rules_offset: reply::optional_number(&next()?)?,
        })
    }
}
