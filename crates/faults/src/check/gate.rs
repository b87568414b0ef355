//! C7: when all is quiet, Redis says what PostgreSQL says.

use std::collections::BTreeSet;

use domain::coupon::Admission;

use super::{Case, Kind};

/// Judges the gate.
pub fn hold(case: &mut Case<'_>) {
    if case.coupon.admission != Admission::Reserved {
        return;
    }
    let Some(gate) = case.coupon.gate.clone().filter(|gate| gate.is_open) else {
        case.add(Kind::GateShut, "gate", "open", "shut or not there");
        return;
    };
    let holders: BTreeSet<String> =
        case.coupon.rows.iter().filter(|row| row.outcome == "issued").filter_map(|row| row.member.clone()).collect();
    let members: BTreeSet<String> = gate.members.iter().cloned().collect();
    for member in members.difference(&holders) {
        case.add(Kind::RedisExtra, format!("member {member}"), "not in Redis: no issue", "in Redis");
    }
    for member in holders.difference(&members) {
        case.add(Kind::RedisMissing, format!("member {member}"), "in Redis: an issue", "not in Redis");
    }
    if gate.pending != 0 {
        case.add(Kind::RedisPending, "gate.pending", "0", gate.pending.to_string());
    }
    if gate.cursor != Some(case.coupon.position) {
        case.add(Kind::RedisCursor, "gate.cursor", case.coupon.position.to_string(), format!("{:?}", gate.cursor));
    }
    if let Some(coupon) = case.coupon.coupon.clone() {
        let left = coupon.total.saturating_sub(i64::try_from(holders.len()).unwrap_or(i64::MAX)).max(0);
        if (gate.total, gate.stock) != (Some(coupon.total), Some(left)) {
            let expected = format!("{} seats, {left} left", coupon.total);
            case.add(Kind::RedisStock, "gate.stock", expected, format!("{:?} seats, {:?} left", gate.total, gate.stock));
        }
    }
}
