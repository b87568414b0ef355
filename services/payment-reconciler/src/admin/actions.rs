//! Who did what, to what, why, and what became of it.

use diesel::{sql_query, sql_types};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use crate::{error::LineError, line::operator::KEEP_ACTION};

/// An action that is kept.
pub(super) struct Action<'a> {
    pub actor: &'a str,
    pub action: &'static str,
    pub target: &'a str,
    pub reason: &'a str,
    pub outcome: &'a str,
    pub detail: Value,
}

/// Keeps an action, in the transaction of what it did where there is one.
pub(super) async fn keep(connection: &mut AsyncPgConnection, action: &Action<'_>) -> Result<(), LineError> {
    let Action { actor, action, target, reason, outcome, detail } = action;
    sql_query(KEEP_ACTION)
        .bind::<sql_types::Text, _>(*actor)
        .bind::<sql_types::Text, _>(*action)
        .bind::<sql_types::Text, _>(*target)
        .bind::<sql_types::Text, _>(*reason)
        .bind::<sql_types::Text, _>(*outcome)
        .bind::<sql_types::Text, _>(detail.to_string())
        .execute(connection)
        .await?;
    tracing::info!(actor, action, target, reason, outcome, "an operator acted");
    Ok(())
}
