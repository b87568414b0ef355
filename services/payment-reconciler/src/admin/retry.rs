//! Retrying an order.

use diesel_async::{AsyncConnection, AsyncPgConnection};
use postgres_io::Db;
use serde_json::{Value, json};

use super::{
    Admin,
    actions::{Action, keep},
    body::Wish,
    orders::{Askable, ask, askable, foreseen, known},
};
use crate::{callbacks::hint, error::LineError, http::ApiError};

/// Makes an order's payments due at once, or says which would be.
pub(super) async fn retry(admin: &Admin, actor: &str, order: &str, wish: &Wish) -> Result<Value, ApiError> {
    let (_, attempts) = known(admin, order).await?;
    let Askable { askable, not_set_up } = askable(admin, &attempts, "nobody asks about that one")?;
    let due: Vec<&str> = askable.iter().map(|attempt| attempt.payment_id.as_str()).collect();
    if !wish.dry_run {
        let payments = due.iter().map(|payment| (*payment).to_owned()).collect();
        let retry = Retry { order: order.to_owned(), payments, actor: actor.to_owned(), reason: wish.reason.clone() };
        retry.make_due(admin.db.clone()).await?;
    }
    let mut why = "they are asked about ahead of everything else".to_owned();
    for attempt in &not_set_up {
        why.push_str(&format!("; {} is not: {}", attempt.payment_id, attempt.not_set_up()));
    }
    let mut told = json!({ "dryRun": wish.dry_run, "orderId": order, "due": due, "why": why });
    if wish.dry_run
        && let Some(told) = told.as_object_mut()
    {
        let mut payments = Vec::with_capacity(due.len());
        for attempt in askable {
            payments.push(match ask(admin, attempt).await {
                Ok(answer) => foreseen(admin, order, attempt, &answer).await?,
                Err(error) => json!({
                    "paymentId": attempt.payment_id, "state": attempt.state, "gatewaySays": error.to_string(),
                    "would": "wait: without an answer nothing is decided",
                }),
            });
        }
        told.insert("payments".to_owned(), Value::Array(payments));
    }
    Ok(told)
}

/// Payments that an operator wants to be due at once.
struct Retry {
    order: String,
    payments: Vec<String>,
    actor: String,
    reason: String,
}

impl Retry {
    /// Makes them due and keeps who wanted it, together: what is kept was done, and what was done is kept.
    async fn make_due(self, db: Db) -> Result<(), LineError> {
        // A task of its own: a caller that hangs up would drop this future in its transaction.
        let done = tokio::spawn(async move {
            let mut connection = db.conn().await?;
            connection.transaction(async |connection| self.hint_and_keep(connection).await).await
        });
        done.await.map_err(|_| LineError::TaskLost)?
    }

    async fn hint_and_keep(&self, connection: &mut AsyncPgConnection) -> Result<(), LineError> {
        let payments: Vec<&str> = self.payments.iter().map(String::as_str).collect();
        hint(connection, &payments, None).await?;
        let detail = json!({ "payments": payments });
        let (actor, target, reason) = (self.actor.as_str(), self.order.as_str(), self.reason.as_str());
        keep(connection, &Action { actor, action: "orders retry", target, reason, outcome: "done", detail }).await
    }
}
