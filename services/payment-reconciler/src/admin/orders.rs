//! Resolving an order, and what is known of it.

use diesel::{OptionalExtension, QueryableByName, sql_query, sql_types};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use domain::payment::{Money, OrderId, PaymentId, PgAnswer, PgPayment, PgReference, PgRefundState, ProviderName, RefundId};
use serde_json::{Value, json};

use super::{
    Admin,
    actions::{Action, keep},
    body::Wish,
    listing,
};
use crate::{
    error::LineError,
    http::ApiError,
    line::{
        foresight::said,
        operator::{OnBehalf, Told},
    },
};

/// One of an order's payments.
#[derive(Debug, Clone, QueryableByName)]
pub(super) struct Attempt {
    #[diesel(sql_type = sql_types::Text)]
    pub payment_id: String,
    #[diesel(sql_type = sql_types::Text)]
    provider: String,
    #[diesel(sql_type = sql_types::Text)]
    reference: String,
    #[diesel(sql_type = sql_types::Text)]
    pub state: String,
}

impl Attempt {
    fn is_set_up(&self, admin: &Admin) -> bool {
        self.provider.parse::<ProviderName>().is_ok_and(|name| admin.providers.contains_key(&name))
    }

    pub(super) fn not_set_up(&self) -> String {
        format!("its gateway `{0}` is not set up here (settings `providers.{0}`)", self.provider)
    }
}

#[derive(QueryableByName)]
struct OrderRow {
    #[diesel(sql_type = sql_types::Text)]
    state: String,
}

/// Locks an order, as the line does first; its state.
pub(super) async fn lock(connection: &mut AsyncPgConnection, order: &str) -> Result<String, LineError> {
    let row: OrderRow = sql_query("SELECT state FROM customer_order WHERE order_id = $1 FOR NO KEY UPDATE")
        .bind::<sql_types::Text, _>(order)
        .get_result(connection)
        .await?;
    Ok(row.state)
}

async fn attempts(connection: &mut AsyncPgConnection, order: &str) -> Result<Vec<Attempt>, LineError> {
    Ok(sql_query(
        "SELECT payment_id, provider, reference, state FROM payment WHERE order_id = $1 ORDER BY created_at, payment_id",
    )
    .bind::<sql_types::Text, _>(order)
    .load(connection)
    .await?)
}

/// An order's state and its payments, or that nobody knows it.
pub(super) async fn known(admin: &Admin, order: &str) -> Result<(String, Vec<Attempt>), ApiError> {
    let mut connection = admin.db.conn().await.map_err(LineError::from)?;
    let row: Option<OrderRow> = sql_query("SELECT state FROM customer_order WHERE order_id = $1")
        .bind::<sql_types::Text, _>(order)
        .get_result(&mut connection)
        .await
        .optional()
        .map_err(LineError::from)?;
    let row = row.ok_or_else(|| ApiError::UnknownOrder(order.to_owned()))?;
    Ok((row.state, attempts(&mut connection, order).await?))
}

/// What the gateways can be asked about an order.
pub(super) struct Askable<'a> {
    pub askable: Vec<&'a Attempt>,
    /// Those whose gateway is not in the settings.
    pub not_set_up: Vec<&'a Attempt>,
}

/// The attempts that are no success; refused, with the reason, if there are none that anybody can ask about.
pub(super) fn askable<'a>(admin: &Admin, attempts: &'a [Attempt], of_success: &str) -> Result<Askable<'a>, ApiError> {
    if attempts.is_empty() {
        let why =
            "it has no payment, so there is nothing to ask a gateway about; the order service adds one, or cancels the order";
        return Err(ApiError::Refused(why.to_owned()));
    }
    let open = attempts.iter().filter(|attempt| attempt.state != "SUCCESS");
    let (askable, not_set_up): (Vec<_>, Vec<_>) = open.partition(|attempt| attempt.is_set_up(admin));
    match (askable.is_empty(), not_set_up.as_slice().first()) {
        (false, _) => Ok(Askable { askable, not_set_up }),
        (true, Some(attempt)) => Err(ApiError::Refused(format!("{}; nobody can ask about its payment", attempt.not_set_up()))),
        (true, None) => Err(ApiError::Refused(format!("its payment is a success; {of_success}"))),
    }
}

/// What an order is to be resolved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolve {
    /// Ask about each attempt now, and do what the answers say.
    Settle,
    /// Give the money of a completed order back and cancel it.
    Cancel,
}

impl Resolve {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "settle" => Some(Self::Settle),
            "cancel" => Some(Self::Cancel),
            _ => None,
        }
    }
}

