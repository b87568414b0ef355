//! Which days should have been audited by night, and of which of them nobody can tell.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::RunQueryDsl;
use postgres_io::Db;

use super::{AuditSettings, auditor::Span, store};
use crate::error::LineError;

/// The nights that no audit told to their end, whoever made it, the oldest first; those alone that ended after audits of the gateway began. That
/// they begin is noted here, so that it is known although no audit was ever made.
const UNTOLD: &str = "WITH noted AS (INSERT INTO audited_gateway (provider) SELECT unnest($1) ON CONFLICT DO NOTHING) \
    SELECT g.provider, n.from_at, n.to_at, n.due_at \
    FROM audited_gateway g LEFT JOIN unnest($2, $3, $4) AS n (from_at, to_at, due_at) ON n.to_at > g.since \
        AND NOT EXISTS (SELECT FROM payment_audit a WHERE a.provider = g.provider AND a.from_at <= n.from_at AND a.to_at >= n.to_at \
            AND coalesce(a.settled_by >= n.to_at, true) AND a.verdict <> 'cannot_tell') \
    WHERE g.provider = ANY($1) ORDER BY g.provider, n.to_at";

/// A business day, and when it is to be audited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Night {
    pub(super) day: Span,
    pub(super) due: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = sql_types::Text)]
    provider: String,
    #[diesel(sql_type = sql_types::Nullable<sql_types::Timestamptz>)]
    from_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = sql_types::Nullable<sql_types::Timestamptz>)]
    to_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = sql_types::Nullable<sql_types::Timestamptz>)]
    due_at: Option<DateTime<Utc>>,
}

/// The last `audit.nights_max` nights that are due at this moment, the newest first.
pub(super) fn due(now: DateTime<Utc>, settings: &AuditSettings) -> Vec<Night> {
    let newest = newest(now, settings);
    let before = |night: &Night| {
        let (from, due) = (night.day.from, night.due);
        let day = TimeDelta::days(1);
        Some(Night { day: Span { from: from.checked_sub_signed(day)?, to: from }, due: due.checked_sub_signed(day)? })
    };
    let nights_max = usize::try_from(settings.nights_max).unwrap_or(usize::MAX);
    std::iter::successors(newest, before).take(nights_max).collect()
}

/// The newest business day since whose end enough time has passed.
fn newest(now: DateTime<Utc>, settings: &AuditSettings) -> Option<Night> {
    let offset = TimeDelta::minutes(i64::from(settings.day_offset_minutes));
    let after = TimeDelta::minutes(i64::from(settings.start_after_minutes));
    let last_end = now.checked_sub_signed(after)?.checked_add_signed(offset)?.date_naive();
    let to = last_end.and_hms_opt(0, 0, 0)?.and_utc().checked_sub_signed(offset)?;
    let from = to.checked_sub_signed(TimeDelta::days(1))?;
    Some(Night { day: Span { from, to }, due: to.checked_add_signed(after)? })
}

/// The nights of each gateway that nobody can tell of, the oldest first; an entry without any for a gateway of which all is told. A gateway that
/// is seen for the first time has none until it is looked at again.
pub(super) async fn untold(db: &Db, gateways: &[String], nights: &[Night]) -> Result<BTreeMap<String, Vec<Night>>, LineError> {
    let column = |of: fn(&Night) -> DateTime<Utc>| nights.iter().map(of).collect::<Vec<_>>();
    let mut connection = db.conn().await?;
    let rows: Vec<Row> = sql_query(UNTOLD)
        .bind::<sql_types::Array<sql_types::Text>, _>(gateways)
        .bind::<sql_types::Array<sql_types::Timestamptz>, _>(column(|night| night.day.from))
        .bind::<sql_types::Array<sql_types::Timestamptz>, _>(column(|night| night.day.to))
        .bind::<sql_types::Array<sql_types::Timestamptz>, _>(column(|night| night.due))
        .load(&mut connection)
        .await?;
    let mut untold: BTreeMap<String, Vec<Night>> = BTreeMap::new();
    for row in rows {
        let of_gateway = untold.entry(row.provider).or_default();
        if let (Some(from), Some(to), Some(due)) = (row.from_at, row.to_at, row.due_at) {
            of_gateway.push(Night { day: Span { from, to }, due });
        }
    }
    Ok(untold)
}

/// For how long the oldest of the last nights of each gateway has been waiting to be told, in seconds since it should have been audited; 0 where all
/// are told. Every replica says the same.
///
/// # Errors
/// PostgreSQL.
pub async fn overdue(db: &Db, gateways: &[String], settings: &AuditSettings) -> Result<BTreeMap<String, f64>, LineError> {
    let now = store::now(db).await?;
    let untold = untold(db, gateways, &due(now, settings)).await?;
    let waited = |nights: &[Night]| {
        let oldest = nights.first().map(|night| now.signed_duration_since(night.due));
        oldest.map_or(0.0, |waited| waited.as_seconds_f64().max(0.0))
    };
    Ok(untold.into_iter().map(|(gateway, nights)| (gateway, waited(&nights))).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn days(now: &str, day_offset_minutes: i32, nights_max: u32) -> Vec<(DateTime<Utc>, DateTime<Utc>, DateTime<Utc>)> {
        let settings = AuditSettings { day_offset_minutes, nights_max, start_after_minutes: 150, ..AuditSettings::default() };
        due(at(now), &settings).into_iter().map(|night| (night.day.from, night.day.to, night.due)).collect()
    }

    #[test]
    fn a_night_is_of_the_business_day_and_due_late_enough() {
        let of = |from: &str, to: &str, due: &str| vec![(at(from), at(to), at(due))];
        let before = of("2026-04-30T00:00:00Z", "2026-05-01T00:00:00Z", "2026-05-01T02:30:00Z");
        let first = of("2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z", "2026-05-02T02:30:00Z");
        assert_eq!(days("2026-05-02T02:29:59Z", 0, 1), before);
        assert_eq!(days("2026-05-02T02:30:00Z", 0, 1), first);
        assert_eq!(days("2026-05-02T23:59:59Z", 0, 1), first);
        // In Seoul the second of May begins at three in the afternoon of the first.
        let before = of("2026-04-29T15:00:00Z", "2026-04-30T15:00:00Z", "2026-04-30T17:30:00Z");
        let first = of("2026-04-30T15:00:00Z", "2026-05-01T15:00:00Z", "2026-05-01T17:30:00Z");
        assert_eq!(days("2026-05-01T17:29:59Z", 540, 1), before);
        assert_eq!(days("2026-05-01T17:30:00Z", 540, 1), first);
    }

    #[test]
    fn the_nights_before_it_follow_without_a_gap_as_many_as_are_made_up_for() {
        let nights = days("2026-05-02T12:00:00Z", 0, 3);
        let begins: Vec<_> = nights.iter().map(|(from, ..)| *from).collect();
        assert_eq!(begins, ["2026-05-01T00:00:00Z", "2026-04-30T00:00:00Z", "2026-04-29T00:00:00Z"].map(at));
        assert!(nights.iter().all(|(from, to, due)| *to - *from == TimeDelta::days(1) && *due - *to == TimeDelta::minutes(150)));
    }
}
