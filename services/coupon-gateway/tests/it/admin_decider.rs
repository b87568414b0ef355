//! Stands in for the consumer: folds the log by the domain's own rules and writes down what they decide.

use std::{fmt::Write, time::Duration};

use contracts::{Decoded, decode, partition_of};
use domain::coupon::{Decisions, FoldState, Here, LogIncarnation, Record, decide};
use testkit::{World, log_key, read_all};
use tokio::task::JoinHandle;

use crate::gateway::sql;

const PARTITIONS: i32 = 4;
const POLL: Duration = Duration::from_millis(50);

/// Decides until it is dropped.
pub struct Decider(JoinHandle<()>);

impl Drop for Decider {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Decider {
    pub fn start(world: &World) -> Self {
        let world = world.clone();
        Self(tokio::spawn(async move {
            let mut seen = [0; PARTITIONS as usize];
            loop {
                for (partition, seen) in seen.iter_mut().enumerate() {
                    let records = records(&world, partition as i32).await;
                    if records.len() > *seen {
                        write(&world, partition as i32, &records).await;
                        *seen = records.len();
                    }
                }
                tokio::time::sleep(POLL).await;
            }
        }))
    }
}

async fn records(world: &World, partition: i32) -> Vec<Record> {
    let log = LogIncarnation { cluster_id: "test".to_owned(), topic_id: "test".to_owned() };
    let all = read_all(&world.kafka, &world.kafka.topics.created, partition).await;
    let decoded = all.iter().map(|raw| match decode(&raw, &log_key(), &log) {
        Decoded::Usable(record) => record,
        other => panic!("an unusable record: {other:?}"),
    });
    decoded.collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn time(at: Option<domain::clock::Timestamp>) -> String {
    at.map_or("NULL".to_owned(), |at| quoted(&at.to_string()))
}

/// Folds all records anew: what was written before stays.
async fn write(world: &World, partition: i32, records: &[Record]) {
    let mut state = FoldState::default();
    let here = Here { partition, home_of: &|code| partition_of(code.as_str().as_bytes(), PARTITIONS) };
    let decisions: Decisions = decide(&mut state, &here, records);
    let mut text = String::from("BEGIN;");
    for coupon in state.coupons.values().filter_map(|fold| fold.coupon.as_ref()) {
        let by = decisions.defined.iter().find(|defined| defined.code == coupon.code).unwrap();
        write!(
            text,
            "INSERT INTO coupon (coupon_code, name, admission, partition, total_quantity, issued_quantity, opens_at, closes_at, paused, ended,
                 rules_offset, defined_by)
             VALUES ({}, {}, '{}', {partition}, {}, {}, {}, {}, {}, {}, {}, {})
             ON CONFLICT (coupon_code) DO UPDATE SET (name, total_quantity, issued_quantity, opens_at, closes_at, paused, ended, rules_offset)
                 = (excluded.name, excluded.total_quantity, excluded.issued_quantity, excluded.opens_at, excluded.closes_at, excluded.paused,
                    excluded.ended, excluded.rules_offset);",
            quoted(coupon.code.as_str()), quoted(&coupon.name), coupon.admission.as_str(), coupon.total, coupon.issued,
            time(coupon.opens_at), time(coupon.closes_at), coupon.paused, coupon.ended, coupon.rules_offset, quoted(&by.actor),
        )
        .unwrap();
    }
    for new in &decisions.rows {
        let row = &new.row;
        write!(
            text,
            "INSERT INTO coupon_request (coupon_code, request_id, member_id, partition, log_offset, told_offset, appended_at, admitted, outcome, sequence)
             VALUES ({}, '{}', {}, {partition}, {}, {}, '{}', {}, '{}', {}) ON CONFLICT DO NOTHING;",
            quoted(row.coupon.as_str()), row.request, quoted(row.member.as_ref().unwrap().as_str()), row.place.offset, new.told_offset, row.at,
            row.admitted, row.outcome.as_str(), row.outcome.sequence().map_or("NULL".to_owned(), |sequence| sequence.to_string()),
        )
        .unwrap();
    }
    for command in &decisions.commands {
        write!(
            text,
            "INSERT INTO coupon_command (command_id, coupon_code, kind, actor, partition, log_offset, appended_at, outcome, payload)
             VALUES ('{}', {}, '{}', {}, {partition}, {}, '{}', '{}', {}) ON CONFLICT DO NOTHING;",
            command.id, quoted(command.coupon.as_str()), command.kind.as_str(), quoted(&command.actor), command.place.offset, command.at,
            command.outcome.as_str(), quoted(&command.payload),
        )
        .unwrap();
    }
    write!(
        text,
        "INSERT INTO consumer_position (topic, partition, next_offset, cluster_id, topic_id) VALUES ({}, {partition}, {}, 'test', 'test')
         ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset; COMMIT",
        quoted(&world.kafka.topics.created),
        records.last().unwrap().place.offset + 1
    )
    .unwrap();
    sql(world, &text).await;
}
