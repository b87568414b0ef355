//! Tables and JSON for people and programs.

use serde::Serialize;

/// Prints JSON, indented.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A table with aligned columns; the first row is the head, numbers stand at the right.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        let mut table = Self::default();
        table.row(head);
        table
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Whether it has no row but its head.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    /// The table as text, each line indented by two spaces.
    #[must_use]
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let is_number = |cell: &str| cell.chars().next().is_some_and(|c| c.is_ascii_digit()) && !cell.contains(['@', 'T']);
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::from(" ");
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
                let below_is_number = self.rows.get(1).and_then(|row| row.get(column)).is_some_and(|cell| is_number(cell));
                let (left, right) = if is_number(cell) || below_is_number { (pad.as_str(), "") } else { ("", pad.as_str()) };
                line.push(' ');
                line.push_str(left);
                line.push_str(cell);
                line.push_str(right);
                line.push(' ');
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A JSON object as `field  value` lines, nested objects by dotted names.
#[must_use]
pub fn fields(value: &serde_json::Value) -> String {
    fn walk(prefix: &str, value: &serde_json::Value, table: &mut Table) {
        match value {
            serde_json::Value::Object(object) => {
                for (name, value) in object {
                    let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    walk(&name, value, table);
                }
            }
            other => table.row([prefix.to_owned(), plain(other)]),
        }
    }
    let mut table = Table::default();
    walk("", value, &mut table);
    table.render()
}

/// A JSON value without quotes; null is a dash.
#[must_use]
pub fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_at_the_right() {
        let mut table = Table::new(["outcome", "count"]);
        table.row(["issued", "1000"]);
        table.row(["sold_out", "7"]);
        assert_eq!(table.render(), "  outcome   count\n  issued     1000\n  sold_out      7\n");
        assert!(!table.is_empty());
    }

    #[test]
    fn objects_become_lines() {
        let value = serde_json::json!({"code": "c", "window": {"opensAt": null}});
        assert_eq!(fields(&value), "  code            c\n  window.opensAt  -\n");
    }
}
