//! `trueup refunds …`.

use reqwest::Method;
use serde_json::Value;

use super::{
    answers::{body, cell, print_table, say},
    api::Api,
    arguments::{RefundState, RefundsCommand},
};
use crate::{
    api::percent,
    exit::Exit,
    output::{self, Table},
    settings::Settings,
};

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

async fn list_refunds(api: &Api, state: RefundState, json: bool) -> anyhow::Result<Exit> {
    let state = match state {
        RefundState::Open => "open",
        RefundState::Held => "held",
        RefundState::Manual => "manual",
        RefundState::All => "all",
    };
    let refunds = match api.list(&format!("/v1/admin/refunds?state={state}"), "refunds").await? {
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
