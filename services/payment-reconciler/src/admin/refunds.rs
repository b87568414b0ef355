//! Holding a refund, and letting it go.

use diesel::{OptionalExtension, QueryableByName, sql_query, sql_types};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use serde_json::{Value, json};

use super::{
    Admin,
    actions::{Action, keep},
    body::Wish,
    listing,
};
use crate::{error::LineError, http::ApiError};

/// What is to be done with a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is not sent before it is released.
    Hold,
    /// It may be sent; one that waits for a person is tried again.
    Release,
}

#[derive(QueryableByName)]
struct Ids {
    #[diesel(sql_type = sql_types::Text)]
    order_id: String,
    #[diesel(sql_type = sql_types::Text)]
    payment_id: String,
}

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = sql_types::Text)]
    state: String,
    #[diesel(sql_type = sql_types::Bool)]
    held: bool,
}

/// The statement that does it and the words for it, or why it cannot be done.
fn decide(change: Change, state: &str, held: bool) -> Result<(&'static str, &'static str), String> {
    match (change, state, held) {
        (Change::Hold, _, true) => Err("it is held already".to_owned()),
        (Change::Hold, "REQUESTED" | "MANUAL", false) => {
            let hold =
                "UPDATE refund SET held = true, held_reason = $2, held_by = $3, updated_at = payment_now() WHERE refund_id = $1";
            Ok((hold, "it will not be sent before it is released; the gateway is still asked"))
        }
        (Change::Hold, state, false) => Err(format!("it is {state}: the gateway may have it already")),
        (Change::Release, _, true) => {
            let release = "UPDATE refund SET held = false, held_reason = NULL, held_by = NULL, updated_at = payment_now() \
                WHERE refund_id = $1 AND $2 <> '' AND $3 <> ''";
            Ok((release, "it will be sent after the gateway has been asked again"))
        }
        (Change::Release, "MANUAL", false) => {
            let again = "UPDATE refund SET state = 'REQUESTED', updated_at = payment_now() WHERE refund_id = $1 AND $2 <> '' AND $3 <> ''";
            Ok((again, "it will be tried once more after the gateway has been asked again"))
        }
        (Change::Release, state, false) => Err(format!("it is {state} and not held")),
    }
}

/// Holds or releases a refund, or says what that would do.
pub(super) async fn change(admin: &Admin, actor: &str, id: &str, wish: &Wish, change: Change) -> Result<Value, ApiError> {
    let before = listing::refund(&admin.db, id).await?.ok_or_else(|| ApiError::UnknownRefund(id.to_owned()))?;
    if wish.dry_run {
        let text = |field: &str| before.get(field).and_then(Value::as_str).unwrap_or_default();
        let held = before.get("held").and_then(Value::as_bool).unwrap_or(false);
        let (would, why) = match decide(change, text("state"), held) {
            Ok((_, what)) => (true, what.to_owned()),
            Err(why) => (false, why),
        };
        return Ok(json!({ "dryRun": true, "would": would, "why": why, "refund": before }));
    }
    let (db, actor, id, reason) = (admin.db.clone(), actor.to_owned(), id.to_owned(), wish.reason.clone());
    let refund = id.clone();
    // A task of its own: a caller that hangs up would drop this future in its transaction.
    let done = tokio::spawn(async move {
        let mut connection = db.conn().await?;
        connection.transaction(async |connection| apply(connection, &actor, &id, &reason, change).await).await
    });
    match done.await.map_err(|_| LineError::TaskLost)?? {
        Ok(what) => {
            let after = listing::refund(&admin.db, &refund).await?.unwrap_or(before);
            Ok(json!({ "dryRun": false, "would": true, "why": what, "refund": after }))
        }
        Err(why) => Err(ApiError::Refused(why)),
    }
}

async fn apply(
    connection: &mut AsyncPgConnection,
    actor: &str,
    id: &str,
    reason: &str,
    change: Change,
) -> Result<Result<&'static str, String>, LineError> {
    let ids: Option<Ids> = sql_query(
        "SELECT p.order_id, p.payment_id FROM refund r JOIN payment p ON p.payment_id = r.payment_id WHERE r.refund_id = $1",
    )
    .bind::<sql_types::Text, _>(id)
    .get_result(connection)
    .await
    .optional()?;
    let Some(Ids { order_id, payment_id }) = ids else { return Ok(Err("it is gone".to_owned())) };
    // Locked in the line's order: order, payment, refund.
    super::orders::lock(connection, &order_id).await?;
    sql_query("SELECT payment_id FROM payment WHERE payment_id = $1 FOR NO KEY UPDATE")
        .bind::<sql_types::Text, _>(&payment_id)
        .execute(connection)
        .await?;
    let locked: Locked = sql_query("SELECT state, held FROM refund WHERE refund_id = $1 FOR NO KEY UPDATE")
        .bind::<sql_types::Text, _>(id)
        .get_result(connection)
        .await?;
    let name = if change == Change::Hold { "refunds hold" } else { "refunds release" };
    let (statement, what) = match decide(change, &locked.state, locked.held) {
        Ok(decided) => decided,
        Err(why) => {
            let kept = Action { actor, action: name, target: id, reason, outcome: "refused", detail: json!({ "why": why }) };
            keep(connection, &kept).await?;
            return Ok(Err(why));
        }
    };
    sql_query(statement)
        .bind::<sql_types::Text, _>(id)
        .bind::<sql_types::Text, _>(reason)
        .bind::<sql_types::Text, _>(actor)
        .execute(connection)
        .await?;
    if change == Change::Release {
        sql_query(
            "UPDATE payment SET hinted_at = payment_now(), attention = false, attention_reason = NULL, attention_since = NULL \
             WHERE payment_id = $1",
        )
        .bind::<sql_types::Text, _>(&payment_id)
        .execute(connection)
        .await?;
    }
    let detail = json!({ "from": locked.state, "held": locked.held });
    keep(connection, &Action { actor, action: name, target: id, reason, outcome: "done", detail }).await?;
    Ok(Ok(what))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_may_be_on_its_way_is_not_held_and_only_what_waits_is_released() {
        use Change::{Hold, Release};
        let cases = [
            (Hold, "REQUESTED", false, true),
            (Hold, "REQUESTED", true, false),
            (Hold, "MANUAL", false, true),
            (Hold, "SENDING", false, false),
            (Hold, "ACCEPTED", false, false),
            (Hold, "CONFIRMED", false, false),
            (Release, "REQUESTED", true, true),
            (Release, "SENDING", true, true),
            (Release, "MANUAL", false, true),
            (Release, "REQUESTED", false, false),
            (Release, "SENDING", false, false),
            (Release, "CONFIRMED", false, false),
        ];
        for (change, state, held, may) in cases {
            assert_eq!(decide(change, state, held).is_ok(), may, "{change:?} {state} {held}");
        }
    }
}
