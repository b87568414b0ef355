//! `trueup coupon …`: the gateways' admin API, which writes down who did what.

use std::time::{Duration, Instant};

use domain::{
    clock::SystemClock,
    ids::{CommandId, CouponCode},
};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::{
    api::{Api, percent},
    cli::{AdmissionArg, CouponCommand, Moment},
    exit::Exit,
    output::{self, Table},
    problem,
    settings::Settings,
};

/// How long one call may take; the gateway waits a bounded time for the log's decision.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a command is repeated, under its own key, until it is decided.
const DECISION_WAIT: Duration = Duration::from_secs(30);
/// The pause between two repeats.
const REPEAT_PAUSE: Duration = Duration::from_millis(500);

/// Does one of them.
///
/// # Errors
/// No gateway can be reached, or the token is missing.
pub async fn run(settings: &Settings, command: &CouponCommand, json: bool) -> anyhow::Result<Exit> {
    let api = gateways(settings)?;
    let (method, path, body) = match command {
        CouponCommand::List => return list(&api, json).await,
        CouponCommand::History(arg) => return history(&api, &escaped(&arg.code)?, json).await,
        CouponCommand::Show(arg) => (Method::GET, format!("/v1/coupons/{}", escaped(&arg.code)?), None),
        CouponCommand::Define(args) => {
            let admission = match args.admission {
                AdmissionArg::Reserved => "reserved",
                AdmissionArg::Queued => "queued",
            };
            escaped(&args.code)?;
            let mut body = json!({
                "code": args.code, "name": args.name.as_ref().unwrap_or(&args.code), "admission": admission, "totalQuantity": args.total,
            });
            if let Some(object) = body.as_object_mut() {
                put_moment(object, "opensAt", args.opens_at.map(|at| Moment(Some(at))));
                put_moment(object, "closesAt", args.closes_at.map(|at| Moment(Some(at))));
            }
            (Method::POST, "/v1/admin/coupons".to_owned(), Some(body))
        }
        CouponCommand::Change(args) => {
            let mut body = Map::new();
            if let Some(name) = &args.name {
                body.insert("name".to_owned(), json!(name));
            }
            if let Some(total) = args.total {
                body.insert("totalQuantity".to_owned(), json!(total));
            }
            put_moment(&mut body, "opensAt", args.opens_at);
            put_moment(&mut body, "closesAt", args.closes_at);
            (Method::PATCH, format!("/v1/admin/coupons/{}", escaped(&args.code)?), Some(Value::Object(body)))
        }
        CouponCommand::Pause(arg) => (Method::POST, format!("/v1/admin/coupons/{}/pause", escaped(&arg.code)?), None),
        CouponCommand::Resume(arg) => (Method::POST, format!("/v1/admin/coupons/{}/resume", escaped(&arg.code)?), None),
        CouponCommand::End(arg) => (Method::POST, format!("/v1/admin/coupons/{}/end", escaped(&arg.code)?), None),
        CouponCommand::Cancel(args) => {
            let path = format!("/v1/admin/coupons/{}/requests/{}/cancel", escaped(&args.code)?, args.request);
            (Method::POST, path, Some(json!({ "memberId": args.member })))
        }
    };
    let (status, answer) = decided(&api, &method, &path, body.as_ref()).await?;
    say(status, &answer, json)
}

fn put_moment(object: &mut Map<String, Value>, name: &str, at: Option<Moment>) {
    if let Some(Moment(at)) = at {
        let value = at.map_or(Value::Null, |at| json!(at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)));
        object.insert(name.to_owned(), value);
    }
}

/// A coupon's code as a part of a path.
pub(crate) fn escaped(code: &str) -> anyhow::Result<String> {
    let code = CouponCode::new(code).map_err(|error| anyhow::anyhow!("the coupon's code `{code}` {error}"))?;
    Ok(percent(code.as_str()))
}

fn say(status: StatusCode, answer: &Value, json: bool) -> anyhow::Result<Exit> {
    if json {
        output::print_json(answer)?;
    } else if status.is_success() {
        if status == StatusCode::ACCEPTED {
            println!("  the command is in the log and not decided yet; look again with: trueup coupon show");
        }
        print!("{}", output::fields(answer));
    } else {
        problem::tell(status, answer, "the gateways' COUPON_GATEWAY__ADMIN__TOKENS");
    }
    Ok(problem::exit(status))
}

async fn list(api: &Api, json: bool) -> anyhow::Result<Exit> {
    let columns = ["code", "admission", "status", "totalQuantity", "issuedQuantity", "opensAt", "closesAt", "name"];
    let none = "no coupon is defined; define one: trueup coupon define coupon-2024 --admission queued --total 100";
    pages(api, "/v1/admin/coupons", "coupons", columns, none, json).await
}

async fn history(api: &Api, code: &str, json: bool) -> anyhow::Result<Exit> {
    let columns = ["decidedAt", "actor", "kind", "outcome", "partition", "offset", "commandId"];
    let path = format!("/v1/admin/coupons/{code}/commands");
    pages(api, &path, "commands", columns, "no command is known for this code; is the code right?", json).await
}

async fn pages<const N: usize>(
    api: &Api,
    path: &str,
    name: &str,
    columns: [&str; N],
    none: &str,
    json: bool,
) -> anyhow::Result<Exit> {
    let all = match api.list(path, name).await? {
        Ok(all) => all,
        Err((status, answer)) => return say(status, &answer, json),
    };
    if json {
        output::print_json(&all)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(columns);
    for item in &all {
        table.row(columns.map(|column| item.get(column).map_or_else(|| "-".to_owned(), output::plain)));
    }
    if table.is_empty() {
        println!("{none}")
    } else {
        print!("{}", table.render())
    }
    Ok(Exit::Done)
}

/// The gateways.
fn gateways(settings: &Settings) -> anyhow::Result<Api> {
    Api::new("gateway", "TRUEUP__GATEWAYS or --gateways", settings.gateway_urls(), &settings.admin.token, CALL_TIMEOUT)
}

/// Repeats a command under one key until it is decided: the key makes it the same command wherever and however often it is given.
async fn decided(api: &Api, method: &Method, path: &str, body: Option<&Value>) -> anyhow::Result<(StatusCode, Value)> {
    let key = CommandId::fresh(&SystemClock).to_string();
    let deadline = Instant::now() + DECISION_WAIT;
    loop {
        let (status, answer) = api.call(method, path, body, Some(&key)).await?;
        let undecided = matches!(status, StatusCode::ACCEPTED | StatusCode::SERVICE_UNAVAILABLE);
        if !undecided || Instant::now() >= deadline {
            return Ok((status, answer));
        }
        tokio::time::sleep(REPEAT_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn codes_are_escaped_or_refused() {
        assert_eq!(escaped("coupon-2024").unwrap(), "coupon-2024");
        assert_eq!(escaped("50%/회").unwrap(), "50%25%2F%ED%9A%8C");
        assert!(escaped("a b").unwrap_err().to_string().contains("a b"));
    }

    #[test]
    fn taking_a_bound_away_is_null_and_leaving_it_alone_is_nothing() {
        let mut object = Map::new();
        put_moment(&mut object, "opensAt", None);
        put_moment(&mut object, "closesAt", Some(Moment(None)));
        assert_eq!(Value::Object(object), json!({ "closesAt": null }));
    }
}
