//! `trueup payments audit` and `audits`, and the drill's audit of a time at rest.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Context;
use chrono::{DateTime, Utc};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    answers::{cell, items, print_table, say},
    api::{Api, moment},
    arguments::{AuditSpanArgs, AuditsArgs, Verdict, bounds},
};
use crate::{api::percent, exit::Exit, output::Table, settings::Settings};

/// When to ask again for an audit that another replica is making.
const AUDIT_AGAIN: Duration = Duration::from_secs(1);

pub(super) async fn audit(api: &Api, args: &AuditSpanArgs, json: bool) -> anyhow::Result<Exit> {
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

/// Lists the audits that are kept.
pub(super) async fn audits(api: &Api, args: &AuditsArgs, json: bool) -> anyhow::Result<Exit> {
    let provider = args.provider.as_deref().map(|name| format!("&provider={}", percent(name))).unwrap_or_default();
    let verdict = args.verdict.map(|verdict| match verdict {
        Verdict::Clean => "&verdict=clean",
        Verdict::Difference => "&verdict=difference",
        Verdict::CannotTell => "&verdict=cannot_tell",
    });
    let path = format!("/v1/admin/audits?limit={}{provider}{}", args.limit.limit, verdict.unwrap_or_default());
    let (status, answer) = api.call(Method::GET, &path, None).await?;
    say(status, &answer, json, |answer| print_table(&audits_table(answer), "no such audit is kept"))
}

/// A line an audit, with its differences counted by their kinds.
fn audits_table(answer: &Value) -> Table {
    let mut table = Table::new(["finished", "provider", "from", "to", "verdict", "compared", "differences", "by", "reason"]);
    for audit in items(answer, "audits") {
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for difference in items(audit, "differences") {
            let count = kinds.entry(cell(difference, "kind")).or_default();
            *count = count.saturating_add(1);
        }
        let counted: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let found = if counted.is_empty() { "none".to_owned() } else { counted.join(", ") };
        let [finished, provider, from, to, verdict, compared, actor, reason] =
            ["finishedAt", "provider", "from", "to", "verdict", "compared", "actor", "reason"].map(|name| cell(audit, name));
        table.row([finished, provider, from, to, verdict, compared, found, actor, reason]);
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn kept_audits_are_told_with_their_differences_by_kind() {
        let kind = |kind: &str| json!({ "kind": kind });
        let audit = |verdict: &str, differences: Value, reason: Value| {
            json!({ "finishedAt": "c", "provider": "toss", "from": "a", "to": "b",
            "verdict": verdict, "compared": 7, "differences": differences, "actor": "nightly", "reason": reason })
        };
        let audits = json!([
            audit("difference", json!([kind("orphan"), kind("amount_differs"), kind("orphan")]), Value::Null),
            audit("cannot_tell", json!([]), json!("no list")),
        ]);
        let text = audits_table(&json!({ "audits": audits })).render();
        let rows: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(rows[1], "c toss a b difference 7 amount_differs 1, orphan 2 nightly -");
        assert_eq!(rows[2], "c toss a b cannot_tell 7 none nightly no list");
    }
}
