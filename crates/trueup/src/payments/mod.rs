//! `trueup orders …`, `trueup refunds …`, `trueup payments …`: by the payment reconcilers' admin API.

mod api;
mod arguments;

use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, SecondsFormat, Utc};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

pub use arguments::{OrdersCommand, PaymentsCommand, RefundsCommand};

use self::{
    api::Api,
    arguments::{AuditSpanArgs, DayArgs, RefundState, ResolveAs, Why, bounds},
};
use crate::{
    coupons::percent,
    exit::Exit,
    output::{self, Table},
    settings::Settings,
};

/// When to ask again for an audit that another replica is making.
const AUDIT_AGAIN: Duration = Duration::from_secs(1);

/// Pages of a list that are followed.
const PAGES_MAX: usize = 1_000;

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

/// Does something with refunds.
///
/// # Errors
/// No reconciler can be reached.
pub async fn refunds(settings: &Settings, command: &RefundsCommand, json: bool) -> anyhow::Result<Exit> {
    let api = Api::new(settings)?;
    let (path, why) = match command {
        RefundsCommand::List { state } => return list_refunds(&api, *state, json).await,
        RefundsCommand::Hold(wish) => (format!("/v1/admin/refunds/{}/hold", percent(&wish.refund)), &wish.why),
        RefundsCommand::Release(wish) => (format!("/v1/admin/refunds/{}/release", percent(&wish.refund)), &wish.why),
    };
    let (status, answer) = api.call(Method::POST, &path, Some(&body(why))).await?;
    let refused = answer.get("would").and_then(Value::as_bool) == Some(false);
    let exit = say(status, &answer, json, |answer| print!("{}", output::fields(answer)))?;
    Ok(if refused { Exit::Difference } else { exit })
}

/// Audits, totals and reports.
///
/// # Errors
/// No reconciler can be reached, or a time that is none.
pub async fn payments(settings: &Settings, command: &PaymentsCommand, json: bool) -> anyhow::Result<Exit> {
    let api = Api::new(settings)?;
    match command {
        PaymentsCommand::Audit(args) => audit(&api, args, json).await,
        PaymentsCommand::Totals(args) => totals(&api, args, json).await,
        PaymentsCommand::Runs(arg) => {
            let columns = [
                "startedAt",
                "found",
                "asked",
                "looked",
                "settled",
                "failed",
                "waiting",
                "refunded",
                "attention",
                "errors",
                "durationMs",
            ];
            report(&api, &format!("/v1/admin/runs?limit={}", arg.limit), "runs", columns, "no run was made yet", json).await
        }
        PaymentsCommand::Callbacks(arg) => {
            let columns = ["provider", "reference", "times", "authenticated", "receivedAt", "attentionSince"];
            let path = format!("/v1/admin/callbacks?limit={}", arg.limit);
            report(&api, &path, "callbacks", columns, "every callback is about a payment that is known", json).await
        }
    }
}

fn body(why: &Why) -> Value {
    json!({ "reason": why.reason, "dryRun": why.dry_run })
}

/// Shows an answer, or what is wrong.
fn say(status: StatusCode, answer: &Value, json: bool, show: impl FnOnce(&Value)) -> anyhow::Result<Exit> {
    if json {
        output::print_json(answer)?;
    } else if status.is_success() {
        show(answer);
    } else {
        let text = |name: &str| answer.get(name).map(output::plain).unwrap_or_default();
        let hint = match status.as_u16() {
            401 | 403 => "; set TRUEUP__ADMIN__TOKEN to a token of PAYMENT_RECONCILER__ADMIN__TOKENS",
            _ => "",
        };
        eprintln!("trueup: {} ({}, {}){hint}", text("detail"), text("code"), status.as_u16());
        for fault in answer.get("errors").and_then(Value::as_array).into_iter().flatten() {
            let part = |name: &str| fault.get(name).map(output::plain).unwrap_or_default();
            eprintln!("  {} {}", part("field"), part("problem"));
        }
    }
    Ok(match status {
        _ if status.is_success() => Exit::Done,
        // Nothing was refused: it could not be found out.
        _ if status.is_server_error() => Exit::CannotTell,
        _ => Exit::Difference,
    })
}

fn items<'a>(answer: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    answer.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn cell(item: &Value, name: &str) -> String {
    item.get(name).map_or_else(|| "-".to_owned(), output::plain)
}

