//! `trueup orders …`.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    answers::{body, cell, items, print_table, say},
    api::Api,
    arguments::{OrdersCommand, ResolveAs},
};
use crate::{
    api::percent,
    exit::Exit,
    output::{self, Table},
    settings::Settings,
};

/// Does something with orders.
///
/// # Errors
/// No reconciler can be reached.
pub async fn orders(settings: &Settings, command: &OrdersCommand, json: bool) -> anyhow::Result<Exit> {
    let api = Api::new(settings)?;
    match command {
        OrdersCommand::Stale => stale(&api, json).await,
        OrdersCommand::Show(arg) => {
            let (status, answer) = api.call(Method::GET, &format!("/v1/admin/orders/{}", percent(&arg.order)), None).await?;
            say(status, &answer, json, show)
        }
        OrdersCommand::Retry(wish) => {
            let path = format!("/v1/admin/orders/{}/retry", percent(&wish.order));
            let (status, answer) = api.call(Method::POST, &path, Some(&body(&wish.why))).await?;
            say(status, &answer, json, retried)
        }
        OrdersCommand::Resolve(args) => {
            let path = format!("/v1/admin/orders/{}/resolve", percent(&args.order));
            let mut wish = body(&args.why);
            if let Some(object) = wish.as_object_mut() {
                let how = match args.how {
                    ResolveAs::Settle => "settle",
                    ResolveAs::Cancel => "cancel",
                };
                object.insert("action".to_owned(), json!(how));
                object.insert("restock".to_owned(), json!(args.restock));
            }
            let (status, answer) = api.call(Method::POST, &path, Some(&wish)).await?;
            say(status, &answer, json, resolved)
        }
    }
}

async fn stale(api: &Api, json: bool) -> anyhow::Result<Exit> {
    let orders = match api.list("/v1/admin/orders", "orders").await? {
        Ok(orders) => orders,
        Err((status, answer)) => return say(status, &answer, json, |_| {}),
    };
    if json {
        output::print_json(&orders)?;
        return Ok(Exit::Done);
    }
    print_table(&stale_table(&orders), "no order stands still");
    Ok(Exit::Done)
}

/// A line a payment; an order without one has a line, too.
fn stale_table(orders: &[Value]) -> Table {
    let of_order = |order: &Value| {
        let amount = format!("{} {}", cell(order, "amount"), cell(order, "currency"));
        [cell(order, "orderId"), cell(order, "state"), amount, cell(order, "createdAt")]
    };
    let head = ["order", "state", "amount", "created", "payment", "provider", "payment state", "gateway", "last error"];
    let mut table = Table::new(head.into_iter().chain(["attention", "next check"]));
    for order in orders {
        let mut payments = items(order, "payments").peekable();
        if payments.peek().is_none() {
            let none = ["none", "-", "-", "-", "-", "-", "-"].map(str::to_owned);
            table.row(of_order(order).into_iter().chain(none));
        }
        for payment in payments {
            let fields = ["paymentId", "provider", "state", "lastStatus", "lastError", "attention", "nextCheckAt"];
            table.row(of_order(order).into_iter().chain(fields.map(|name| cell(payment, name))));
        }
    }
    table
}

/// An order: its own fields, then a table for each list in it.
fn show(order: &Value) {
    let own: serde_json::Map<String, Value> = order
        .as_object()
        .map(|fields| {
            fields.iter().filter(|(_, value)| !value.is_array()).map(|(name, value)| (name.clone(), value.clone())).collect()
        })
        .unwrap_or_default();
    print!("{}", output::fields(&Value::Object(own)));
    let lists: [(&str, &[&str]); 5] = [
        ("lines", &["productId", "quantity", "stock"]),
        ("payments", &["paymentId", "provider", "reference", "state", "lastStatus", "lastError", "nextCheckAt", "attention"]),
        ("refunds", &["refundId", "state", "amount", "reason", "attempt", "held", "lastError"]),
        ("money", &["recordedAt", "paymentId", "kind", "amount", "currency", "transactionId", "actor"]),
        ("actions", &["at", "actor", "action", "target", "outcome", "reason"]),
    ];
    for (name, columns) in lists {
        let mut table = Table::new(columns.iter().copied());
        for item in items(order, name) {
            table.row(columns.iter().map(|column| cell(item, column)));
        }
        if !table.is_empty() {
            print!("\n  {name}\n{}", table.render());
        }
    }
}

fn is_dry(answer: &Value) -> bool {
    answer.get("dryRun").and_then(Value::as_bool) == Some(true)
}

/// What is asked about now, or what the gateway says of it and what would follow.
fn retried(answer: &Value) {
    if is_dry(answer) {
        resolved(answer);
        return;
    }
    let due: Vec<String> = items(answer, "due").map(output::plain).collect();
    println!("  {} due: {}", due.join(", "), cell(answer, "why"));
}

fn resolved(answer: &Value) {
    if is_dry(answer) {
        println!("  nothing was changed");
    }
    let mut table = Table::new(["payment", "was", "the gateway says", "what follows"]);
    for payment in items(answer, "payments") {
        let follows = payment.get("would").or_else(|| payment.get("outcome")).map_or_else(|| "-".to_owned(), output::plain);
        table.row([cell(payment, "paymentId"), cell(payment, "state"), cell(payment, "gatewaySays"), follows]);
    }
    print!("{}", table.render());
    if let Some(state) = answer.pointer("/order/state").and_then(Value::as_str) {
        println!("  the order is {state}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn an_order_without_a_payment_stands_in_the_list_and_last_errors_do() {
        let order = |id: &str, payments: Value| json!({ "orderId": id, "state": "PENDING", "amount": 5, "currency": "KRW", "createdAt": "t", "payments": payments });
        let payment = json!({ "paymentId": "p-b", "provider": "sim", "state": "PENDING", "lastStatus": null, "lastError": "PG_ACCOUNT",
            "attention": null, "nextCheckAt": "u" });
        let text = stale_table(&[order("a", json!([])), order("b", json!([payment]))]).render();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["a", "PENDING", "5", "KRW", "t", "none", "-", "-", "-", "-", "-", "-"]);
        assert_eq!(rows[2], ["b", "PENDING", "5", "KRW", "t", "p-b", "sim", "PENDING", "-", "PG_ACCOUNT", "-", "u"]);
    }
}
