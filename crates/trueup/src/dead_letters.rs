//! `trueup dead-letters`: what could not be used, and asking again for it.

use std::time::Duration;

use anyhow::{Context, bail};
use contracts::{Decoded, Envelope, TraceParent, decode, encode_request, names, origin_of};
use domain::{
    clock::{Clock, SystemClock},
    coupon::{Body, Place, Request},
    ids::{CouponCode, MemberId, RequestId},
};
use kafka_io::{CommandProducer, ProducerSettings};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    cli::DeadLettersCommand,
    exit::Exit,
    output::{self, Table},
    pg,
    record_view::{RecordView, read_one},
    settings::Settings,
};

/// How long a replay waits for what is still on its way.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the outcome of a replay is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// `ce_source` of what this command appends.
const SOURCE: &str = "/trueup/operator";

/// Does one of them.
///
/// # Errors
/// Log or database cannot be reached, or there is no such dead letter.
pub async fn run(settings: &Settings, command: &DeadLettersCommand, json: bool) -> anyhow::Result<Exit> {
    match command {
        DeadLettersCommand::List { coupon, cause, limit } => {
            list(settings, coupon.as_deref(), cause.as_deref(), *limit, json).await
        }
        DeadLettersCommand::Show { place } => show(settings, place.0, json).await,
        DeadLettersCommand::Replay { place, coupon, member, wait_ms } => {
            let wait = Duration::from_millis(*wait_ms);
            replay(settings, place.0, coupon.as_deref(), member.as_deref(), wait, json).await
        }
    }
}

