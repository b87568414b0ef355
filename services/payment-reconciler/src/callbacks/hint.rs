//! Hints: a payment is wanted to be asked about ahead of everything else, by an ask that begins behind whatever caused the hint.

use diesel::{sql_query, sql_types};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::error::LineError;

/// A payment that is hinted at already needs nothing, unless somebody holds it: that ask may have begun before this hint's cause, and clears
/// the hint that it was claimed with. So a hint that comes during a claim is always another, later one, however coarse the clock is. An ask
/// of the future was before the clock stepped back: it was long ago. A success
/// is not asked about: only an operator moves it. Locks come in the order of ids, so that no two of these wait for each other.
const HINT: &str = "UPDATE payment SET hinted_at = greatest(payment_now(), hinted_at + interval '1 microsecond') WHERE payment_id IN \
    (SELECT payment_id FROM payment WHERE payment_id = ANY($1) AND state <> 'SUCCESS' AND (hinted_at IS NULL OR lease_until IS NOT NULL) \
     AND ($2::bigint IS NULL OR checked_at IS NULL OR checked_at <= payment_now() - $2 * interval '1 millisecond' \
        OR checked_at > payment_now()) \
     ORDER BY payment_id FOR NO KEY UPDATE)";

/// Too soon: it waits for its time in its row, once a payment. One that is due already and held by nobody needs nothing.
const HINT_LATER: &str = "UPDATE payment_callback c SET hint_at = p.checked_at + $3 * interval '1 millisecond' FROM payment p \
    WHERE c.callback_id = $1 AND p.payment_id = $2 AND p.state <> 'SUCCESS' AND p.checked_at IS NOT NULL \
    AND (p.hinted_at IS NULL OR p.lease_until IS NOT NULL) \
    AND NOT EXISTS (SELECT FROM payment_callback o WHERE o.payment_id = $2 AND o.hint_at IS NOT NULL)";

/// Makes payments due now; how many were not so already. With a gap, in milliseconds, only those that were not asked about within it.
///
/// # Errors
/// PostgreSQL.
pub async fn hint(connection: &mut AsyncPgConnection, payments: &[&str], gap_ms: Option<i64>) -> Result<usize, LineError> {
    Ok(sql_query(HINT)
        .bind::<sql_types::Array<sql_types::Text>, _>(payments)
        .bind::<sql_types::Nullable<sql_types::BigInt>, _>(gap_ms)
        .execute(connection)
        .await?)
}

/// Makes a payment due as a callback wants it: now, or when the gap since the last ask is over.
///
/// # Errors
/// PostgreSQL.
pub(super) async fn hint_when_allowed(
    connection: &mut AsyncPgConnection,
    callback: i64,
    payment: &str,
    gap_ms: i64,
) -> Result<(), LineError> {
    if hint(connection, &[payment], Some(gap_ms)).await? == 0 {
        sql_query(HINT_LATER)
            .bind::<sql_types::BigInt, _>(callback)
            .bind::<sql_types::Text, _>(payment)
            .bind::<sql_types::BigInt, _>(gap_ms)
            .execute(connection)
            .await?;
    }
    Ok(())
}
