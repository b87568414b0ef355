//! What the admin API answers, followed to its last page and shown to a person or a program.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{api::Api, arguments::Why};
use crate::{
    exit::Exit,
    output::{self, Table},
    problem,
};

/// What is wanted and why, as the API takes it.
pub(super) fn body(why: &Why) -> Value {
    json!({ "reason": why.reason, "dryRun": why.dry_run })
}

/// Shows an answer, or what is wrong.
pub(super) fn say(status: StatusCode, answer: &Value, json: bool, show: impl FnOnce(&Value)) -> anyhow::Result<Exit> {
    if json {
        output::print_json(answer)?;
    } else if status.is_success() {
        show(answer);
    } else {
        problem::tell(status, answer, "PAYMENT_RECONCILER__ADMIN__TOKENS");
    }
    Ok(problem::exit(status))
}

pub(super) fn items<'a>(answer: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    answer.get(name).and_then(Value::as_array).into_iter().flatten()
}

pub(super) fn cell(item: &Value, name: &str) -> String {
    item.get(name).map_or_else(|| "-".to_owned(), output::plain)
}

pub(super) fn print_table(table: &Table, none: &str) {
    if table.is_empty() {
        println!("{none}");
    } else {
        print!("{}", table.render());
    }
}

/// A list of one page as a table.
pub(super) async fn report<const N: usize>(
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
