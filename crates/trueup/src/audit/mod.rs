//! `trueup audit`: folds the log again and compares every outcome with the database.

pub mod compare;
pub mod difference;
pub mod fold;
mod gate;
pub mod reading;
mod report;

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use anyhow::{Context, bail};
use contracts::{Cause, partition_of};
use domain::{
    clock::Timestamp,
    coupon::{LogIncarnation, Place},
    ids::{CommandId, CouponCode, RequestId},
};
use kafka_io::{LogClient, LogReader, Watermarks};

pub use self::report::Report;
use self::{
    compare::{Comparer, FoundCommand, FoundCoupon, FoundRow},
    difference::{Differences, Kind},
    fold::ExpectedCoupon,
    reading::{Reading, Readings},
};
use crate::{cli::AuditArgs, exit::Exit, output, pg, settings::Settings};

/// Rows in one page of the ledger.
const PAGE: i64 = 10_000;
/// Records in one read.
const READ_RECORDS_MAX: usize = 5_000;

/// Audits, prints the reports.
///
/// # Errors
/// Log or database cannot be reached, or a code is no code.
pub async fn run(settings: &Settings, args: &AuditArgs, json: bool) -> anyhow::Result<Exit> {
    let codes = args
        .codes
        .iter()
        .map(|code| CouponCode::new(code).map_err(|error| anyhow::anyhow!("the coupon's code `{code}` {error}")));
    let codes: Vec<CouponCode> = codes.collect::<Result<_, _>>()?;
    let gate = args.redis.then(|| Duration::from_millis(args.quiet_ms));
    let reports = audit(settings, &codes, gate).await?;
    if json {
        output::print_json(&reports)?;
    } else {
        for report in &reports {
            println!("{}", report.render().trim_end());
        }
    }
    Ok(reports.iter().fold(Exit::Done, |exit, report| exit.worse(report.exit())))
}

/// The log as it stands.
struct Log {
    kafka: LogClient,
    incarnation: LogIncarnation,
    marks: BTreeMap<i32, Watermarks>,
}

/// One coupon's rows in the snapshot, but for the ledger, which is streamed.
struct Snapshot {
    code: CouponCode,
    coupon: Option<pg::CouponRow>,
    commands: Vec<pg::CommandRow>,
    letters: Vec<pg::DeadLetterRow>,
}

/// Audits these coupons; with `gate`, their gates as well, waiting so long until they are quiet.
///
/// # Errors
/// Log, database or Redis cannot be reached.
pub async fn audit(settings: &Settings, codes: &[CouponCode], gate: Option<Duration>) -> anyhow::Result<Vec<Report>> {
    let log_key = settings.log_key()?;
    let db = settings.database().await?;
    let topic = &settings.kafka.topics.created;
    let mut connection = pg::connection(&db, settings).await?;
    // The snapshot comes first: whatever it holds was decided from records that are in the log by now.
    pg::begin_snapshot(&mut connection).await?;
    let positions = pg::positions(&mut connection, topic).await?;
    let mut snapshots = Vec::with_capacity(codes.len());
    for code in codes {
        let coupon = pg::coupon(&mut connection, code.as_str()).await?;
        let commands = pg::commands(&mut connection, code.as_str()).await?;
        let letters = pg::dead_letters_of(&mut connection, code.as_str()).await?;
        snapshots.push(Snapshot { code: code.clone(), coupon, commands, letters });
    }
    let log = open_log(settings).await?;
    let partitions = i32::try_from(log.marks.len()).unwrap_or(i32::MAX);
    let mut readings: Vec<Reading> = snapshots.iter().map(|snapshot| begin_reading(snapshot, partitions)).collect();
    let trouble = trouble(&log, &positions);
    if trouble.is_none() {
        let decided = |partition: i32| positions.iter().find(|row| row.partition == partition).map_or(0, |row| row.next_offset);
        let mut all = Readings { log_key: &log_key, log: &log.incarnation, coupons: &mut readings };
        read_log(settings, &log, &mut all, decided).await?;
    }
    let mut reports = Vec::with_capacity(codes.len());
    for (snapshot, reading) in snapshots.iter().zip(&readings) {
        reports.push(judge(&mut connection, &log, &positions, snapshot, reading, trouble.clone()).await?);
    }
    pg::end_snapshot(&mut connection).await?;
    drop(connection);
    if let Some(quiet) = gate {
        for (report, snapshot) in reports.iter_mut().zip(&snapshots) {
            compare_gate(settings, &db, &log.kafka, snapshot, quiet, report).await?;
        }
    }
    for report in &mut reports {
        report.verdict = report.exit().verdict();
    }
    Ok(reports)
}

async fn open_log(settings: &Settings) -> anyhow::Result<Log> {
    let topic = &settings.kafka.topics.created;
    let kafka = settings.log_client()?;
    let incarnation = kafka.incarnation(topic).await.with_context(|| settings.kafka_hint())?;
    let mut marks = BTreeMap::new();
    for partition in 0..kafka.partition_count(topic).await.with_context(|| settings.kafka_hint())? {
        marks.insert(partition, kafka.watermarks(topic, partition).await.with_context(|| settings.kafka_hint())?);
    }
    Ok(Log { kafka, incarnation, marks })
}