async fn list(settings: &Settings, coupon: Option<&str>, cause: Option<&str>, limit: i64, json: bool) -> anyhow::Result<Exit> {
    let db = settings.database().await?;
    let rows = pg::dead_letters(&mut *pg::connection(&db, settings).await?, coupon, cause, limit).await?;
    if json {
        output::print_json(&rows.iter().map(as_json).collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(["place", "cause", "coupon", "request", "noted at", "detail"]);
    for row in &rows {
        table.row([
            format!("{}@{}", row.partition, row.log_offset),
            row.cause.clone(),
            row.coupon_code.clone().unwrap_or_else(|| "-".to_owned()),
            row.request_id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
            row.noted_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            row.detail.clone(),
        ]);
    }
    if table.is_empty() {
        println!("no dead letters")
    } else {
        print!("{}", table.render())
    }
    Ok(Exit::Done)
}

fn as_json(row: &pg::DeadLetterRow) -> serde_json::Value {
    json!({
        "place": format!("{}@{}", row.partition, row.log_offset), "cause": row.cause, "detail": row.detail, "coupon": row.coupon_code,
        "request": row.request_id, "deadLetterPlace": format!("{}@{}", row.dlt_partition, row.dlt_offset), "notedAt": row.noted_at,
    })
}

/// A dead letter's note and its record: from the log itself, else (after retention) from the dead letter topic.
struct Found {
    note: pg::DeadLetterRow,
    batch: Option<contracts::RecordBatch>,
    topic: String,
}

async fn find(settings: &Settings, place: Place) -> anyhow::Result<Found> {
    let db = settings.database().await?;
    let note = pg::dead_letter(&mut *pg::connection(&db, settings).await?, place.partition, place.offset).await?;
    let note =
        note.with_context(|| format!("no dead letter is noted at {place}; trueup dead-letters list shows those that are"))?;
    let topics = &settings.kafka.topics;
    for (topic, partition, offset) in
        [(&topics.created, place.partition, place.offset), (&topics.dead_letter, note.dlt_partition, note.dlt_offset)]
    {
        if let Some(batch) = read_one(settings, topic, partition, offset).await? {
            return Ok(Found { note, batch: Some(batch), topic: topic.clone() });
        }
    }
    Ok(Found { note, batch: None, topic: String::new() })
}

async fn show(settings: &Settings, place: Place, json: bool) -> anyhow::Result<Exit> {
    let found = find(settings, place).await?;
    let record = found.batch.as_ref().and_then(|batch| batch.first().map(|raw| RecordView::new(&raw)));
    if json {
        output::print_json(&json!({ "note": as_json(&found.note), "topic": found.topic, "record": record }))?;
        return Ok(Exit::Done);
    }
    print!("{}", output::fields(&as_json(&found.note)));
    let Some(record) = record else {
        println!("  the record itself is in neither topic any more");
        return Ok(Exit::Done);
    };
    println!("\n  {} {}, appended {}", found.topic, record.place, record.appended_at);
    println!("  key    {}", record.key.as_deref().unwrap_or("none"));
    for (name, value) in &record.headers {
        println!("  header {name}: {}", value.as_deref().unwrap_or("null"));
    }
    match (&record.value_text, &record.value_hex) {
        (Some(text), _) => println!("  value  {text}"),
        (None, Some(hex)) => println!("  value  {} bytes in hexadecimal: {hex}", record.value_bytes),
        (None, None) => {}
    }
    Ok(Exit::Done)
}

async fn replay(
    settings: &Settings,
    place: Place,
    code: Option<&str>,
    member: Option<&str>,
    wait: Duration,
    json: bool,
) -> anyhow::Result<Exit> {
    let found = find(settings, place).await?;
    let wish = match readable_wish(settings, &found, place).await? {
        Ok(wish) => wish,
        Err(refusal) => return refused(&refusal, json),
    };
    let wish = match wish.overridden(code, member) {
        Ok(wish) => wish,
        Err(refusal) => return refused(&refusal, json),
    };
    let db = settings.database().await?;
    let coupon = pg::coupon(&mut *pg::connection(&db, settings).await?, wish.coupon.as_str()).await?;
    let Some(coupon) = coupon else {
        let code = &wish.coupon;
        return refused(
            &format!("no coupon `{code}` is defined, so it would be refused again; define it first, or give --coupon"),
            json,
        );
    };
    let id = replay_id(&wish.coupon, &wish.member, wish.origin);
    let request = Request { id, coupon: wish.coupon.clone(), member: wish.member.clone(), admitted: false };
    let trace = TraceParent::fresh(SystemClock.now(), true);
    let envelope = Envelope { source: SOURCE, time: SystemClock.now(), trace_parent: Some(trace) };
    let encoded = encode_request(&request, wish.old, &settings.log_key()?, &envelope);
    let producer = CommandProducer::new(&settings.kafka, &ProducerSettings::default()).with_context(|| settings.kafka_hint())?;
    let sent = producer.publish(&settings.kafka.topics.created, Some(coupon.partition), &encoded);
    let appended = match sent {
        Ok(delivery) => delivery.await,
        Err(error) => Err(error),
    };
    let _ = producer.flush(FLUSH_TIMEOUT).await;
    let appended = appended.with_context(|| {
        format!("{}: the replay may or may not be in the log; replaying again is safe", settings.kafka_hint())
    })?;
    let row = outcome(&mut pg::connection(&db, settings).await?, &wish.coupon, id, wait).await?;
    let report = json!({
        "replayed": place.to_string(), "requestId": id, "replayOf": wish.old, "coupon": wish.coupon, "member": wish.member,
        "place": appended.to_string(), "traceId": trace.trace_id_hex(), "outcome": row.as_ref().map_or("pending", |row| &row.outcome),
        "sequence": row.as_ref().and_then(|row| row.sequence), "issuedRequestId": row.as_ref().and_then(|row| row.issued_request_id),
    });
    if json {
        output::print_json(&report)?;
    } else {
        print!("{}", output::fields(&report));
        println!("  {}", in_words(row.as_ref(), wish.old));
        println!("  look at it with: trueup explain {id} --coupon {}", wish.coupon);
    }
    Ok(if row.is_some_and(|row| row.outcome != "issued") { Exit::Difference } else { Exit::Done })
}

/// The ledger's row of the replay, if it is decided within `wait`.
async fn outcome(
    connection: &mut pg::Connection,
    code: &CouponCode,
    id: RequestId,
    wait: Duration,
) -> anyhow::Result<Option<pg::LedgerRow>> {
    let deadline = Instant::now() + wait;
    loop {
        let row = pg::ledger_by_ids(connection, &[code.to_string()], &[id.uuid()]).await?.pop();
        if row.is_some() || Instant::now() >= deadline {
            return Ok(row);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What became of a replay, for people.
fn in_words(row: Option<&pg::LedgerRow>, old: Option<RequestId>) -> String {
    let Some(row) = row else { return "it is in the log and not decided yet".to_owned() };
    match row.outcome.as_str() {
        "issued" => format!("issued as number {}", row.sequence.unwrap_or_default()),
        "duplicate" if row.issued_request_id.map(RequestId::from_uuid) == old && old.is_some() => {
            "refused, duplicate: the original itself was issued; there is nothing to repair".to_owned()
        }
        "duplicate" => {
            let issued = row.issued_request_id.map_or_else(|| "another request".to_owned(), |id| id.to_string());
            format!("refused, duplicate: the member holds the coupon by {issued}")
        }
        "sold_out" => {
            "refused, sold_out: the seats went to others meanwhile; raising the total gives him a new chance".to_owned()
        }
        other => format!("refused, {other}: so the rules are at its place in the log"),
    }
}

fn refused(why: &str, json: bool) -> anyhow::Result<Exit> {
    if json {
        output::print_json(&json!({ "refused": why }))?;
    } else {
        eprintln!("trueup: cannot be replayed: {why}");
    }
    Ok(Exit::Difference)
}

/// The same dead letter, coupon and member give the same id: replaying twice is harmless.
fn replay_id(coupon: &CouponCode, member: &MemberId, origin: Place) -> RequestId {
    RequestId::from_idempotency_key(coupon, member, &format!("replay:{origin}"))
}

/// What a dead letter asked for, as far as it can be read.
struct PartialWish {
    coupon: Option<CouponCode>,
    member: Option<MemberId>,
    old: Option<RequestId>,
    origin: Place,
}

struct Wish {
    coupon: CouponCode,
    member: MemberId,
    old: Option<RequestId>,
    origin: Place,
}

impl PartialWish {
    fn overridden(self, code: Option<&str>, member: Option<&str>) -> Result<Wish, String> {
        let code = code.map(CouponCode::new).transpose().map_err(|error| format!("the code given by --coupon {error}"))?;
        let member = member.map(MemberId::new).transpose().map_err(|error| format!("the id given by --member {error}"))?;
        let coupon = code.or(self.coupon).ok_or("it names no coupon that is a valid code; give --coupon")?;
        let member = member.or(self.member).ok_or("it names no member who is a valid id; give --member")?;
        Ok(Wish { coupon, member, old: self.old, origin: self.origin })
    }
}

async fn readable_wish(settings: &Settings, found: &Found, place: Place) -> anyhow::Result<Result<PartialWish, String>> {
    let Some(raw) = found.batch.as_ref().and_then(contracts::RecordBatch::first) else {
        bail!("the record at {place} is in neither topic any more; its note has the cause: {}", found.note.detail);
    };
    let is_command =
        |kind: &[u8]| [names::TYPE_DEFINE, names::TYPE_CHANGE, names::TYPE_CANCEL].iter().any(|name| name.as_bytes() == kind);
    if raw.headers.get(names::CE_TYPE).is_some_and(is_command) {
        let why = "it is an operator's command, not a request, and commands are never repeated from the dead letters; give it anew: trueup coupon --help";
        return Ok(Err(why.to_owned()));
    }
    let topic = &settings.kafka.topics.created;
    let log = settings.log_client()?.incarnation(topic).await.with_context(|| settings.kafka_hint())?;
    let origin = origin_of(&raw);
    let wish = match decode(&raw, &settings.log_key()?, &log) {
        Decoded::Usable(record) => match record.body {
            Body::Request(request) => {
                PartialWish { coupon: Some(request.coupon), member: Some(request.member), old: Some(request.id), origin }
            }
            _ => return Ok(Err("it is an operator's command, not a request".to_owned())),
        },
        Decoded::Unusable(unusable) => {
            PartialWish { coupon: unusable.coupon, member: unusable.member, old: unusable.request, origin }
        }
    };
    Ok(Ok(PartialWish { old: wish.old.or_else(|| found.note.request_id.map(RequestId::from_uuid)), ..wish }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn partial(coupon: Option<&str>, member: Option<&str>) -> PartialWish {
        let origin = Place { partition: 3, offset: 1042 };
        PartialWish {
            coupon: coupon.map(|c| CouponCode::new(c).unwrap()),
            member: member.map(|m| MemberId::new(m).unwrap()),
            old: None,
            origin,
        }
    }

    #[test]
    fn what_cannot_be_read_has_to_be_given() {
        let why = |wish: Result<Wish, String>| wish.err().unwrap();
        assert!(why(partial(None, Some("m")).overridden(None, None)).contains("--coupon"));
        assert!(why(partial(Some("c"), None).overridden(None, None)).contains("--member"));
        assert!(why(partial(Some("c"), None).overridden(None, Some("a b"))).contains("--member"));
        let wish = partial(None, Some("m")).overridden(Some("c"), Some("other")).unwrap();
        assert_eq!((wish.coupon.as_str(), wish.member.as_str()), ("c", "other"));
    }

    #[test]
    fn replaying_twice_gives_the_same_id_and_another_member_another() {
        let id = |member: &str| {
            let wish = partial(Some("c"), Some(member)).overridden(None, None).unwrap();
            replay_id(&wish.coupon, &wish.member, wish.origin)
        };
        assert_eq!(id("m"), id("m"));
        assert_ne!(id("m"), id("n"));
    }
}
