//! Reads everything that a round is judged by.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use contracts::{Decoded, RawRecord, decode, partition_of};
use deadpool_redis::redis;
use domain::{
    clock::Timestamp,
    coupon::{Admission, Body, Record, Unusable},
    ids::{CouponCode, MemberId, RequestId},
};
use kafka_io::LogReader;
use redis_io::{Gate, GateState as Opening, keys};

use crate::{
    evidence::{Answer, CouponEvidence, CouponRow, Evidence, GateState, LedgerRow, Sample},
    places::Places,
};

/// Records in one read.
const READ_RECORDS_MAX: usize = 5_000;
/// Members in one step of a scan.
const SCAN_COUNT: usize = 1_000;

/// The log's ends, by partition.
pub type Marks = BTreeMap<i32, i64>;

/// What is known of a coupon without asking any server.
#[derive(Debug)]
pub struct Known {
    /// Its code.
    pub code: CouponCode,
    /// Who judges first.
    pub admission: Admission,
    /// See [`CouponEvidence::is_plain`].
    pub is_plain: bool,
    /// Everybody.
    pub members: BTreeSet<MemberId>,
    /// Every answer.
    pub answers: Vec<Answer>,
    /// Who got none that is final.
    pub unanswered: Vec<MemberId>,
    /// Snapshots with too many issues.
    pub oversold: Vec<Sample>,
}

/// The ends of all partitions now.
///
/// # Errors
/// The broker does not answer.
pub async fn marks(places: &Places) -> Result<Marks> {
    let log = places.log_client()?;
    let mut marks = Marks::new();
    for partition in 0..log.partition_count(places.log_topic()).await? {
        marks.insert(partition, log.watermarks(places.log_topic(), partition).await?.high);
    }
    Ok(marks)
}

/// The partition that a coupon lives on.
///
/// # Errors
/// The database does not answer, or does not have the coupon.
pub async fn partition_of_coupon(places: &Places, code: &CouponCode) -> Result<i32> {
    let database = places.database().await?;
    let row = database.query_one("SELECT partition FROM coupon WHERE coupon_code = $1", &[&code.as_str()]).await;
    Ok(row.with_context(|| format!("the partition of {code}"))?.try_get(0)?)
}

