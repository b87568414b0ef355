//! The moves of orders and payments, as the database saw them, held against the two tables of states.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::orders::Sql;

/// Writes each move down, with its transaction.
pub const WATCH: &str = "
    CREATE TABLE moved (
        place bigint GENERATED ALWAYS AS IDENTITY, tx text NOT NULL DEFAULT pg_current_xact_id()::text,
        order_id text NOT NULL, payment_id text, was text NOT NULL, became text NOT NULL);
    CREATE FUNCTION order_moved() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO moved (order_id, was, became) VALUES (NEW.order_id, OLD.state, NEW.state); RETURN NULL; END $$;
    CREATE FUNCTION payment_moved() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO moved (order_id, payment_id, was, became) VALUES (NEW.order_id, NEW.payment_id, OLD.state, NEW.state); RETURN NULL; END $$;
    CREATE TRIGGER order_moved AFTER UPDATE ON customer_order FOR EACH ROW WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION order_moved();
    CREATE TRIGGER payment_moved AFTER UPDATE ON payment FOR EACH ROW WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION payment_moved();";

/// The moves of the table of an order's states.
const ORDER: [(&str, &str); 4] =
    [("PENDING", "COMPLETED"), ("PENDING", "FAILED"), ("PENDING", "CANCELLED"), ("COMPLETED", "CANCELLED")];

/// The moves of the table of a payment's states.
const PAYMENT: [(&str, &str); 9] = [
    ("PENDING", "SUCCESS"),
    ("PENDING", "FAILED"),
    ("PENDING", "REFUNDING"),
    ("FAILED", "REFUNDING"),
    ("PENDING", "REFUNDED"),
    ("FAILED", "REFUNDED"),
    ("SUCCESS", "REFUNDING"),
    ("REFUNDING", "REFUNDED"),
    ("REFUNDED", "REFUNDING"),
];

#[derive(Deserialize)]
struct Move {
    tx: String,
    order_id: String,
    payment_id: Option<String>,
    was: String,
    became: String,
}

/// What the moves of orders whose ids begin so do against the tables; empty if nothing. `payments` are each order's attempts.
pub async fn against_the_tables(sql: &Sql, beginning: &str, payments: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let query = format!(
        "SELECT coalesce(json_agg(m ORDER BY order_id, place), '[]')::text FROM moved m WHERE starts_with(order_id, '{beginning}')"
    );
    let moves: Vec<Move> = serde_json::from_str(&sql.text(&query).await).unwrap();
    let mut wrong = Vec::new();
    let mut state: BTreeMap<&str, &str> = payments.values().flatten().map(|payment| (payment.as_str(), "PENDING")).collect();
    let mut order_state: BTreeMap<&str, &str> = payments.keys().map(|order| (order.as_str(), "PENDING")).collect();
    // An order is locked by whoever moves it or its payments: order by order, transactions come one after the other.
    for transaction in moves.chunk_by(|one, next| one.tx == next.tx) {
        for Move { order_id, payment_id, was, became, .. } in transaction {
            let (table, at, who): (&[_], _, _) = match payment_id {
                None => (&ORDER, order_state.insert(order_id, became), order_id),
                Some(payment) => (&PAYMENT, state.insert(payment, became), payment),
            };
            if !table.contains(&(was.as_str(), became.as_str())) || at != Some(was.as_str()) {
                wrong.push(format!("{who} went from {was} to {became} and was {at:?}"));
            }
        }
        wrong.extend(transaction.iter().filter_map(|one| goes_alone(one, transaction, payments, &state)));
        wrong.extend(transaction.iter().filter_map(|one| cancelled_too_early(one, &moves, &state)));
    }
    wrong
}

/// What has to move together, or only when something else is over.
fn goes_alone(
    one: &Move,
    transaction: &[Move],
    payments: &BTreeMap<String, Vec<String>>,
    state: &BTreeMap<&str, &str>,
) -> Option<String> {
    let Move { order_id, payment_id, became, was, .. } = one;
    let together = |of_order: bool, became: &str| {
        let same =
            |other: &&Move| other.order_id == *order_id && other.payment_id.is_none() == of_order && other.became == became;
        transaction.iter().filter(same).count() == 1
    };
    let attempts = || payments.get(order_id).into_iter().flatten().filter_map(|payment| state.get(payment.as_str()).copied());
    let fine = match (payment_id, became.as_str()) {
        (None, "COMPLETED") => together(false, "SUCCESS"),
        (Some(_), "SUCCESS") => together(true, "COMPLETED") && attempts().filter(|state| *state == "SUCCESS").count() == 1,
        (None, "FAILED") => attempts().all(|state| matches!(state, "FAILED" | "REFUNDED")),
        (None, "CANCELLED") => was == "PENDING" || attempts().all(|state| !matches!(state, "SUCCESS" | "REFUNDING")),
        _ => true,
    };
    (!fine).then(|| format!("{order_id} {payment_id:?} became {became} with payments {:?}", attempts().collect::<Vec<_>>()))
}

/// A completed order is cancelled when the payment is back that had completed it.
fn cancelled_too_early(one: &Move, moves: &[Move], state: &BTreeMap<&str, &str>) -> Option<String> {
    if one.payment_id.is_some() || (one.was.as_str(), one.became.as_str()) != ("COMPLETED", "CANCELLED") {
        return None;
    }
    let success = moves.iter().find(|other| other.order_id == one.order_id && other.became == "SUCCESS");
    let paid_by = success.and_then(|success| success.payment_id.as_deref());
    let now = paid_by.and_then(|payment| state.get(payment).copied());
    (now != Some("REFUNDED"))
        .then(|| format!("{} was cancelled when {paid_by:?}, which had paid for it, was {now:?}", one.order_id))
}
