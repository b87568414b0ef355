//! The Prometheus rules name metrics that exist, with labels' values that the code writes.

use std::{collections::BTreeSet, fs, path::Path};

const SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Every metric's name in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("trueup_")).map(str::to_owned).collect()
}

fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_metric_of_the_rules_is_written_by_a_service_and_described() {
    let root = stack::paths::workspace().unwrap();
    let rules = fs::read_to_string(root.join("deploy/alerts/coupon-line.yaml")).unwrap();
    let (mut code, mut described) = (String::new(), String::new());
    for (parent, with_readme) in [("services", true), ("crates", false)] {
        for entry in fs::read_dir(root.join(parent)).unwrap().flatten() {
            let source = entry.path().join("src");
            if source.is_dir() {
                sources(&source, &mut code);
            }
            if with_readme {
                described.push_str(&fs::read_to_string(entry.path().join("README.md")).unwrap_or_default());
            }
        }
    }
    let (written, described) = (names(&code), names(&described));
    let used = names(&rules);
    assert!(used.len() > 15, "the rules are read: {used:?}");
    for name in used {
        let base = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(&name).to_owned();
        assert!(written.contains(&name) || written.contains(&base), "{name} is written by no service");
        assert!(described.contains(&name) || described.contains(&base), "{name} is described in no README");
    }
}

#[test]
fn every_rule_says_how_urgent_it_is_and_what_to_do() {
    let root = stack::paths::workspace().unwrap();
    let rules = fs::read_to_string(root.join("deploy/alerts/coupon-line.yaml")).unwrap();
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 15);
    for alert in alerts {
        for part in ["expr: ", "severity: ", "summary: ", "action: "] {
            assert!(alert.contains(part), "{part} is missing in {alert}");
        }
    }
}