/// Reads a partition from `from` to its end now.
///
/// # Errors
/// The broker does not answer.
pub async fn read_log(places: &Places, partition: i32, from: i64, mut take: impl FnMut(&RawRecord<'_>)) -> Result<i64> {
    let end = places.log_client()?.watermarks(places.log_topic(), partition).await?.high;
    let mut reader = LogReader::open(&places.kafka, places.log_topic(), partition, from, end)?;
    while let Some(batch) = reader.next_batch(READ_RECORDS_MAX).await? {
        batch.iter().for_each(|raw| take(&raw));
    }
    Ok(end)
}

/// Reads the servers once more; what clients were told stays.
///
/// # Errors
/// A server does not answer.
pub async fn again(places: &Places, before: &Evidence) -> Result<Evidence> {
    let mut evidence = Evidence { coupons: Vec::new(), ..before.clone() };
    for old in &before.coupons {
        let since = old.log.iter().map(|record| (record.place.partition, record.place.offset)).take(1).collect();
        let known = Known {
            code: old.code.clone(),
            admission: old.admission,
            is_plain: old.is_plain,
            members: old.members.iter().cloned().collect(),
            answers: old.answers.clone(),
            unanswered: old.unanswered.clone(),
            oversold: old.oversold.clone(),
        };
        evidence.coupons.push(coupon(places, known, &since).await?);
    }
    Ok(evidence)
}

/// All about one coupon.
///
/// # Errors
/// A server does not answer.
pub async fn coupon(places: &Places, known: Known, since: &Marks) -> Result<CouponEvidence> {
    let partition = partition_of_coupon(places, &known.code).await?;
    let partitions = places.log_client()?.partition_count(places.log_topic()).await?;
    let incarnation = places.log_client()?.incarnation(places.log_topic()).await?;
    let log_key = places.log_key()?;
    let mut log = Vec::new();
    let from = since.get(&partition).copied().unwrap_or(0);
    let log_end = read_log(places, partition, from, |raw| log.extend(record(raw, decode(raw, &log_key, &incarnation)))).await?;
    let database = places.database().await?;
    let place = |table: &str| format!("SELECT next_offset FROM {table} WHERE topic = $1 AND partition = $2");
    let position = database.query_opt(&place("consumer_position"), &[&places.log_topic(), &partition]).await?;
    let published = database.query_opt(&place("publisher_position"), &[&places.log_topic(), &partition]).await?;
    let code = known.code.as_str();
    let row = database.query_opt("SELECT total_quantity, issued_quantity FROM coupon WHERE coupon_code = $1", &[&code]).await?;
    let row = row.map(|row| anyhow::Ok(CouponRow { total: row.try_get(0)?, issued_quantity: row.try_get(1)? })).transpose()?;
    let rows = database
        .query(
            "SELECT request_id, member_id, log_offset, outcome::text, sequence FROM coupon_request WHERE coupon_code = $1",
            &[&code],
        )
        .await?;
    let rows = rows.iter().map(ledger_row).collect::<Result<_>>()?;
    let gate = if known.admission == Admission::Reserved { Some(gate(places, &known.code).await?) } else { None };
    Ok(CouponEvidence {
        is_home: partition_of(code.as_bytes(), partitions) == partition,
        code: known.code.clone(),
        admission: known.admission,
        is_plain: known.is_plain,
        members: known.members.into_iter().collect(),
        answers: known.answers,
        unanswered: known.unanswered,
        log,
        log_end,
        position: position.map_or(Ok(0), |row| row.try_get(0))?,
        published: published.map_or(Ok(0), |row| row.try_get(0))?,
        coupon: row,
        rows,
        gate,
        oversold: known.oversold,
    })
}

fn ledger_row(row: &tokio_postgres::Row) -> Result<LedgerRow> {
    Ok(LedgerRow {
        request: RequestId::from_uuid(row.try_get(0)?),
        member: row.try_get(1)?,
        offset: row.try_get(2)?,
        outcome: row.try_get(3)?,
        sequence: row.try_get(4)?,
    })
}

/// A record as the fold takes it. One that cannot be used is final where its coupon and its id can be read, else it is nobody's.
fn record(raw: &RawRecord<'_>, decoded: Decoded) -> Option<Record> {
    match decoded {
        Decoded::Usable(record) => Some(record),
        Decoded::Unusable(unusable) => {
            let body = Body::Unusable(Unusable { id: unusable.request?, coupon: unusable.coupon?, member: unusable.member });
            Some(Record { place: raw.place(), at: Timestamp::from_unix_ms(raw.timestamp_ms), body })
        }
    }
}

async fn gate(places: &Places, code: &CouponCode) -> Result<GateState> {
    let status = Gate::connect(&places.redis).await?.status(code).await?;
    let client = redis::Client::open(places.redis.url.expose())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut members = BTreeSet::new();
    let mut cursor = 0_u64;
    loop {
        let (next, page): (u64, Vec<String>) = redis::cmd("SSCAN")
            .arg(keys::issued(code))
            .arg(cursor)
            .arg("COUNT")
            .arg(SCAN_COUNT)
            .query_async(&mut connection)
            .await?;
        members.extend(page);
        if next == 0 {
            break;
        }
        cursor = next;
    }
    Ok(GateState {
        is_open: status.state == Opening::Open,
        members: members.into_iter().collect(),
        pending: status.pending,
        total: status.total,
        stock: status.stock,
        cursor: status.cursor,
    })
}

/// Looks for a coupon that holds more issues than seats, in one snapshot.
///
/// # Errors
/// The database does not answer, which is not unusual while things break.
pub async fn oversold(database: &tokio_postgres::Client, code: &CouponCode, at_ms: u64) -> Result<Option<Sample>> {
    let row = database
        .query_opt(
            "SELECT total_quantity, (SELECT count(*) FROM coupon_request r WHERE r.coupon_code = c.coupon_code AND outcome = 'issued') \
             FROM coupon c WHERE coupon_code = $1",
            &[&code.as_str()],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let (total, issued): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok((issued > total).then_some(Sample { at_ms, issued, total }))
}
