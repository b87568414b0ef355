//! `trueup explain`: what happened to a request.

use anyhow::Context;
use contracts::{Decoded, decode, names};
use domain::{
    coupon::{Body, LogIncarnation},
    ids::{CouponCode, RequestId},
};
use kafka_io::{LogClient, LogReader};
use redis_io::{Gate, Held};
use serde::Serialize;

use crate::{
    cli::ExplainArgs,
    exit::Exit,
    output, pg,
    record_view::{RecordView, read_one},
    settings::Settings,
};

/// Rows of a member that are told.
const ROWS_MAX: i64 = 100;
/// Records of each partition that are searched for a request that is not decided, the newest ones.
const SEARCHED_MAX: i64 = 100_000;
/// Records in one read.
const READ_RECORDS_MAX: usize = 5_000;

/// What happened to one request.
#[derive(Debug, Serialize)]
struct Story {
    request: String,
    coupon: String,
    member: Option<String>,
    /// `pending`, `issued` or the reason.
    outcome: String,
    sequence: Option<i64>,
    issued_request: Option<String>,
    place: String,
    appended_at: String,
    decided_at: Option<String>,
    admitted: Option<bool>,
    told_offset: Option<i64>,
    forwarded_from: Option<String>,
    source: Option<String>,
    sent_at: Option<String>,
    trace_id: Option<String>,
    /// `published`, `not_yet`, or why it is not known.
    outcome_event: String,
    gate: String,
    /// The same in words.
    told: Vec<String>,
}

/// Explains, prints the stories.
///
/// # Errors
/// Log or database cannot be reached.
pub async fn run(settings: &Settings, args: &ExplainArgs, json: bool) -> anyhow::Result<Exit> {
    let db = settings.database().await?;
    let mut connection = pg::connection(&db, settings).await?;
    let request = args.subject.parse::<RequestId>().ok();
    let code = args.coupon.as_deref();
    let mut rows = match request {
        Some(id) => pg::ledger_of_request(&mut connection, id.uuid(), code).await?,
        None => Vec::new(),
    };
    if rows.is_empty() {
        // A member's id may look like a UUID, too.
        rows = pg::ledger_of_member(&mut connection, &args.subject, code, ROWS_MAX).await?;
    }
    let mut stories = Vec::new();
    for row in &rows {
        stories.push(decided(settings, &mut connection, row).await?);
    }
    let undecided = search(settings, &mut connection, &args.subject, request, code).await?;
    stories.extend(undecided);
    if json {
        output::print_json(&stories)?;
    } else {
        for story in &stories {
            println!("{} of {} for {}", story.request, story.member.as_deref().unwrap_or("nobody"), story.coupon);
            for line in &story.told {
                println!("  {line}");
            }
        }
    }
    if stories.is_empty() {
        eprintln!(
            "trueup: nothing is known of `{}`: no row in the ledger, and none of the newest {SEARCHED_MAX} undecided records of each partition names it",
            args.subject
        );
        return Ok(Exit::Difference);
    }
    Ok(Exit::Done)
}

