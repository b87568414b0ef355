//! Holding a refund, and letting it go.

use std::sync::Arc;

use diesel::{OptionalExtension, QueryableByName, sql_query, sql_types};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use serde_json::{Value, json};

use super::{
    Admin, Hands,
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

/// How long ago a refund has to have been sent last before an operator may have it begun anew: the gateway may still be at it.
const SENT_BEFORE: &str = "10 minutes";

/// A refund as an operator finds it.
#[derive(Debug, Clone, QueryableByName)]
struct Seen {
    #[diesel(sql_type = sql_types::Text)]
    state: String,
    #[diesel(sql_type = sql_types::Bool)]
    held: bool,
    #[diesel(sql_type = sql_types::Text)]
    provider: String,
    /// Since when it is wanted, or wanted again, in milliseconds.
    #[diesel(sql_type = sql_types::BigInt)]
    age_ms: i64,
    /// It was sent since [`SENT_BEFORE`].
    #[diesel(sql_type = sql_types::Bool)]
    is_just_sent: bool,
    /// A replica looks after it at this moment: it may be on its way to the gateway.
    #[diesel(sql_type = sql_types::Bool)]
    is_busy: bool,
}

impl Seen {
    /// `locking` is the lock that is taken.
    async fn of(connection: &mut AsyncPgConnection, id: &str, locking: &str) -> Result<Option<Self>, LineError> {
        let query = format!(
            "SELECT r.state, r.held, p.provider, p.holder IS NOT NULL AS is_busy, \
                (extract(epoch FROM payment_now() - coalesce(r.reopened_at, r.created_at)) * 1000)::bigint AS age_ms, \
                coalesce(r.sending_since > payment_now() - interval '{SENT_BEFORE}', false) AS is_just_sent \
             FROM refund r JOIN payment p ON p.payment_id = r.payment_id WHERE r.refund_id = $1 {locking}"
        );
        Ok(sql_query(query).bind::<sql_types::Text, _>(id).get_result(connection).await.optional()?)
    }

    /// Whether it has been open for so long that an operator is shown it, and nothing of it can be on its way.
    fn is_old(&self, hands: &dyn Hands) -> Result<bool, LineError> {
        let provider = self.provider.parse().map_err(|error| LineError::Row(format!("provider {error}")))?;
        Ok(self.age_ms >= hands.refund_overdue_ms(&provider) && !self.is_just_sent)
    }
}

/// The statement that does it and the words for it, or why it cannot be done.
fn decide(change: Change, seen: &Seen, is_old: bool) -> Result<(&'static str, &'static str), String> {
    const HOLD: &str =
        "UPDATE refund SET held = true, held_reason = $2, held_by = $3, updated_at = payment_now() WHERE refund_id = $1";
    const RELEASE: &str = "UPDATE refund SET held = false, held_reason = NULL, held_by = NULL, updated_at = payment_now() \
        WHERE refund_id = $1 AND $2 <> '' AND $3 <> ''";
    const AGAIN: &str = "UPDATE refund SET state = 'REQUESTED', sending_since = NULL, held = false, held_reason = NULL, held_by = NULL, \
        updated_at = payment_now() WHERE refund_id = $1 AND $2 <> '' AND $3 <> ''";
    match (change, seen.state.as_str(), seen.held) {
        (Change::Hold, _, true) => Err("it is held already".to_owned()),
        (Change::Hold, "REQUESTED" | "MANUAL", false) => {
            Ok((HOLD, "it will not be sent before it is released; the gateway is still asked"))
        }
        (Change::Hold, state, false) => Err(format!("it is {state}: the gateway may have it already")),
        (Change::Release, "MANUAL", _) => Ok((
            AGAIN,
            "it will be tried once more after the gateway has been asked again; one that needs the payer's data waits for a person again",
        )),
        (Change::Release, _, true) => Ok((RELEASE, "it will be sent after the gateway has been asked again")),
        // Some gateways answer a repeated key with the failure that they stored with it, and one may forget what it took.
        (Change::Release, "SENDING" | "ACCEPTED", false) if is_old && !seen.is_busy => {
            Ok((AGAIN, "if the gateway shows no refund when it has been asked again, another attempt is sent under a new key"))
        }
        (Change::Release, "SENDING" | "ACCEPTED", false) if is_old => {
            Err("it is looked after at this moment: try again".to_owned())
        }
        (Change::Release, state, false) => Err(format!("it is {state} and not held")),
    }
}

/// Holds or releases a refund, or says what that would do.
pub(super) async fn change(admin: &Admin, actor: &str, id: &str, wish: &Wish, change: Change) -> Result<Value, ApiError> {
    let before = listing::refund(&admin.db, id).await?.ok_or_else(|| ApiError::UnknownRefund(id.to_owned()))?;
    if wish.dry_run {
        let mut connection = admin.db.conn().await.map_err(LineError::from)?;
        let seen = Seen::of(&mut connection, id, "").await?.ok_or_else(|| ApiError::UnknownRefund(id.to_owned()))?;
        let (would, why) = match decide(change, &seen, seen.is_old(admin.hands.as_ref())?) {
            Ok((_, what)) => (true, what.to_owned()),
            Err(why) => (false, why),
        };
        return Ok(json!({ "dryRun": true, "would": would, "why": why, "refund": before }));
    }
    let (db, hands, actor, id) = (admin.db.clone(), Arc::clone(&admin.hands), actor.to_owned(), id.to_owned());
    let (refund, reason) = (id.clone(), wish.reason.clone());
    // A task of its own: a caller that hangs up would drop this future in its transaction.
    let done = tokio::spawn(async move {
        let mut connection = db.conn().await?;
        connection.transaction(async |connection| apply(connection, hands.as_ref(), &actor, &id, &reason, change).await).await
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
    hands: &dyn Hands,
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
    let Some(seen) = Seen::of(connection, id, "FOR NO KEY UPDATE OF r").await? else { return Ok(Err("it is gone".to_owned())) };
    let name = if change == Change::Hold { "refunds hold" } else { "refunds release" };
    let (statement, what) = match decide(change, &seen, seen.is_old(hands)?) {
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
            // Other reasons are about the refund itself, and stay until it is confirmed.
            "UPDATE payment SET hinted_at = payment_now(), attention = attention AND attention_reason <> 'refund_held', \
                attention_since = CASE WHEN attention_reason <> 'refund_held' THEN attention_since END, \
                attention_reason = nullif(attention_reason, 'refund_held') \
             WHERE payment_id = $1",
        )
        .bind::<sql_types::Text, _>(&payment_id)
        .execute(connection)
        .await?;
    }
    let detail = json!({ "from": seen.state, "held": seen.held });
    keep(connection, &Action { actor, action: name, target: id, reason, outcome: "done", detail }).await?;
    Ok(Ok(what))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn seen(state: &str, held: bool, is_busy: bool) -> Seen {
        Seen { state: state.to_owned(), held, provider: "sim".to_owned(), age_ms: 0, is_just_sent: false, is_busy }
    }

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
            (Release, "MANUAL", true, true),
            (Release, "SENDING", true, true),
            (Release, "MANUAL", false, true),
            (Release, "REQUESTED", false, false),
            (Release, "SENDING", false, false),
            (Release, "CONFIRMED", false, false),
        ];
        for (change, state, held, may) in cases {
            assert_eq!(decide(change, &seen(state, held, false), false).is_ok(), may, "{change:?} {state} {held}");
        }
    }

    #[test]
    fn what_is_being_sent_is_begun_anew_only_when_it_is_old_and_nobody_is_at_it() {
        for (is_old, is_busy, may) in [(true, false, true), (true, true, false), (false, false, false), (false, true, false)] {
            for state in ["SENDING", "ACCEPTED"] {
                let seen = seen(state, false, is_busy);
                assert_eq!(decide(Change::Release, &seen, is_old).is_ok(), may, "{is_old} {seen:?}");
            }
        }
    }
}
