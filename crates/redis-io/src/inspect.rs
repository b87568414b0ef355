//! Looking into a gate in small steps: scans, so that a set of a million members holds nobody else up.

use std::collections::HashSet;

use deadpool_redis::redis::{self, AsyncCommands, FromRedisValue};
use domain::ids::{CouponCode, MemberId, RequestId};

use crate::{error::GateError, gate::Gate, keys};

/// Entries that one step of a scan looks at, roughly.
const SCAN_COUNT: usize = 1_000;
/// A reservation begins with its request id in text, see `lua/common.lua`.
const REQUEST_CHARS: usize = 36;

/// What a gate holds of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// He is in the set: a seat is his, issued or reserved.
    pub is_member: bool,
    /// The request that he is pending by.
    pub pending: Option<RequestId>,
}

impl Gate {
    /// Whose pending reservations these requests are. A reservation that stays pending all the time is found; one that comes or goes
    /// meanwhile may be, so that whoever acts on it has to name the request once more.
    ///
    /// # Errors
    /// [`GateError::Unavailable`]; [`GateError::Reply`] when something else lies under the key.
    pub async fn pending_by_request(
        &self,
        code: &CouponCode,
        requests: &HashSet<RequestId>,
    ) -> Result<Vec<(MemberId, RequestId)>, GateError> {
        let mut found = Vec::new();
        if requests.is_empty() {
            return Ok(found);
        }
        let mut cursor = 0_u64;
        loop {
            let (next, page): (u64, Vec<(String, String)>) = self.step("HSCAN", &keys::pending(code), cursor).await?;
            for (member, reservation) in page {
                let request = reservation.get(..REQUEST_CHARS).and_then(|id| id.parse::<RequestId>().ok());
                if let Some(request) = request.filter(|request| requests.contains(request)) {
                    let member = MemberId::new(member).map_err(|error| GateError::Reply(format!("a pending member {error}")))?;
                    found.push((member, request));
                }
            }
            if next == 0 {
                return Ok(found);
            }
            cursor = next;
        }
    }

    /// One step of a scan over the members, and where the next step goes on; 0 when it was the last. A member may come twice.
    ///
    /// # Errors
    /// As [`Gate::pending_by_request`].
    pub async fn members_from(&self, code: &CouponCode, cursor: u64) -> Result<(u64, Vec<String>), GateError> {
        self.step("SSCAN", &keys::issued(code), cursor).await
    }

    /// What the gate holds of a member, whoever opened it.
    ///
    /// # Errors
    /// As [`Gate::pending_by_request`].
    pub async fn held(&self, code: &CouponCode, member: &str) -> Result<Held, GateError> {
        let mut connection = self.connections.checked().await?;
        let is_member = connection.sismember(keys::issued(code), member).await.map_err(|error| read_failed(&error))?;
        let pending: Option<String> = connection.hget(keys::pending(code), member).await.map_err(|error| read_failed(&error))?;
        let pending = pending.and_then(|reservation| reservation.get(..REQUEST_CHARS).and_then(|id| id.parse().ok()));
        Ok(Held { is_member, pending })
    }

    async fn step<T: FromRedisValue>(&self, scan: &str, key: &str, cursor: u64) -> Result<T, GateError> {
        let mut connection = self.connections.checked().await?;
        let answer = redis::cmd(scan).arg(key).arg(cursor).arg("COUNT").arg(SCAN_COUNT).query_async(&mut connection).await;
        answer.map_err(|error| read_failed(&error))
    }
}

/// A read changes nothing, whatever became of it.
fn read_failed(error: &redis::RedisError) -> GateError {
    GateError::not_executed(error)
}
