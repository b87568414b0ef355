//! What the full comparison of a gate with the ledger reads and repairs, in steps that hold nobody else up.

use deadpool_redis::redis::{self, Value};
use domain::ids::{CouponCode, MemberId};

use crate::{
    error::GateError,
    gate::{Gate, at_most},
    keys,
    maintain::LOAD_MEMBERS_MAX,
    reply,
    script::{ADD, Call, HOLDS, REMOVE},
};

/// One step over a gate's set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where the next step goes on; none at the end.
    pub next: Option<u64>,
    /// Members, those with a waiting reservation among them. One may come twice. Texts, not ids: whatever somebody put there has to be seen.
    pub members: Vec<String>,
}

/// What came of a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// For each member, in their order, whether he was taken out. Who was not is not there any more, or has a reservation that waits.
    Done(Vec<bool>),
    /// Nothing was done: the settler stands at this cursor, past the snapshot that the members were judged by. Judge them anew.
    CursorAt(i64),
}

impl Gate {
    /// One step over the set from `from` (0 at first), looking at about `count` entries. A plain command, which costs Redis a fraction of a
    /// script: it says nothing about the state of the gate, so that it may only name suspects.
    ///
    /// # Errors
    /// [`GateError::Unavailable`], [`GateError::Reply`] for a member that is no text.
    pub async fn scan(&self, code: &CouponCode, from: u64, count: usize) -> Result<Step, GateError> {
        let mut command = redis::cmd("SSCAN");
        command.arg(keys::issued(code)).arg(from).arg("COUNT").arg(count);
        let mut values = reply::array(self.connections.read("sscan", &command).await?)?.into_iter();
        let next: u64 = reply::parsed(&reply::next(&mut values)?)?;
        let members = reply::array(reply::next(&mut values)?)?;
        let members = members.into_iter().map(reply::owned_text).collect::<Result<_, _>>()?;
        Ok(Step { next: (next != 0).then_some(next), members })
    }

    /// Which of up to [`LOAD_MEMBERS_MAX`] members are in the set, in their order, whatever the state of the gate. A plain command like
    /// [`Gate::scan`]: whoever seems to be missing has to be asked for by [`Gate::holds`].
    ///
    /// # Errors
    /// [`GateError::Unavailable`].
    pub async fn seems_to_hold(&self, code: &CouponCode, members: &[MemberId]) -> Result<Vec<bool>, GateError> {
        at_most(members.len(), LOAD_MEMBERS_MAX)?;
        if members.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = members.iter().map(|member| member.as_str().len()).sum();
        let mut command = redis::Cmd::with_capacity(members.len().saturating_add(2), bytes);
        command.arg("SMISMEMBER").arg(keys::issued(code));
        for member in members {
            command.arg(member.as_str());
        }
        let values = reply::array(self.connections.read("smismember", &command).await?)?;
        values.iter().map(|held| reply::integer(held).map(|held| held == 1)).collect()
    }

    /// Which of up to [`LOAD_MEMBERS_MAX`] members are in the set, in their order.
    ///
    /// # Errors
    /// [`GateError::Cold`], [`GateError::Unavailable`].
    pub async fn holds(&self, code: &CouponCode, members: &[MemberId]) -> Result<Vec<bool>, GateError> {
        at_most(members.len(), LOAD_MEMBERS_MAX)?;
        if members.is_empty() {
            return Ok(Vec::new());
        }
        let call = members.iter().fold(Call::new(&HOLDS, code, members.len()), |call, member| call.text(member.as_str()));
        warm(self.connections.hot(&call).await?)?.iter().map(|held| reply::integer(held).map(|held| held == 1)).collect()
    }

    /// Adds up to [`LOAD_MEMBERS_MAX`] members who hold an issue; answers how many were not there. Harmless when repeated.
    ///
    /// # Errors
    /// [`GateError::Cold`], [`GateError::Unavailable`].
    pub async fn add(&self, code: &CouponCode, members: &[MemberId]) -> Result<i64, GateError> {
        at_most(members.len(), LOAD_MEMBERS_MAX)?;
        if members.is_empty() {
            return Ok(0);
        }
        let call = members.iter().fold(Call::new(&ADD, code, members.len()), |call, member| call.text(member.as_str()));
        let mut values = warm(self.connections.hot(&call).await?)?.into_iter();
        reply::integer(&reply::next(&mut values)?)
    }

    /// Takes up to [`LOAD_MEMBERS_MAX`] members out who hold no issue in a snapshot of the ledger that is decided up to `position`. The
    /// stock follows from the set, so that each seat comes back once, however often this is repeated.
    ///
    /// # Errors
    /// [`GateError::Cold`], [`GateError::Unavailable`].
    pub async fn remove(&self, code: &CouponCode, position: i64, members: &[String]) -> Result<Removal, GateError> {
        at_most(members.len(), LOAD_MEMBERS_MAX)?;
        let call = Call::new(&REMOVE, code, 1 + members.len()).number(position);
        let call = members.iter().fold(call, |call, member| call.text(member));
        let mut values = reply::array(self.connections.hot(&call).await?)?.into_iter();
        match reply::integer(&reply::next(&mut values)?)? {
            0 => Err(GateError::Cold),
            1 => Ok(Removal::CursorAt(reply::parsed(&reply::next(&mut values)?)?)),
            _ => values.map(|taken| reply::integer(&taken).map(|taken| taken == 1)).collect::<Result<_, _>>().map(Removal::Done),
        }
    }
}

/// The values of an answer behind its first, which says whether the gate is cold.
fn warm(answer: Value) -> Result<Vec<Value>, GateError> {
    let mut values = reply::array(answer)?;
    if reply::integer(values.first().unwrap_or(&Value::Nil))? == 0 {
        return Err(GateError::Cold);
    }
    values.remove(0);
    Ok(values)
}
