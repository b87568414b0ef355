//! The README's tables are those of the code: every setting and every metric, and none that does not exist.

use std::{collections::BTreeSet, fs, path::Path};

use payment_reconciler::Settings;
use serde_json::Value;

const SELF: &str = env!("CARGO_MANIFEST_DIR");

/// The rows of the section with this title, their first cells.
fn first_cells(title: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(SELF).join("README.md")).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with(title)).expect("the section");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split('|').nth(1).unwrap().to_owned()).collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The settings that the README names: the first of a row in full, the others beside it.
fn described_settings() -> BTreeSet<String> {
    let mut described = BTreeSet::new();
    for cell in first_cells("Settings") {
        let mut names = quoted(&cell);
        let first = names.next().unwrap();
        let parent = first.rsplit_once('.').unwrap().0;
        described.insert(first.to_owned());
        described.extend(names.map(|name| format!("{parent}.{name}")));
    }
    described
}

/// The paths of all values below one; a map or list without entries is a value.
fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
    match value.as_object().filter(|fields| !fields.is_empty()) {
        Some(fields) => fields.iter().for_each(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            leaves(&path, value, found);
        }),
        None => found.push(path.to_owned()),
    }
}

/// Whether a name of the README means this setting: as it stands, or as the group that it belongs to. Words in capitals stand for any name.
fn means(described: &str, setting: &str) -> bool {
    let mut wanted = setting.split('.');
    described.split('.').filter(|part| *part != "*").all(|part| match wanted.next() {
        Some(there) => part == there || part.chars().all(|c| c.is_ascii_uppercase()),
        // An empty map has no names yet.
        None => part.chars().all(|c| c.is_ascii_uppercase()),
    })
}

#[test]
fn every_setting_is_described_and_nothing_else() {
    let settings = serde_json::to_value(Settings::default()).unwrap();
    let mut there = Vec::new();
    leaves("", &settings, &mut there);
    let described = described_settings();
    assert!(there.len() > 60 && described.len() > 40, "{} settings, {} described", there.len(), described.len());
    let missing: Vec<_> = there.iter().filter(|setting| !described.iter().any(|name| means(name, setting))).collect();
    assert!(missing.is_empty(), "not in the README: {missing:?}");
    let invented: Vec<_> = described.iter().filter(|name| !there.iter().any(|setting| means(name, setting))).collect();
    assert!(invented.is_empty(), "only in the README: {invented:?}");
}

fn metrics_written(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            metrics_written(&path, found);
        } else {
            let text = fs::read_to_string(path).unwrap();
            let words = text.split('"').filter(|word| word.starts_with("trueup_payment_"));
            found.extend(words.map(str::to_owned));
        }
    }
}

#[test]
fn every_metric_is_described_and_nothing_else() {
    let mut written = BTreeSet::new();
    metrics_written(&Path::new(SELF).join("src"), &mut written);
    let cells = first_cells("Metrics");
    let names = cells.iter().flat_map(|cell| quoted(cell)).map(|name| {
        let name = name.split('{').next().unwrap();
        name.strip_prefix('…').map_or_else(|| name.to_owned(), |rest| format!("trueup_payment{rest}"))
    });
    let described: BTreeSet<String> = names.collect();
    assert!(written.len() > 15);
    assert_eq!(written.difference(&described).collect::<Vec<_>>(), Vec::<&String>::new(), "not in the README");
    assert_eq!(described.difference(&written).collect::<Vec<_>>(), Vec::<&String>::new(), "only in the README");
}