/// Why nothing can be told about any coupon.
fn trouble(log: &Log, positions: &[pg::PositionRow]) -> Option<String> {
    for row in positions {
        let theirs = LogIncarnation { cluster_id: row.cluster_id.clone(), topic_id: row.topic_id.clone() };
        if theirs != log.incarnation {
            return Some(format!(
                "the database was decided from the log {theirs}, and this is the log {}: the topic was made anew, or this is another cluster",
                log.incarnation
            ));
        }
        let Some(marks) = log.marks.get(&row.partition) else {
            return Some(format!("the database has decided partition {}, which the topic does not have", row.partition));
        };
        if row.next_offset > marks.high {
            let (partition, next, high) = (row.partition, row.next_offset, marks.high);
            return Some(format!("partition {partition} was decided up to {next}, and the log ends at {high}: it lost records"));
        }
    }
    None
}

fn begin_reading(snapshot: &Snapshot, partitions: i32) -> Reading {
    let home = partition_of(snapshot.code.as_str().as_bytes(), partitions);
    let partition = snapshot.coupon.as_ref().map_or(home, |coupon| coupon.partition);
    let refused =
        snapshot.letters.iter().filter(|letter| letter.cause == Cause::RefusedByDatabase.as_str()).map(place_of).collect();
    Reading::new(snapshot.code.clone(), partition, home, refused)
}

const fn place_of(letter: &pg::DeadLetterRow) -> Place {
    Place { partition: letter.partition, offset: letter.log_offset }
}

async fn read_log(
    settings: &Settings,
    log: &Log,
    readings: &mut Readings<'_>,
    decided: impl Fn(i32) -> i64,
) -> anyhow::Result<()> {
    for (partition, marks) in &log.marks {
        let position = decided(*partition);
        // Copies count wherever they stand, so the coupons' own partitions are read to their end.
        let holds_a_coupon = readings.coupons.iter().any(|reading| reading.partition == *partition);
        let to = if holds_a_coupon { marks.high } else { position };
        let mut reader = LogReader::open(&settings.kafka, &settings.kafka.topics.created, *partition, marks.low, to)?;
        while let Some(batch) = reader.next_batch(READ_RECORDS_MAX).await.with_context(|| settings.kafka_hint())? {
            for raw in batch.iter() {
                readings.take(&raw, raw.offset < position);
            }
        }
        if reader.position() < position {
            bail!("partition {partition} could be read up to {} only, not up to the position {position}", reader.position());
        }
    }
    Ok(())
}

async fn judge(
    connection: &mut pg::Connection,
    log: &Log,
    positions: &[pg::PositionRow],
    snapshot: &Snapshot,
    reading: &Reading,
    trouble: Option<String>,
) -> anyhow::Result<Report> {
    let partition = reading.partition;
    let position = positions.iter().find(|row| row.partition == partition).map_or(0, |row| row.next_offset);
    let marks = log.marks.get(&partition).copied().unwrap_or(Watermarks { low: 0, high: 0 });
    let mut report = Report {
        coupon: snapshot.code.to_string(),
        verdict: "cannot_tell",
        cannot_tell: trouble,
        partition,
        position,
        log_start: marks.low,
        log_end: marks.high,
        records: reading.fold.records,
        foreign_records: reading.foreign_records(),
        issued: reading.fold.coupon.as_ref().map_or(0, |coupon| coupon.issued),
        total: reading.fold.coupon.as_ref().map_or(0, |coupon| coupon.total),
        ledger: compare::Tally::default(),
        differences: Differences::default(),
        notes: Vec::new(),
        gate: "not_looked_at".to_owned(),
    };
    if report.cannot_tell.is_some() {
        return Ok(report);
    }
    let unknown = noted(snapshot, Cause::UnknownCoupon);
    let mut comparer = Comparer::new(&reading.fold, partition, position, noted(snapshot, Cause::RefusedByDatabase));
    let mut earliest = snapshot.commands.iter().filter(|row| row.partition == partition).map(|row| row.log_offset).min();
    let mut after = None;
    loop {
        let page = pg::ledger_page(connection, snapshot.code.as_str(), after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.request_id);
        for row in &page {
            if row.partition == partition {
                earliest = Some(earliest.map_or(row.log_offset, |earliest| earliest.min(row.log_offset)));
            }
            let place = Place { partition: row.partition, offset: row.log_offset };
            // Refused elsewhere, before the coupon was known: that depends on when the other partition was decided, not on its log alone.
            if row.partition != partition && row.outcome == "unprocessable" && unknown.contains(&place) {
                continue;
            }
            comparer.row(&found_row(row));
        }
    }
    if marks.low > 0 && earliest.is_none_or(|earliest| earliest < marks.low) {
        report.cannot_tell = Some(format!(
            "the log of partition {partition} starts at {} by now, and the coupon began before that{}; retention was shorter than the coupon's life",
            marks.low,
            earliest.map_or_else(String::new, |earliest| format!(", at {earliest} or earlier"))
        ));
        return Ok(report);
    }
    let commands: Vec<_> = snapshot.commands.iter().map(found_command).collect();
    let coupon = snapshot.coupon.as_ref().map(found_coupon).transpose()?;
    let (mut differences, tally) = comparer.finish(coupon.as_ref(), &commands);
    let not_forwarded: HashSet<Place> = unknown.union(&noted(snapshot, Cause::TooLarge)).copied().collect();
    reading.check_copies(&not_forwarded, &mut differences);
    check_letters(log, snapshot, reading, &mut differences, &mut report.notes);
    if snapshot.coupon.is_none() && reading.fold.coupon.is_none() && differences.is_empty() && tally.rows == 0 {
        report.cannot_tell = Some("no coupon with this code is in the log or in the database; is the code right?".to_owned());
    }
    (report.differences, report.ledger) = (differences, tally);
    Ok(report)
}

