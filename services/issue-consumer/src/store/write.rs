//! Writes what was decided, and commits.

use bytes::Bytes;
use domain::{
    clock::Timestamp,
    coupon::{CommandRow, Coupon, Decisions, FoldState, Told},
    ids::CouponCode,
};
use futures::{SinkExt, pin_mut};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{Connection, Note, coupons::Columns};
use crate::{copy_rows, error::StoreError, trace::Traces};

/// Writes all of it and commits, in two round trips. `committing` tells, even if this future is dropped, whether COMMIT may have been sent.
pub(super) async fn all(
    connection: &Connection,
    partition: i32,
    state: &FoldState,
    decisions: &Decisions,
    traces: &Traces,
    notes: &[Note],
    committing: &mut bool,
) -> Result<(), StoreError> {
    // Sent in this order without waiting for answers: the schema holds each new sequence against its coupon's total.
    let (inserted, updated, copied) = futures::join!(
        insert_coupons(connection, state, decisions),
        update_coupons(connection, state, decisions),
        copy_rows(connection, decisions, traces),
    );
    // The first failure is the cause; what was sent behind it only says that the transaction is aborted.
    for written in [inserted, updated, copied] {
        written.map_err(|error| StoreError::from_postgres(&error))?;
    }
    let rest = async {
        futures::try_join!(
            move_told(connection, &decisions.told),
            insert_commands(connection, partition, &decisions.commands),
            insert_notes(connection, partition, notes),
        )
    };
    rest.await.map_err(|error| StoreError::from_postgres(&error))?;
    service_kit::failpoint!("consumer.commit.before", return Err(StoreError::Transient("failpoint".to_owned())));
    *committing = true;
    let committed = connection.client.batch_execute("COMMIT").await;
    service_kit::failpoint!("consumer.commit.done", return Err(StoreError::CommitUnknown("failpoint".to_owned())));
    committed.map_err(|error| match StoreError::from_postgres(&error) {
        // PostgreSQL itself said no: this is an answer. Without an answer, nobody knows.
        StoreError::Transient(reason) if error.as_db_error().is_none() => StoreError::CommitUnknown(reason),
        // A server that shuts down may report it after the commit record was written.
        StoreError::Transient(reason) | StoreError::Locked(reason) => StoreError::CommitUnknown(reason),
        refused => refused,
    })
}

type Written = Result<(), tokio_postgres::Error>;

async fn execute(connection: &Connection, statement: &tokio_postgres::Statement, params: &[&(dyn ToSql + Sync)]) -> Written {
    connection.client.execute(statement, params).await.map(|_| ())
}

fn coupon_of<'a>(state: &'a FoldState, code: &CouponCode) -> Option<&'a Coupon> {
    state.coupons.get(code).and_then(|fold| fold.coupon.as_ref())
}

async fn insert_coupons(connection: &Connection, state: &FoldState, decisions: &Decisions) -> Written {
    if decisions.defined.is_empty() {
        return Ok(());
    }
    let mut columns = Columns::default();
    let (mut actors, mut at_ms) = (Vec::new(), Vec::new());
    for defined in &decisions.defined {
        if let Some(coupon) = coupon_of(state, &defined.code) {
            columns.push(coupon);
            actors.push(defined.actor.as_str());
            at_ms.push(defined.at.unix_ms());
        }
    }
    let c = &columns;
    let params: [&(dyn ToSql + Sync); 13] = [
        &c.codes,
        &c.names,
        &c.admissions,
        &c.partitions,
        &c.totals,
        &c.issued,
        &c.opens_ms,
        &c.closes_ms,
        &c.paused,
        &c.ended,
        &c.rules_offsets,
        &actors,
        &at_ms,
    ];
    execute(connection, &connection.statements.insert_coupons, &params).await
}

async fn update_coupons(connection: &Connection, state: &FoldState, decisions: &Decisions) -> Written {
    if decisions.changed.is_empty() {
        return Ok(());
    }
    let mut columns = Columns::default();
    decisions.changed.iter().filter_map(|code| coupon_of(state, code)).for_each(|coupon| columns.push(coupon));
    let c = &columns;
    let params: [&(dyn ToSql + Sync); 9] =
        [&c.codes, &c.names, &c.totals, &c.issued, &c.opens_ms, &c.closes_ms, &c.paused, &c.ended, &c.rules_offsets];
    execute(connection, &connection.statements.update_coupons, &params).await
}

async fn copy_rows(connection: &Connection, decisions: &Decisions, traces: &Traces) -> Written {
    if decisions.rows.is_empty() {
        return Ok(());
    }
    // Sent behind the coupons' statement without waiting for its answer.
    let sink = connection.client.copy_in(&connection.statements.copy_ledger).await?;
    pin_mut!(sink);
    sink.send(Bytes::from(copy_rows::encode(&decisions.rows, traces))).await?;
    sink.finish().await.map(|_| ())
}

async fn move_told(connection: &Connection, told: &[Told]) -> Written {
    if told.is_empty() {
        return Ok(());
    }
    let codes: Vec<&str> = told.iter().map(|told| told.coupon.as_str()).collect();
    let requests: Vec<Uuid> = told.iter().map(|told| told.request.uuid()).collect();
    let offsets: Vec<i64> = told.iter().map(|told| told.offset).collect();
    execute(connection, &connection.statements.move_told, &[&codes, &requests, &offsets]).await
}

async fn insert_commands(connection: &Connection, partition: i32, rows: &[CommandRow]) -> Written {
    if rows.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id.uuid()).collect();
    let codes: Vec<&str> = rows.iter().map(|row| row.coupon.as_str()).collect();
    let kinds: Vec<&str> = rows.iter().map(|row| row.kind.as_str()).collect();
    let actors: Vec<&str> = rows.iter().map(|row| row.actor.as_str()).collect();
    let offsets: Vec<i64> = rows.iter().map(|row| row.place.offset).collect();
    let at_ms: Vec<i64> = rows.iter().map(|row| Timestamp::unix_ms(row.at)).collect();
    let outcomes: Vec<&str> = rows.iter().map(|row| row.outcome.as_str()).collect();
    let payloads: Vec<&str> = rows.iter().map(|row| row.payload.as_str()).collect();
    let params: [&(dyn ToSql + Sync); 9] = [&ids, &codes, &kinds, &actors, &partition, &offsets, &at_ms, &outcomes, &payloads];
    execute(connection, &connection.statements.insert_commands, &params).await
}

async fn insert_notes(connection: &Connection, partition: i32, notes: &[Note]) -> Written {
    if notes.is_empty() {
        return Ok(());
    }
    let offsets: Vec<i64> = notes.iter().map(|note| note.offset).collect();
    let codes: Vec<Option<&str>> = notes.iter().map(|note| note.coupon.as_ref().map(CouponCode::as_str)).collect();
    let requests: Vec<Option<Uuid>> = notes.iter().map(|note| note.request.map(domain::ids::RequestId::uuid)).collect();
    let causes: Vec<&str> = notes.iter().map(|note| note.cause.as_str()).collect();
    let details: Vec<&str> = notes.iter().map(|note| note.detail.as_str()).collect();
    let partitions: Vec<i32> = notes.iter().map(|note| note.place.partition).collect();
    let places: Vec<i64> = notes.iter().map(|note| note.place.offset).collect();
    let params: [&(dyn ToSql + Sync); 8] = [&partition, &offsets, &codes, &requests, &causes, &details, &partitions, &places];
    execute(connection, &connection.statements.insert_dead_letters, &params).await
}
