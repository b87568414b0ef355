//! Holds the steps that a service declares against those in its code and those in docs/failpoints.md.

use std::{collections::BTreeSet, fs, path::Path};

/// Holds that `declared`, the code under `sources` and the table in docs/failpoints.md name the same steps.
///
/// # Panics
/// They do not.
pub fn hold(declared: &[&str], sources: &Path, prefix: &str) {
    let declared: BTreeSet<String> = declared.iter().map(|&name| name.to_owned()).collect();
    let mut used = BTreeSet::new();
    collect(sources, &mut used);
    assert_eq!(declared, used, "declared on the left, in the code on the right");
    let table = stack::paths::workspace().expect("the workspace").join("docs/failpoints.md");
    let table = fs::read_to_string(table).expect("docs/failpoints.md");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name);
    let listed: BTreeSet<String> = rows.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect();
    assert_eq!(declared, listed, "declared on the left, in docs/failpoints.md on the right");
}

fn collect(folder: &Path, used: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, used);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source");
            let names = text.split("failpoint!(").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')?.split_once('"'));
            used.extend(names.map(|(name, _)| name.to_owned()));
        }
    }
}
