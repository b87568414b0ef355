//! Loading one gate from one snapshot of the database.

use diesel::{sql_query, sql_types};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::ids::CouponCode;
use redis_io::{Gate, GateRules, LoadToken};

use crate::{
    error::TaskError,
    repairs::holders_after,
    store::{COUPON_WITH_POSITION, Store, Watched, WatchedRow},
    walk::Walk,
};

/// A gate that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Members in its set.
    pub members: i64,
    /// Where the settler goes on.
    pub cursor: i64,
}

/// Streams the issued members of one snapshot into a shut gate, `page` at a time, and opens it with the snapshot's rules and decided
/// position. `None` when the token is gone, or when the snapshot is older than `end`: then nothing was opened.
///
/// # Errors
/// PostgreSQL, Redis, or the end of the process.
pub async fn load_and_open(
    store: &Store,
    gate: &Gate,
    code: &CouponCode,
    token: LoadToken,
    end: i64,
    page: usize,
    walk: &Walk,
) -> Result<Option<Opened>, TaskError> {
    let mut connection = store.connection().await?;
    let topic = store.topic.as_str();
    let connection: &mut AsyncPgConnection = &mut connection;
    // Coupon, position and members belong together, so all of them come from one snapshot.
    connection
        .build_transaction()
        .read_only()
        .repeatable_read()
        .run(async move |connection| {
            let watched = read_coupon(connection, topic, code).await?;
            let Some(cursor) = watched.position.map(|position| position.next_offset).filter(|&next_offset| next_offset >= end)
            else {
                return Ok(None);
            };
            let mut after = String::new();
            loop {
                if walk.stop.is_cancelled() {
                    return Err(TaskError::Stopped);
                }
                (walk.beat)();
                let members = holders_after(connection, code, &after, page).await?;
                let Some(last) = members.last() else { break };
                after = last.as_str().to_owned();
                let full = members.len() == page;
                if !gate.load(code, token, &members).await? {
                    return Ok(None);
                }
                service_kit::failpoint!("reconciler.gate.page_loaded");
                if !full {
                    break;
                }
            }
            service_kit::failpoint!("reconciler.gate.before_open");
            let opened = gate.open(code, token, &GateRules::from(&watched.coupon), cursor).await?;
            Ok(opened.map(|members| Opened { members, cursor }))
        })
        .await
}

async fn read_coupon(connection: &mut AsyncPgConnection, topic: &str, code: &CouponCode) -> Result<Watched, TaskError> {
    let rows: Vec<WatchedRow> = sql_query(format!("{} WHERE c.coupon_code = $2", *COUPON_WITH_POSITION))
        .bind::<sql_types::Text, _>(topic)
        .bind::<sql_types::Text, _>(code.as_str())
        .load(connection)
        .await?;
    rows.into_iter().next().ok_or_else(|| TaskError::UnknownCoupon(code.clone()))?.try_into()
}
