//! Taking a reservation back: this very one, and no other of the same member or under the same request id.

use deadpool_redis::redis::Value;
use domain::{
    clock::Timestamp,
    ids::{CouponCode, MemberId, RequestId},
};

use crate::{
    error::GateError,
    gate::{Gate, RESERVE_MEMBERS_MAX, at_most},
    reply,
    script::{Call, RELEASE},
};

/// A reservation that waits for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Whose it is.
    pub member: MemberId,
    /// The request it was made for; publish it under this id and no other.
    pub request: RequestId,
    /// When it was made, by Redis' clock.
    pub reserved_at: Timestamp,
}

impl Reservation {
    /// As the gate keeps it, before anybody but its maker was given it.
    pub(crate) fn text(&self) -> String {
        format!("{}:{}", self.request.uuid().hyphenated(), self.reserved_at.unix_ms())
    }
}

impl Gate {
    /// Takes back a reservation whose publish was refused before it could reach a broker. True when it was taken back; false when
    /// somebody else was handed it since, when it was settled, when the gate is cold, or when the gate was lost meanwhile and the member
    /// reserved anew, even under the same id.
    ///
    /// # Errors
    /// [`GateError::Unavailable`]; the reservation then stays pending, and the reconciler publishes it.
    pub async fn release(&self, code: &CouponCode, reservation: &Reservation) -> Result<bool, GateError> {
        let released = self.release_all(code, std::slice::from_ref(reservation)).await?;
        Ok(released.first().copied().unwrap_or(false))
    }

    /// [`Gate::release`] for up to [`RESERVE_MEMBERS_MAX`] reservations of one coupon in one call; the answers come in the same order.
    ///
    /// # Errors
    /// As [`Gate::release`].
    pub async fn release_all(&self, code: &CouponCode, reservations: &[Reservation]) -> Result<Vec<bool>, GateError> {
        if reservations.is_empty() {
            return Ok(Vec::new());
        }
        at_most(reservations.len(), RESERVE_MEMBERS_MAX)?;
        let texts: Vec<String> = reservations.iter().map(Reservation::text).collect();
        read(self.connections.hot(&call(code, reservations, &texts)).await?)
    }
}

/// A call of the script: each member with the whole text of his reservation.
pub(crate) fn call<'a>(code: &CouponCode, reservations: &'a [Reservation], texts: &'a [String]) -> Call<'a> {
    let call = Call::new(&RELEASE, code, reservations.len() * 2);
    reservations.iter().zip(texts).fold(call, |call, (one, text)| call.text(one.member.as_str()).text(text))
}

/// Its answers, one for each.
pub(crate) fn read(answer: Value) -> Result<Vec<bool>, GateError> {
    reply::array(answer)?.iter().map(|value| reply::integer(value).map(|released| released == 1)).collect()
}