/// Resolves an order after a fresh ask, or says what that would do and why.
pub(super) async fn resolve(admin: &Admin, actor: &str, order: &str, wish: &Wish, how: Resolve) -> Result<Value, ApiError> {
    let (state, attempts) = known(admin, order).await?;
    let done = match how {
        Resolve::Settle => settle(admin, actor, order, &attempts, wish).await,
        Resolve::Cancel => cancel(admin, actor, order, &state, &attempts, wish).await,
    };
    // What was done is kept in the transaction that did it.
    if let Err(error) = &done
        && !wish.dry_run
    {
        let (outcome, detail) = ("refused", json!({ "why": error.to_string() }));
        let action = if how == Resolve::Settle { "orders resolve settle" } else { "orders resolve cancel" };
        let mut connection = admin.db.conn().await.map_err(LineError::from)?;
        keep(&mut connection, &Action { actor, action, target: order, reason: &wish.reason, outcome, detail }).await?;
    }
    let after = if wish.dry_run { None } else { listing::order(&admin.db, order).await? };
    Ok(json!({ "dryRun": wish.dry_run, "orderId": order, "payments": done?, "order": after }))
}

async fn settle(admin: &Admin, actor: &str, order: &str, attempts: &[Attempt], wish: &Wish) -> Result<Value, ApiError> {
    let Askable { askable, not_set_up } = askable(admin, attempts, "to give the money back, resolve it by cancel")?;
    let mut told = Vec::with_capacity(attempts.len());
    for attempt in not_set_up {
        let said = format!("nothing, because {}", attempt.not_set_up());
        let mut entry = json!({ "paymentId": attempt.payment_id, "state": attempt.state, "gatewaySays": said });
        if wish.dry_run
            && let Some(entry) = entry.as_object_mut()
        {
            entry.insert("would".to_owned(), json!("wait: without an answer nothing is decided"));
        }
        told.push(entry);
    }
    for attempt in askable {
        let payment: PaymentId = attempt.payment_id.parse().map_err(|error: domain::ids::IdError| ApiError::internal(&error))?;
        told.push(if wish.dry_run {
            let answer = ask(admin, attempt).await?;
            foreseen(admin, order, attempt, &answer).await?
        } else {
            let by = OnBehalf { actor: actor.to_owned(), reason: wish.reason.clone() };
            let outcome = match admin.hands.settle_now(&payment, by).await? {
                Told::Done(outcome) => outcome.as_str(),
                Told::Success => "it is a success by now",
                Told::Busy => return Err(ApiError::Busy),
            };
            json!({ "paymentId": attempt.payment_id, "state": attempt.state, "outcome": outcome })
        });
    }
    Ok(Value::Array(told))
}

/// An attempt with what the gateway says of it, and what that would come to.
pub(super) async fn foreseen(admin: &Admin, order: &str, attempt: &Attempt, answer: &PgAnswer) -> Result<Value, ApiError> {
    let unreadable = |error: domain::ids::IdError| ApiError::internal(&error);
    let (order, payment): (OrderId, PaymentId) =
        (order.parse().map_err(unreadable)?, attempt.payment_id.parse().map_err(unreadable)?);
    let would = admin.hands.foresee(&order, &payment, answer).await?;
    Ok(json!({ "paymentId": attempt.payment_id, "state": attempt.state, "gatewaySays": said(answer), "would": would }))
}

async fn cancel(
    admin: &Admin,
    actor: &str,
    order: &str,
    state: &str,
    attempts: &[Attempt],
    wish: &Wish,
) -> Result<Value, ApiError> {
    if state != "COMPLETED" {
        let why =
            format!("it is {state}; an operator cancels completed orders, and the order service cancels those that are not paid");
        return Err(ApiError::Refused(why));
    }
    let Some(attempt) = attempts.iter().find(|attempt| attempt.state == "SUCCESS") else {
        let back = attempts.iter().any(|attempt| attempt.state == "REFUNDING");
        let why = if back { "its money is on the way back already" } else { "it has no successful payment" };
        return Err(ApiError::Refused(why.to_owned()));
    };
    let PgAnswer::Found(pg) = ask(admin, attempt).await? else {
        return Err(ApiError::Refused("the gateway does not know its payment; nothing can be given back".to_owned()));
    };
    let amount = to_give_back(&pg).ok_or_else(|| ApiError::Refused("the gateway's amounts do not add up".to_owned()))?;
    let by_person = pg.refund_needs_payer;
    let steps = what_follows(&pg);
    let said = said(&PgAnswer::Found(pg));
    if !wish.dry_run {
        let payment: PaymentId = attempt.payment_id.parse().map_err(|error: domain::ids::IdError| ApiError::internal(&error))?;
        let target = Target {
            order: order.to_owned(),
            refund: admin.hands.refund_id(&payment),
            payment,
            actor: actor.to_owned(),
            amount,
            by_person,
        };
        let (db, wish, said) = (admin.db.clone(), wish.clone(), said.clone());
        // A task of its own: a caller that hangs up would drop this future in its transaction.
        let opened = tokio::spawn(async move {
            let mut connection = db.conn().await?;
            connection.transaction(async |connection| target.open_refund(connection, &wish, &said).await).await
        });
        if !opened.await.map_err(|_| LineError::TaskLost)?? {
            return Err(ApiError::Refused("somebody else moved it meanwhile".to_owned()));
        }
    }
    Ok(json!([{ "paymentId": attempt.payment_id, "state": attempt.state, "gatewaySays": said, "would": steps }]))
}

