//! C7: when all is quiet, Redis says what PostgreSQL says.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::Context;
use domain::{coupon::Admission, ids::CouponCode};
use kafka_io::LogClient;
use redis_io::{Gate, GateState, GateStatus};

use super::difference::{Differences, Kind};
use crate::{pg, settings::Settings};

/// How often the gate is looked at until it is quiet.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Rows in one page.
const PAGE: i64 = 10_000;

/// Compares a coupon's gate once it is quiet; `Err(why)` inside when it does not become quiet in time.
///
/// # Errors
/// Redis, Kafka or PostgreSQL cannot be reached.
pub async fn compare(
    settings: &Settings,
    db: &postgres_io::Db,
    kafka: &LogClient,
    code: &CouponCode,
    quiet: Duration,
    differences: &mut Differences,
) -> anyhow::Result<Result<(), String>> {
    let gate = Gate::connect(&settings.redis).await.with_context(|| settings.redis_hint())?;
    let deadline = Instant::now() + quiet;
    loop {
        let status = gate.status(code).await.with_context(|| settings.redis_hint())?;
        let mut connection = pg::connection(db, settings).await?;
        pg::begin_snapshot(&mut connection).await?;
        let (coupon, why) = busy(settings, kafka, &mut connection, code, &status).await?;
        if why.is_none() {
            let members = redis_members(settings, &gate, code).await?;
            let issued = issued_members(&mut connection, code).await?;
            pg::end_snapshot(&mut connection).await?;
            // Whatever moved meanwhile makes the comparison worthless, not wrong: look again.
            if gate.status(code).await.with_context(|| settings.redis_hint())?.cursor == status.cursor {
                hold(&status, coupon.as_ref(), &members, &issued, differences);
                return Ok(Ok(()));
            }
        } else {
            pg::end_snapshot(&mut connection).await?;
        }
        if Instant::now() >= deadline {
            return Ok(Err(why.unwrap_or_else(|| "the gate keeps moving".to_owned())));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The coupon, and why the line is not quiet; none when it is.
async fn busy(
    settings: &Settings,
    kafka: &LogClient,
    connection: &mut pg::Connection,
    code: &CouponCode,
    status: &GateStatus,
) -> anyhow::Result<(Option<pg::CouponRow>, Option<String>)> {
    let topic = &settings.kafka.topics.created;
    let Some(coupon) = pg::coupon(connection, code.as_str()).await? else {
        return Ok((None, Some("the coupon is not in the database".to_owned())));
    };
    let positions = pg::positions(connection, topic).await?;
    let position = positions.iter().find(|row| row.partition == coupon.partition).map_or(0, |row| row.next_offset);
    let end = kafka.watermarks(topic, coupon.partition).await.with_context(|| settings.kafka_hint())?.high;
    let why = if status.state != GateState::Open {
        Some(format!("the gate is {}", status.state.as_str()))
    } else if position < end {
        Some(format!("{} records are not decided yet", end - position))
    } else if status.cursor != Some(position) {
        Some(format!("the settler is at {:?}, decided is {position}", status.cursor))
    } else if status.pending > 0 {
        Some(format!("{} reservations are pending", status.pending))
    } else {
        None
    };
    Ok((Some(coupon), why))
}

fn hold(
    status: &GateStatus,
    coupon: Option<&pg::CouponRow>,
    members: &HashSet<String>,
    issued: &HashSet<String>,
    differences: &mut Differences,
) {
    for member in members.difference(issued) {
        differences.add(
            Kind::GateExtraMember,
            format!("member {member}"),
            "not in coupon:issued",
            "in Redis, no issue in PostgreSQL",
        );
    }
    for member in issued.difference(members) {
        differences.add(
            Kind::GateMissingMember,
            format!("member {member}"),
            "in coupon:issued",
            "issued in PostgreSQL, not in Redis",
        );
    }
    let Some(coupon) = coupon else { return };
    let size = i64::try_from(members.len()).unwrap_or(i64::MAX);
    let stock = coupon.total_quantity.saturating_sub(size).max(0);
    let at = |at: Option<domain::clock::Timestamp>| at.map_or(-1, domain::clock::Timestamp::unix_ms);
    let fields = [
        ("total", coupon.total_quantity, status.total.unwrap_or(-1)),
        ("stock", stock, status.stock.unwrap_or(-1)),
        ("paused", i64::from(coupon.paused), i64::from(status.paused)),
        ("ended", i64::from(coupon.ended), i64::from(status.ended)),
        ("opensAt", at(coupon.opens_at.map(Into::into)), at(status.opens_at)),
        ("closesAt", at(coupon.closes_at.map(Into::into)), at(status.closes_at)),
    ];
    for (field, expected, found) in fields {
        if expected != found {
            differences.add(Kind::GateWrongState, format!("gate.{field}"), expected.to_string(), found.to_string());
        }
    }
}

/// Whether coupons of this kind have a gate.
#[must_use]
pub fn has_gate(coupon: &pg::CouponRow) -> bool {
    coupon.admission == Admission::Reserved.as_str()
}

/// The members in the gate, by scans: SMEMBERS of a large set would stop everybody else.
async fn redis_members(settings: &Settings, gate: &Gate, code: &CouponCode) -> anyhow::Result<HashSet<String>> {
    let mut members = HashSet::new();
    let mut cursor = 0_u64;
    loop {
        let (next, page) = gate.members_from(code, cursor).await.with_context(|| settings.redis_hint())?;
        members.extend(page);
        if next == 0 {
            return Ok(members);
        }
        cursor = next;
    }
}

async fn issued_members(connection: &mut pg::Connection, code: &CouponCode) -> anyhow::Result<HashSet<String>> {
    let mut members = HashSet::new();
    let mut after = String::new();
    loop {
        let page = pg::issued_members_page(connection, code.as_str(), &after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(members) };
        after.clone_from(last);
        members.extend(page);
    }
}
