//! Bytes that were written once must be readable for ever: a log keeps them for as long as a coupon lives.
//!
//! The files in proto/golden are written by hand of `cargo test -p contracts --test it -- --ignored write_missing_golden`,
//! which never changes a file that is there; the tests below only read.

use std::{fs, path::PathBuf};

use contracts::{Decoded, Encoded, decode, decode_outcome, order::decode_order_placed, payment::decode_payment_outcome};
use domain::coupon::{Body, Outcome, Place};
use serde_json::{Value, json};

use crate::samples;

/// The version that [`samples`] writes. A new version gets new files; the old ones stay and stay readable.
const VERSION: &str = "v1";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../proto/golden")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn to_file(record: &Encoded) -> String {
    let headers: Vec<Value> = record
        .headers()
        .iter()
        .map(|(name, value)| json!([String::from_utf8_lossy(name), String::from_utf8_lossy(value.unwrap())]))
        .collect();
    let file = json!({
        "key": String::from_utf8_lossy(record.key().unwrap()),
        "headers": headers,
        "value_hex": hex(record.value().unwrap()),
    });
    format!("{}\n", serde_json::to_string_pretty(&file).unwrap())
}

fn from_file(text: &str) -> Encoded {
    let file: Value = serde_json::from_str(text).unwrap();
    let value = unhex(file["value_hex"].as_str().unwrap());
    let mut record = Encoded::new(file["key"].as_str().map(str::as_bytes), Some(&value), 8);
    for header in file["headers"].as_array().unwrap() {
        record.push_text(header[0].as_str().unwrap(), header[1].as_str().unwrap());
    }
    record
}

fn golden(version: &str, name: &str) -> Encoded {
    let path = folder().join(version).join(format!("{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    from_file(&text)
}

fn body(version: &str, name: &str) -> Body {
    let record = golden(version, name);
    match decode(&record.at(7, 42, samples::AT.unix_ms()), &samples::log_key(), &samples::log()) {
        Decoded::Usable(record) => {
            assert_eq!((record.place, record.at), (Place { partition: 7, offset: 42 }, samples::AT));
            record.body
        }
        Decoded::Unusable(unusable) => panic!("{name}: {unusable:?}"),
    }
}

#[test]
fn every_command_of_version_1_is_read_as_it_was_meant() {
    assert_eq!(body("v1", "request"), Body::Request(samples::request(false)));
    assert_eq!(body("v1", "request-admitted"), Body::Request(samples::request(true)));
    assert_eq!(body("v1", "request-replayed"), Body::Request(samples::request(false)));
    assert_eq!(body("v1", "define"), Body::Define(samples::define()));
    assert_eq!(body("v1", "define-small"), Body::Define(samples::define_small()));
    assert_eq!(body("v1", "change"), Body::Change(samples::change()));
    assert_eq!(body("v1", "change-nothing"), Body::Change(samples::change_nothing()));
    assert_eq!(body("v1", "cancel"), Body::Cancel(samples::cancel()));
}

#[test]
fn every_outcome_of_version_1_is_read_as_it_was_meant() {
    for (name, row) in [
        ("issued", samples::row(Outcome::Issued { sequence: 17 })),
        ("rejected-duplicate", samples::duplicate()),
        ("rejected-unreadable", samples::unreadable()),
    ] {
        let record = golden("v1", name);
        let event = decode_outcome(&record.at(0, 0, 0)).unwrap();
        assert_eq!(event.event_id, contracts::outcome_event_id(&row.coupon, row.request), "{name}");
        assert_eq!((event.coupon, event.request, event.member), (row.coupon, row.request, row.member), "{name}");
        assert_eq!((event.place, event.at, event.outcome), (row.place, row.at, row.outcome), "{name}");
    }
}

#[test]
fn every_order_and_payment_outcome_of_version_1_is_read_as_it_was_meant() {
    let order = decode_order_placed(&golden("v1", "order-placed").at(0, 0, samples::AT.unix_ms())).unwrap();
    assert_eq!(order, samples::order());
    for (name, outcome) in samples::payment_outcomes() {
        let event = decode_payment_outcome(&golden("v1", name).at(0, 0, 0)).unwrap();
        assert_eq!((event.event_id, event.outcome), (samples::EVENT_ID, outcome), "{name}");
    }
}

#[test]
fn what_is_written_today_is_what_was_written_then() {
    let samples = samples::all();
    for (name, record) in &samples {
        assert_eq!(to_file(record), to_file(&golden(VERSION, name)), "{name}: is this a new version?");
    }
    let files = fs::read_dir(folder().join(VERSION)).unwrap().count();
    assert_eq!(files, samples.len(), "a golden file that no test reads, or a kind of record without one");
}

#[test]
#[ignore = "writes golden files of new kinds of records; never changes one that is there"]
fn write_missing_golden() {
    let folder = folder().join(VERSION);
    fs::create_dir_all(&folder).unwrap();
    for (name, record) in samples::all() {
        let path = folder.join(format!("{name}.json"));
        if !path.exists() {
            fs::write(path, to_file(&record)).unwrap();
        }
    }
}