/// Every page of a list.
async fn pages(api: &Api, path: &str, name: &str) -> anyhow::Result<Result<Vec<Value>, (StatusCode, Value)>> {
    let (mut all, mut after) = (Vec::new(), None::<String>);
    for _ in 0..PAGES_MAX {
        let mark = if path.contains('?') { '&' } else { '?' };
        let page = after.as_ref().map_or_else(|| path.to_owned(), |after| format!("{path}{mark}after={after}"));
        let (status, answer) = api.call(Method::GET, &page, None).await?;
        if !status.is_success() {
            return Ok(Err((status, answer)));
        }
        all.extend(items(&answer, name).cloned());
        match answer.get("next").and_then(Value::as_str) {
            Some(next) => after = Some(percent(next)),
            None => break,
        }
    }
    Ok(Ok(all))
}

async fn stale(api: &Api, json: bool) -> anyhow::Result<Exit> {
    let orders = match pages(api, "/v1/admin/orders", "orders").await? {
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

fn print_table(table: &Table, none: &str) {
    if table.is_empty() {
        println!("{none}");
    } else {
        print!("{}", table.render());
    }
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

async fn list_refunds(api: &Api, state: RefundState, json: bool) -> anyhow::Result<Exit> {
    let state = match state {
        RefundState::Open => "open",
        RefundState::Held => "held",
        RefundState::Manual => "manual",
        RefundState::All => "all",
    };
    let refunds = match pages(api, &format!("/v1/admin/refunds?state={state}"), "refunds").await? {
        Ok(refunds) => refunds,
        Err((status, answer)) => return say(status, &answer, json, |_| {}),
    };
    if json {
        output::print_json(&refunds)?;
        return Ok(Exit::Done);
    }
    let columns =
        ["refundId", "orderId", "provider", "amount", "currency", "reason", "state", "attempt", "held", "attention", "lastError"];
    let mut table = Table::new(columns);
    for refund in &refunds {
        table.row(columns.map(|column| cell(refund, column)));
    }
    print_table(&table, "no such refund");
    Ok(Exit::Done)
}

async fn report<const N: usize>(
    api: &Api,
    path: &str,
    name: &str,
    columns: [&str; N],
    none: &str,
    json: bool,
) -> anyhow::Result<Exit> {
    let (status, answer) = api.call(Method::GET, path, None).await?;
    say(status, &answer, json, |answer| {
        let mut table = Table::new(columns);
        for item in items(answer, name) {
            table.row(columns.map(|column| cell(item, column)));
        }
        print_table(&table, none);
    })
}

fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

async fn audit(api: &Api, args: &AuditSpanArgs, json: bool) -> anyhow::Result<Exit> {
    let span = match (args.day, args.from, args.to) {
        (Some(day), ..) => bounds(day, args.utc_offset),
        (None, Some(from), Some(to)) => Some((from, to)),
        _ => None,
    };
    let (from, to) = span.context("give a day, or both --from and --to")?;
    let (status, answer) =
        api.call(Method::POST, &audit_path(args.provider.as_deref(), (from, to), args.settling_minutes), None).await?;
    let said = say(status, &answer, json, |answer| print!("{}", audited(answer)))?;
    if said != Exit::Done {
        // Whether the gateways agree was not found out.
        return Ok(Exit::CannotTell);
    }
    Ok(verdict_of(&answer))
}

fn audit_path(provider: Option<&str>, (from, to): (DateTime<Utc>, DateTime<Utc>), settling_minutes: Option<u32>) -> String {
    let provider = provider.map(|name| format!("&provider={}", percent(name))).unwrap_or_default();
    let settling = settling_minutes.map(|minutes| format!("&settlingMinutes={minutes}")).unwrap_or_default();
    format!("/v1/admin/audits?from={}&to={}{provider}{settling}", moment(from), moment(to))
}

/// The worst of an audit's verdicts.
fn verdict_of(answer: &Value) -> Exit {
    let verdict = |report: &Value| match report.get("verdict").and_then(Value::as_str) {
        Some("clean") => Exit::Done,
        Some("difference") => Exit::Difference,
        _ => Exit::CannotTell,
    };
    items(answer, "audits").map(verdict).fold(Exit::Done, Exit::worse)
}

/// An audit's reports as text: what was compared, what was left out, and each difference.
#[must_use]
pub fn audited(answer: &Value) -> String {
    let mut text = String::new();
    for report in items(answer, "audits") {
        let named = ["provider", "verdict", "compared", "confirmed", "differencesTotal", "reason"].map(|name| cell(report, name));
        let [provider, verdict, compared, confirmed, total, reason] = named;
        text.push_str(&format!("  {provider}: {verdict}, {compared} lines compared"));
        if confirmed != "0" {
            text.push_str(&format!(", {confirmed} payments confirmed by asking"));
        }
        text.push_str(&format!(", {total} differences"));
        if reason != "-" {
            text.push_str(&format!(" ({reason})"));
        }
        text.push('\n');
        let (left_out, settled_by) = (cell(report, "leftOut"), cell(report, "settledBy"));
        let moment = |name| DateTime::parse_from_rfc3339(&cell(report, name)).ok();
        if left_out == "0" && moment("settledBy") < moment("to") {
            text.push_str(&format!("    only up to {settled_by}: what moves from then on may not have been settled yet\n"));
        }
        if left_out != "0" {
            text.push_str(&format!("    left out: {left_out} lines from {settled_by} on, which may not have been settled yet\n"));
        }
        let columns = ["kind", "reference", "transactionId", "gatewayAmount", "bookAmount", "currency"];
        let mut table = Table::new(columns);
        for difference in items(report, "differences") {
            table.row(columns.map(|column| cell(difference, column)));
        }
        if !table.is_empty() {
            text.push_str(&table.render());
        }
    }
    text
}

/// What an audit of a time at rest came to.
#[derive(Debug)]
pub struct Audited {
    /// The worst verdict.
    pub exit: Exit,
    /// A report for each gateway.
    pub reports: Value,
    /// Why there is none.
    pub reason: Option<String>,
}

/// Audits all gateways for a time in which all is at rest, down to this moment. While another replica audits, it waits until `deadline`.
pub async fn audit_at_rest(settings: &Settings, span: (DateTime<Utc>, DateTime<Utc>), deadline: Instant) -> Audited {
    let cannot_tell = |reason: String| Audited { exit: Exit::CannotTell, reports: json!([]), reason: Some(reason) };
    let api = match Api::new(settings) {
        Ok(api) => api,
        Err(error) => return cannot_tell(format!("{error:#}")),
    };
    let path = audit_path(None, span, Some(0));
    loop {
        match api.call(Method::POST, &path, None).await {
            Ok((StatusCode::CONFLICT, _)) if Instant::now() < deadline => tokio::time::sleep(AUDIT_AGAIN).await,
            Ok((status, mut answer)) if status.is_success() => {
                let exit = verdict_of(&answer);
                return Audited { exit, reports: answer.get_mut("audits").map(Value::take).unwrap_or_default(), reason: None };
            }
            Ok((status, answer)) => return cannot_tell(format!("{} ({status})", cell(&answer, "detail"))),
            Err(error) => return cannot_tell(format!("{error:#}")),
        }
    }
}

async fn totals(api: &Api, args: &DayArgs, json: bool) -> anyhow::Result<Exit> {
    let (from, to) = bounds(args.day, args.utc_offset).context("there is no such day")?;
    let path = format!("/v1/admin/totals?from={}&to={}", moment(from), moment(to));
    let (status, answer) = api.call(Method::GET, &path, None).await?;
    say(status, &answer, json, |answer| print!("{}", csv(args, answer)))
}

/// One line a gateway and currency, with a head. Names of gateways and codes of currencies need no quoting.
fn csv(args: &DayArgs, answer: &Value) -> String {
    const COLUMNS: [&str; 9] =
        ["provider", "currency", "captures", "captured", "refunds", "refunded", "reversals", "reversed", "net"];
    let mut text = format!("day,utc_offset,{}\n", COLUMNS.join(","));
    for total in items(answer, "totals") {
        let cells = COLUMNS.map(|column| cell(total, column)).join(",");
        text.push_str(&format!("{},{},{cells}\n", args.day, args.utc_offset));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn totals_are_csv_with_a_head_even_on_a_day_without_any() {
        let args = DayArgs { day: "2026-05-01".parse().unwrap(), utc_offset: "+09:00".parse().unwrap() };
        let head = "day,utc_offset,provider,currency,captures,captured,refunds,refunded,reversals,reversed,net\n";
        assert_eq!(csv(&args, &json!({ "totals": [] })), head);
        let total = json!({ "provider": "toss", "currency": "KRW", "captures": 2, "captured": "30", "refunds": 1, "refunded": "10",
            "reversals": 0, "reversed": "0", "net": "20" });
        let line = "2026-05-01,+09:00,toss,KRW,2,30,1,10,0,0,20\n";
        assert_eq!(csv(&args, &json!({ "totals": [total] })), format!("{head}{line}"));
    }

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

    #[test]
    fn what_is_refused_differs_from_what_cannot_be_told() {
        let exit = |status: u16| say(StatusCode::from_u16(status).unwrap(), &json!({}), false, |_| {}).unwrap();
        assert_eq!([200, 409, 404, 401, 503, 500].map(exit).map(Exit::code), [0, 1, 1, 1, 2, 2]);
    }
}
