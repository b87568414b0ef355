//! `trueup reconcile` and `trueup reports`: the reconcilers' own interface, so that leases, repairs and reports are the same as of their schedule.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    api::Api,
    cli::{ReconcileArgs, ReportsArgs},
    exit::Exit,
    output::{self, Table},
    problem,
    settings::Settings,
};

/// The setting that holds the operators' tokens.
const TOKENS: &str = "the reconcilers' RECONCILER__ADMIN__TOKENS";
/// How long one call may take: a full comparison reads a whole coupon.
const CALL_TIMEOUT: Duration = Duration::from_secs(600);
/// How often a coupon is asked for again while another replica looks at it.
const BUSY_TRIES_MAX: u32 = 60;
/// The pause between two such tries.
const BUSY_PAUSE: Duration = Duration::from_millis(500);

/// Looks at coupons at once.
///
/// # Errors
/// No reconciler can be reached.
pub async fn run(settings: &Settings, args: &ReconcileArgs, json: bool) -> anyhow::Result<Exit> {
    let api = reconcilers(settings)?;
    let body = json!({ "full": args.full, "dryRun": args.dry_run });
    let (mut reports, mut exit) = (Vec::new(), Exit::Done);
    for code in &args.codes {
        let path = format!("/v1/coupons/{}/reconcile", crate::coupons::escaped(code)?);
        let mut tries = 0;
        let (status, report) = loop {
            let (status, answer) = api.call(&Method::POST, &path, Some(&body), None).await?;
            tries += 1;
            if status != StatusCode::CONFLICT || tries >= BUSY_TRIES_MAX {
                break (status, answer);
            }
            tokio::time::sleep(BUSY_PAUSE).await;
        };
        if !status.is_success() {
            problem::tell(status, &report, TOKENS);
            exit = exit.worse(problem::exit(status));
        } else if of(&report, "/hasMismatch") == "true" || of(&report, "/errors") != "[]" {
            exit = Exit::Difference;
        }
        if !json && status.is_success() {
            print!("{}", text(&report));
        }
        reports.push(report);
    }
    if json {
        output::print_json(&reports)?;
    }
    Ok(exit)
}

/// Lists what earlier runs found.
///
/// # Errors
/// No reconciler can be reached.
pub async fn reports(settings: &Settings, args: &ReportsArgs, json: bool) -> anyhow::Result<Exit> {
    let api = reconcilers(settings)?;
    let coupon = match &args.code {
        Some(code) => format!("&coupon={}", crate::coupons::escaped(code)?),
        None => String::new(),
    };
    let (status, page) =
        api.call(&Method::GET, &format!("/v1/reconciliation/reports?limit={}{coupon}", args.limit), None, None).await?;
    if !status.is_success() {
        problem::tell(status, &page, TOKENS);
        return Ok(problem::exit(status));
    }
    if json {
        output::print_json(&page)?;
        return Ok(Exit::Done);
    }
    let columns = ["finished", "coupon", "redis", "pending", "database", "gate", "mismatches", "full", "errors"];
    let mut table = Table::new(columns);
    for kept in page.get("reports").and_then(Value::as_array).into_iter().flatten() {
        table.row([
            of(kept, "/finishedAt"),
            of(kept, "/report/couponCode"),
            of(kept, "/report/redisCount"),
            of(kept, "/report/pending"),
            of(kept, "/report/dbCount"),
            of(kept, "/report/gate"),
            of(kept, "/report/mismatchCount"),
            if kept.pointer("/report/comparison").is_some_and(Value::is_object) { "yes" } else { "no" }.to_owned(),
            kept.pointer("/report/errors").and_then(Value::as_array).map_or(0, Vec::len).to_string(),
        ]);
    }
    if table.is_empty() {
        println!("no report is kept{}", args.code.as_ref().map_or_else(String::new, |code| format!(" of {code}")));
    } else {
        print!("{}", table.render());
    }
    Ok(Exit::Done)
}

fn of(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).map(output::plain).unwrap_or_default()
}

/// A report in a few lines.
fn text(report: &Value) -> String {
    let mut lines = vec![
        format!("{}: {} mismatches{}", of(report, "/couponCode"), of(report, "/mismatchCount"), dry(report)),
        format!(
            "  redis      {} members, {} of them pending; the gate is {}",
            of(report, "/redisCount"),
            of(report, "/pending"),
            of(report, "/gate")
        ),
        format!("  database   {} issues", of(report, "/dbCount")),
    ];
    if let Some(before) = report.get("issuedQuantityBefore").filter(|before| !before.is_null()) {
        lines.push(format!("  issued_quantity was {before}"));
    }
    if report.get("comparison").is_some_and(Value::is_object) {
        for (name, pointer) in [("only in Redis", "onlyInRedis"), ("only in PostgreSQL", "onlyInPostgres")] {
            let at = |what: &str| of(report, &format!("/comparison/{pointer}/{what}"));
            lines.push(format!("  {name}: {} found, {} repaired {}", at("count"), at("repaired"), at("members")));
        }
    } else {
        lines.push("  members were not compared, as the sizes agree; --full compares them all the same".to_owned());
    }
    for error in report.get("errors").and_then(Value::as_array).into_iter().flatten() {
        lines.push(format!("  error: {}", output::plain(error)));
    }
    lines.join("\n") + "\n"
}

fn dry(report: &Value) -> &'static str {
    if of(report, "/dryRun") == "true" { " (dry run: nothing was repaired)" } else { "" }
}

/// The reconcilers. A look that may have been done can be done again by the next one: nothing is repaired twice.
fn reconcilers(settings: &Settings) -> anyhow::Result<Api> {
    Api::new("reconciler", "TRUEUP__RECONCILERS", settings.reconciler_urls(), &settings.admin.token, CALL_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_told_in_words() {
        let report = json!({
            "couponCode": "c", "redisCount": 4, "pending": 1, "dbCount": 3, "gate": "open", "mismatchCount": 1, "hasMismatch": true,
            "dryRun": true, "issuedQuantityBefore": 9, "errors": ["away"],
            "comparison": {"onlyInRedis": {"count": 1, "repaired": 0, "members": ["x"]},
                           "onlyInPostgres": {"count": 0, "repaired": 0, "members": []}},
        });
        let text = text(&report);
        for part in ["c: 1 mismatches (dry run", "only in Redis: 1 found, 0 repaired", "issued_quantity was 9", "error: away"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}
