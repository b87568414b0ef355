//! What a batch has to know before it is decided.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    coupon::{Body, Coupon, FoldState, Record, Request},
    ids::{CommandId, CouponCode, MemberId, RequestId},
};
use futures::{TryStreamExt, pin_mut};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{Connection, Job, Mode, Partition, coupons::coupon};
use crate::{error::StoreError, fingerprints::Fingerprints};

/// A set of holders is loaded when so many requests of a batch would have to be looked up; fewer are looked up.
const LOAD_HOLDERS_FROM: usize = 64;

/// Issues of a coupon for each of its requests in the batch, up to which loading all holders beats looking the few up.
const HOLDERS_PER_REQUEST_MAX: i64 = 64;

/// Opens the transaction, moves the position, and reads the coupons that the records name, locking those that live here.
pub(super) async fn begin(
    connection: &Connection,
    partition: &Partition,
    job: &Job<'_>,
    records: &[Record],
) -> Result<Vec<Coupon>, StoreError> {
    let Connection { client, statements } = connection;
    let Partition { topic, partition, incarnation } = partition;
    let codes: BTreeSet<&str> = distinct_codes(records);
    let codes: Vec<&str> = codes.into_iter().collect();
    let move_params: [&(dyn ToSql + Sync); 6] =
        [&job.slice.to, topic, partition, &job.expected, &incarnation.cluster_id, &incarnation.topic_id];
    let lock_params: [&(dyn ToSql + Sync); 2] = [&codes, partition];
    // One round trip for all three; they are sent in this order.
    let (begun, moved, locked) = futures::join!(
        client.batch_execute("BEGIN"),
        client.execute(&statements.move_position, &move_params),
        client.query(&statements.lock_coupons, &lock_params),
    );
    begun.map_err(|error| StoreError::from_postgres(&error))?;
    if moved.map_err(|error| StoreError::from_postgres(&error))? == 0 {
        let asked: [&(dyn ToSql + Sync); 4] = [topic, partition, &incarnation.cluster_id, &incarnation.topic_id];
        let found = client.query_opt(&statements.position, &asked).await.map_err(|error| StoreError::from_postgres(&error))?;
        let found = found.and_then(|row| row.try_get(0).ok());
        return Err(StoreError::Moved { expected: job.expected, found });
    }
    let locked = locked.map_err(|error| StoreError::from_postgres(&error))?;
    let mut coupons = locked.iter().map(coupon).collect::<Result<Vec<_>, _>>()?;
    if coupons.len() < codes.len() {
        let other = client.query(&statements.other_coupons, &lock_params).await;
        let other = other.map_err(|error| StoreError::from_postgres(&error))?;
        coupons.extend(other.iter().map(coupon).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(coupons)
}

/// Neighbours mostly ask for the same coupon, so runs are skipped before anything is compared in the set.
fn distinct_codes(records: &[Record]) -> BTreeSet<&str> {
    let mut codes = BTreeSet::new();
    let mut last = "";
    for record in records {
        let code = record.body.coupon().as_str();
        if code != last {
            codes.insert(code);
            last = code;
        }
    }
    codes
}

/// Loads ids, holders and commands.
pub(super) async fn state(
    connection: &Connection,
    fingerprints: &mut Fingerprints,
    mode: Mode,
    records: &[Record],
    state: &mut FoldState,
) -> Result<(), StoreError> {
    let commands: Vec<Uuid> = records.iter().filter_map(command_of).map(CommandId::uuid).collect();
    if !commands.is_empty() {
        let known = query(connection, &connection.statements.commands, &[&commands]).await?;
        for row in &known {
            state.commands.insert(CommandId::from_uuid(column(row, 0)?));
        }
    }
    if mode == Mode::Full {
        load_decided(connection, records, state).await?;
    } else {
        learn_holders(connection, fingerprints, records, state).await?;
    }
    load_holders(connection, mode, fingerprints, records, state).await
}

const fn command_of(record: &Record) -> Option<CommandId> {
    match &record.body {
        Body::Define(body) => Some(body.id),
        Body::Change(body) => Some(body.id),
        Body::Cancel(body) => Some(body.id),
        Body::Request(_) | Body::Unusable(_) => None,
    }
}

async fn load_decided(connection: &Connection, records: &[Record], state: &mut FoldState) -> Result<(), StoreError> {
    let mut ids: Vec<(&str, Uuid)> = Vec::with_capacity(records.len());
    for record in records {
        let id = match &record.body {
            Body::Request(body) => body.id,
            Body::Unusable(body) => body.id,
            Body::Cancel(body) => body.request,
            Body::Define(_) | Body::Change(_) => continue,
        };
        ids.push((record.body.coupon().as_str(), id.uuid()));
    }
    ids.sort_unstable();
    ids.dedup();
    let (codes, requests): (Vec<&str>, Vec<Uuid>) = ids.into_iter().unzip();
    for row in query(connection, &connection.statements.decided, &[&codes, &requests]).await? {
        let fold = state.coupons.entry(code_column(&row)?).or_default();
        fold.decided.insert(RequestId::from_uuid(column(&row, 1)?));
    }
    Ok(())
}

/// Loads the whole set of holders of coupons that many records ask for, as far as the bound allows.
async fn learn_holders(
    connection: &Connection,
    fingerprints: &mut Fingerprints,
    records: &[Record],
    state: &FoldState,
) -> Result<(), StoreError> {
    let mut unknown: BTreeMap<&CouponCode, usize> = BTreeMap::new();
    for record in records {
        if let Body::Request(request) = &record.body
            && !fingerprints.knows(&request.coupon)
        {
            *unknown.entry(&request.coupon).or_default() += 1;
        }
    }
    for (code, requests) in unknown {
        let Some(issued) = state.coupons.get(code).and_then(|fold| fold.coupon.as_ref()).map(|coupon| coupon.issued) else {
            continue;
        };
        if issued == 0 {
            fingerprints.learn(code.clone(), []);
            continue;
        }
        let worth_it = requests >= LOAD_HOLDERS_FROM
            && i64::try_from(requests).unwrap_or(i64::MAX).saturating_mul(HOLDERS_PER_REQUEST_MAX) >= issued;
        if worth_it && fingerprints.has_room_for(issued) {
            let text = code.as_str();
            let rows = connection.client.query_raw(&connection.statements.members, [&text]).await;
            let rows = rows.map_err(|error| StoreError::from_postgres(&error))?;
            pin_mut!(rows);
            let mut prints = Vec::new();
            while let Some(row) = rows.try_next().await.map_err(|error| StoreError::from_postgres(&error))? {
                prints.push(fingerprints.fingerprint(row.try_get(0).map_err(|error| StoreError::Fatal(error.to_string()))?));
            }
            fingerprints.learn(code.clone(), prints);
        }
    }
    Ok(())
}

/// Looks up the members who may hold an issue.
async fn load_holders(
    connection: &Connection,
    mode: Mode,
    fingerprints: &Fingerprints,
    records: &[Record],
    state: &mut FoldState,
) -> Result<(), StoreError> {
    let mut suspects: Vec<(&str, &str)> = Vec::new();
    for record in records {
        if let Body::Request(Request { coupon, member, .. }) = &record.body
            && (mode == Mode::Full || fingerprints.may_hold(coupon, member))
        {
            suspects.push((coupon.as_str(), member.as_str()));
        }
    }
    if suspects.is_empty() {
        return Ok(());
    }
    suspects.sort_unstable();
    suspects.dedup();
    let (codes, members): (Vec<&str>, Vec<&str>) = suspects.into_iter().unzip();
    for row in query(connection, &connection.statements.holders, &[&codes, &members]).await? {
        let member: &str = column(&row, 1)?;
        let member = MemberId::new(member).map_err(|error| StoreError::Fatal(format!("member id in the ledger {error}")))?;
        let fold = state.coupons.entry(code_column(&row)?).or_default();
        fold.holders.insert(member, RequestId::from_uuid(column(&row, 2)?));
    }
    Ok(())
}

async fn query(
    connection: &Connection,
    statement: &tokio_postgres::Statement,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, StoreError> {
    connection.client.query(statement, params).await.map_err(|error| StoreError::from_postgres(&error))
}

fn column<'r, T: tokio_postgres::types::FromSql<'r>>(row: &'r Row, index: usize) -> Result<T, StoreError> {
    row.try_get(index).map_err(|error| StoreError::Fatal(error.to_string()))
}

fn code_column(row: &Row) -> Result<CouponCode, StoreError> {
    CouponCode::new(column::<&str>(row, 0)?).map_err(|error| StoreError::Fatal(format!("coupon code in the ledger {error}")))
}
