//! `trueup payments totals`: a day as CSV.

use anyhow::Context;
use reqwest::Method;
use serde_json::Value;

use super::{
    answers::{cell, items, say},
    api::{Api, moment},
    arguments::{DayArgs, bounds},
};
use crate::exit::Exit;

pub(super) async fn totals(api: &Api, args: &DayArgs, json: bool) -> anyhow::Result<Exit> {
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
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

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
}