fn noted(snapshot: &Snapshot, cause: Cause) -> HashSet<Place> {
    snapshot.letters.iter().filter(|letter| letter.cause == cause.as_str()).map(place_of).collect()
}

fn check_letters(log: &Log, snapshot: &Snapshot, reading: &Reading, differences: &mut Differences, notes: &mut Vec<String>) {
    let mut expected = reading.expected_letters();
    let mut refused = 0_u64;
    for letter in &snapshot.letters {
        let place = place_of(letter);
        let subject = format!("record {place}");
        match expected.remove(&place) {
            _ if letter.cause == Cause::RefusedByDatabase.as_str() => refused += 1,
            Some(cause) if cause.as_str() == letter.cause => {}
            Some(cause) => differences.add(Kind::MissingDeadLetter, subject, cause.as_str(), letter.cause.as_str()),
            // Retention may have taken the record; and another partition may have been decided before the coupon was known.
            None if log.marks.get(&place.partition).is_none_or(|marks| place.offset < marks.low) => {}
            None if place.partition != reading.partition && letter.cause == Cause::UnknownCoupon.as_str() => {}
            // A record of another partition that was too large for a copy with our headers; how large that is depends on the topic.
            None if place.partition != reading.partition && letter.cause == Cause::TooLarge.as_str() => {}
            None => differences.add(Kind::ExtraDeadLetter, subject, "a record that can be used, or none", letter.cause.as_str()),
        }
    }
    for (place, cause) in expected {
        differences.add(Kind::MissingDeadLetter, format!("record {place}"), cause.as_str(), "not noted");
    }
    if refused > 0 {
        notes.push(format!(
            "{refused} records were refused by the database itself; that cannot follow from the log, look: trueup dead-letters list --cause refused_by_database"
        ));
    }
}

fn found_row(row: &pg::LedgerRow) -> FoundRow {
    FoundRow {
        request: RequestId::from_uuid(row.request_id),
        member: row.member_id.clone(),
        partition: row.partition,
        offset: row.log_offset,
        told: row.told_offset,
        at: Timestamp::from(row.appended_at),
        admitted: row.admitted,
        outcome: row.outcome.clone(),
        sequence: row.sequence,
        issued_request: row.issued_request_id.map(RequestId::from_uuid),
    }
}

fn found_command(row: &pg::CommandRow) -> FoundCommand {
    FoundCommand {
        id: CommandId::from_uuid(row.command_id),
        kind: row.kind.clone(),
        actor: row.actor.clone(),
        partition: row.partition,
        offset: row.log_offset,
        outcome: row.outcome.clone(),
    }
}

fn found_coupon(row: &pg::CouponRow) -> anyhow::Result<FoundCoupon> {
    let admission = row.admission.parse().map_err(|error| anyhow::anyhow!("coupon.admission: {error}"))?;
    let rules = ExpectedCoupon {
        name: row.name.clone(),
        admission,
        total: row.total_quantity,
        issued: row.issued_quantity,
        opens_at: row.opens_at.map(Into::into),
        closes_at: row.closes_at.map(Into::into),
        paused: row.paused,
        ended: row.ended,
        rules_offset: row.rules_offset,
        defined_by: row.defined_by.clone(),
    };
    Ok(FoundCoupon { partition: row.partition, issued_quantity: row.issued_quantity, rules })
}

async fn compare_gate(
    settings: &Settings,
    db: &postgres_io::Db,
    kafka: &LogClient,
    snapshot: &Snapshot,
    quiet: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    if !snapshot.coupon.as_ref().is_some_and(gate::has_gate) {
        report.gate = "no_gate".to_owned();
        return Ok(());
    }
    let before = report.differences.total();
    match gate::compare(settings, db, kafka, &snapshot.code, quiet, &mut report.differences).await? {
        Ok(()) => report.gate = if report.differences.total() == before { "same" } else { "differs" }.to_owned(),
        Err(why) => {
            report.gate = format!("not quiet: {why}");
            report.cannot_tell.get_or_insert_with(|| format!("the gate did not become quiet: {why}"));
        }
    }
    Ok(())
}