/// What a cancel comes to.
fn what_follows(pg: &PgPayment) -> &'static str {
    if pg.held().is_some_and(|held| held.amount == 0) {
        "nothing is sent: the gateway shows that the money is back already; the order is cancelled once that is written down"
    } else if pg.refunds.iter().any(|refund| refund.state == PgRefundState::Pending) {
        "nothing is sent while the gateway is at a refund already; the order is cancelled once all of the money is back"
    } else if pg.refund_needs_payer {
        "a refund that needs the payer's data is opened; the order is cancelled once the gateway shows it"
    } else {
        "a refund is opened and driven; the order is cancelled once the gateway confirms it"
    }
}

/// All that is held; of what came and went at the gateway already, what came, so that the refund can be confirmed.
fn to_give_back(pg: &PgPayment) -> Option<Money> {
    let held = pg.held()?;
    let amount = if held.amount > 0 { held } else { pg.captured };
    (held.amount >= 0 && amount.amount > 0).then_some(amount)
}

/// A completed order that is to be cancelled.
struct Target {
    order: String,
    payment: PaymentId,
    refund: RefundId,
    actor: String,
    amount: Money,
    by_person: bool,
}

impl Target {
    /// Payment → REFUNDING with its refund, together. False if they are not any more where they were.
    async fn open_refund(&self, connection: &mut AsyncPgConnection, wish: &Wish, said: &str) -> Result<bool, LineError> {
        let state = lock(connection, &self.order).await?;
        let moved = sql_query(
            "UPDATE payment SET state = 'REFUNDING', next_check_at = payment_now(), hinted_at = payment_now(), checks = 0, \
             updated_at = payment_now() WHERE payment_id = $1 AND state = 'SUCCESS' AND $2 = 'COMPLETED'",
        )
        .bind::<sql_types::Text, _>(self.payment.as_str())
        .bind::<sql_types::Text, _>(&state)
        .execute(connection)
        .await?;
        if moved == 0 {
            return Ok(false);
        }
        let id = self.refund.as_str();
        sql_query(
            "INSERT INTO refund (refund_id, payment_id, amount, currency, reason, actor, automatic, restock, state) \
             VALUES ($1, $2, $3, $4, 'OPERATOR', $5, false, $6, $7)",
        )
        .bind::<sql_types::Text, _>(id)
        .bind::<sql_types::Text, _>(self.payment.as_str())
        .bind::<sql_types::BigInt, _>(self.amount.amount)
        .bind::<sql_types::Text, _>(self.amount.currency.as_str())
        .bind::<sql_types::Text, _>(&self.actor)
        .bind::<sql_types::Bool, _>(wish.restock)
        .bind::<sql_types::Text, _>(if self.by_person { "MANUAL" } else { "REQUESTED" })
        .execute(connection)
        .await?;
        let detail = json!({ "refundId": id, "amount": self.amount.amount, "currency": self.amount.currency.as_str(),
            "restock": wish.restock, "gatewaySaid": said });
        let action = Action {
            actor: &self.actor,
            action: "orders resolve cancel",
            target: &self.order,
            reason: &wish.reason,
            outcome: "done",
            detail,
        };
        keep(connection, &action).await?;
        Ok(true)
    }
}

/// A fresh ask, in its turn like any other.
pub(super) async fn ask(admin: &Admin, attempt: &Attempt) -> Result<PgAnswer, ApiError> {
    let unreadable = |error: domain::ids::IdError| ApiError::internal(&error);
    let name: ProviderName = attempt.provider.parse().map_err(unreadable)?;
    let reference: PgReference = attempt.reference.parse().map_err(unreadable)?;
    Ok(admin.hands.ask(&name, &reference).await?)
}