async fn decided(settings: &Settings, connection: &mut pg::Connection, row: &pg::LedgerRow) -> anyhow::Result<Story> {
    let topic = &settings.kafka.topics.created;
    let batch = read_one(settings, topic, row.partition, row.log_offset).await?;
    let record = batch.as_ref().and_then(|batch| batch.first().map(|raw| RecordView::new(&raw)));
    let mut story = from_record(record.as_ref());
    story.request = row.request_id.to_string();
    story.coupon.clone_from(&row.coupon_code);
    story.member.clone_from(&row.member_id);
    story.outcome.clone_from(&row.outcome);
    story.sequence = row.sequence;
    story.issued_request = row.issued_request_id.map(|id| id.to_string());
    story.place = format!("{}@{}", row.partition, row.log_offset);
    story.appended_at = row.appended_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    story.decided_at = Some(row.decided_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
    story.admitted = Some(row.admitted);
    story.told_offset = Some(row.told_offset);
    let publisher = pg::publisher_position(connection, topic, row.partition).await?;
    story.outcome_event = match publisher {
        Some(next) if next > row.told_offset => "published".to_owned(),
        Some(_) => "not_yet".to_owned(),
        None => "the publisher has not begun".to_owned(),
    };
    story.gate = gate(settings, &row.coupon_code, row.member_id.as_deref(), row.told_offset).await;
    story.told = words(&story, record.is_some(), row);
    Ok(story)
}

fn from_record(record: Option<&RecordView>) -> Story {
    let header = |name: &str| record.and_then(|record| record.header(name)).map(str::to_owned);
    Story {
        request: String::new(),
        coupon: String::new(),
        member: None,
        outcome: "pending".to_owned(),
        sequence: None,
        issued_request: None,
        place: record.map_or_else(String::new, |record| record.place.clone()),
        appended_at: record.map_or_else(String::new, |record| record.appended_at.clone()),
        decided_at: None,
        admitted: None,
        told_offset: None,
        forwarded_from: header(names::ORIGIN),
        source: header(names::CE_SOURCE),
        sent_at: header(names::CE_TIME),
        trace_id: record.and_then(RecordView::trace_id),
        outcome_event: "not_yet".to_owned(),
        gate: String::new(),
        told: Vec::new(),
    }
}

fn sent(story: &Story) -> String {
    match (&story.source, &story.sent_at) {
        (Some(source), Some(at)) => format!("written by {source} at {at}"),
        _ => "written by a foreign producer, without an envelope".to_owned(),
    }
}

fn words(story: &Story, has_record: bool, row: &pg::LedgerRow) -> Vec<String> {
    let mut told = Vec::new();
    if has_record {
        told.push(sent(story));
    } else {
        told.push("its record is not in the log any more; what follows is from the ledger".to_owned());
    }
    if let Some(trace) = &story.trace_id {
        told.push(format!("trace {trace}"));
    }
    let seat = if row.admitted { ", signed as admitted by the gate" } else { "" };
    told.push(format!("appended to the log at {} as {}{seat}", story.appended_at, story.place));
    if let Some(origin) = &story.forwarded_from {
        told.push(format!("it first landed at {origin}, which is not its coupon's partition, and was forwarded"));
    }
    let decided_at = story.decided_at.as_deref().unwrap_or_default();
    told.push(format!("decided {decided_at}: {}", reason(story)));
    if row.told_offset != row.log_offset {
        told.push(format!("seen again since, last at offset {}; the outcome is told again and stays", row.told_offset));
    }
    told.push(match story.outcome_event.as_str() {
        "published" => "its outcome event is published".to_owned(),
        "not_yet" => "its outcome event is not published yet".to_owned(),
        other => format!("its outcome event: {other}"),
    });
    told.push(format!("gate: {}", story.gate));
    told
}

/// The outcome in words.
fn reason(story: &Story) -> String {
    let issued_request = story.issued_request.as_deref().unwrap_or("another request");
    match story.outcome.as_str() {
        "issued" => format!("issued as number {}", story.sequence.unwrap_or_default()),
        "sold_out" => "sold_out: no seat was left at its place in the log".to_owned(),
        "duplicate" => format!("duplicate: the member holds the coupon by {issued_request}"),
        "not_open" => "not_open: it was appended before the opening time".to_owned(),
        "closed" => "closed: it was appended at or after the closing time".to_owned(),
        "paused" => "paused: the coupon was paused at its place in the log".to_owned(),
        "ended" => "ended: the coupon had been ended before its place in the log".to_owned(),
        "cancelled" => "cancelled: an operator's cancel stands at this place, before the request itself".to_owned(),
        "unprocessable" => format!("unprocessable: look at trueup dead-letters show {}", story.place),
        other => other.to_owned(),
    }
}

/// What the gate says about a member; that Redis is down is an answer, too.
async fn gate(settings: &Settings, code: &str, member: Option<&str>, told: i64) -> String {
    let (Ok(code), Some(member)) = (CouponCode::new(code), member) else { return "not asked".to_owned() };
    match ask_gate(settings, &code, member, told).await {
        Ok(text) => text,
        Err(error) => format!("not known ({error:#})"),
    }
}

async fn ask_gate(settings: &Settings, code: &CouponCode, member: &str, told: i64) -> anyhow::Result<String> {
    let gate = Gate::connect(&settings.redis).await.with_context(|| settings.redis_hint())?;
    let status = gate.status(code).await?;
    if status.state.is_cold() {
        return Ok(format!("{} (queued coupons need none)", status.state.as_str()));
    }
    let Held { is_member, pending } = gate.held(code, member).await?;
    let holds = match (is_member, pending) {
        (true, Some(id)) => format!("holds the member's seat, pending by {id}"),
        (true, None) => "holds the member as issued".to_owned(),
        (false, Some(id)) => format!("has a pending reservation {id} without a seat"),
        (false, None) => "does not hold the member".to_owned(),
    };
    let settled = match status.cursor {
        Some(cursor) if cursor > told => "this outcome is settled there",
        _ => "this outcome is not settled there yet",
    };
    Ok(format!("{holds}; {settled}"))
}

/// Requests that are in the log and not decided.
async fn search(
    settings: &Settings,
    connection: &mut pg::Connection,
    subject: &str,
    request: Option<RequestId>,
    code: Option<&str>,
) -> anyhow::Result<Vec<Story>> {
    let topic = &settings.kafka.topics.created;
    let log_key = settings.log_key()?;
    let kafka: LogClient = settings.log_client()?;
    let positions = pg::positions(connection, topic).await?;
    let log: LogIncarnation = kafka.incarnation(topic).await.with_context(|| settings.kafka_hint())?;
    let mut stories = Vec::new();
    for partition in 0..kafka.partition_count(topic).await.with_context(|| settings.kafka_hint())? {
        let marks = kafka.watermarks(topic, partition).await.with_context(|| settings.kafka_hint())?;
        let position = positions.iter().find(|row| row.partition == partition).map_or(marks.low, |row| row.next_offset);
        let from = position.max(marks.low).max(marks.high.saturating_sub(SEARCHED_MAX));
        let mut reader = LogReader::open(&settings.kafka, topic, partition, from, marks.high)?;
        while let Some(batch) = reader.next_batch(READ_RECORDS_MAX).await.with_context(|| settings.kafka_hint())? {
            for raw in batch.iter() {
                let Decoded::Usable(record) = decode(&raw, &log_key, &log) else { continue };
                let Body::Request(found) = &record.body else { continue };
                let names_it = request == Some(found.id) || found.member.as_str() == subject;
                if !names_it || code.is_some_and(|code| found.coupon.as_str() != code) {
                    continue;
                }
                let view = RecordView::new(&raw);
                let mut story = from_record(Some(&view));
                story.request = found.id.to_string();
                story.coupon = found.coupon.to_string();
                story.member = Some(found.member.to_string());
                story.admitted = Some(found.admitted);
                let ahead = raw.offset.saturating_sub(position);
                story.told = vec![sent(&story)];
                if let Some(trace) = &story.trace_id {
                    story.told.push(format!("trace {trace}"));
                }
                story.told.push(format!("appended to the log at {} as {}", story.appended_at, story.place));
                story
                    .told
                    .push(format!("not decided yet: {ahead} records of its partition are ahead (decided up to {position})"));
                stories.push(story);
            }
        }
    }
    Ok(stories)
}
