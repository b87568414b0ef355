//! Reservations that the log never decides: PostgreSQL refuses every row of their request, even one that only says so.
//!
//! All that such a request leaves is a dead letter for each of its copies. Published again for ever, it would keep a seat, and add a dead
//! letter in every grace time. After a few of them the seat goes back, with a row that names member, request and PostgreSQL's reason.

use std::collections::HashMap;

use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::RunQueryDsl;
use domain::ids::CouponCode;
use redis_io::{Gate, Reservation};
use uuid::Uuid;

use crate::{
    error::TaskError,
    repairs::{Kind, storable},
    store::Store,
};

/// A reservation and what PostgreSQL said to its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hopeless {
    /// The reservation, as it was handed out.
    pub reservation: Reservation,
    /// PostgreSQL's words.
    pub detail: String,
}

impl Store {
    /// Of these requests, those that have no row in the ledger and that PostgreSQL has refused at `least` places of the log, with its last
    /// words.
    ///
    /// # Errors
    /// PostgreSQL.
    pub async fn refused(&self, code: &CouponCode, requests: &[Uuid], least: i64) -> Result<HashMap<Uuid, String>, TaskError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = sql_types::Uuid)]
            request_id: Uuid,
            #[diesel(sql_type = sql_types::Text)]
            detail: String,
        }
        if requests.is_empty() {
            return Ok(HashMap::new());
        }
        let mut connection = self.connection().await?;
        let rows: Vec<Row> = sql_query(
            "SELECT request_id, (array_agg(detail ORDER BY noted_at DESC))[1] AS detail FROM dead_letter d \
             WHERE d.request_id = ANY($2) AND d.cause = 'refused_by_database' AND d.coupon_code = $1 \
             AND NOT EXISTS (SELECT FROM coupon_request r WHERE r.coupon_code = $1 AND r.request_id = d.request_id) \
             GROUP BY request_id HAVING count(*) >= $3",
        )
        .bind::<sql_types::Text, _>(code.as_str())
        .bind::<sql_types::Array<sql_types::Uuid>, _>(requests)
        .bind::<sql_types::BigInt, _>(least)
        .load(&mut connection)
        .await?;
        Ok(rows.into_iter().map(|row| (row.request_id, row.detail)).collect())
    }

    /// Gives reservations up: a row for each, then the gate, then the row says that it is done. Answers how many there were; one that was
    /// settled meanwhile is none.
    ///
    /// # Errors
    /// PostgreSQL or Redis. What was not finished is found again in the next round, or by the next full comparison.
    pub async fn give_up(&self, gate: &Gate, code: &CouponCode, hopeless: &[Hopeless]) -> Result<usize, TaskError> {
        if hopeless.is_empty() {
            return Ok(0);
        }
        self.note_given_up(code, hopeless).await?;
        let reservations: Vec<Reservation> = hopeless.iter().map(|one| one.reservation.clone()).collect();
        let given_up = gate.give_up(code, &reservations).await?;
        let (mut done, mut none) = (Vec::new(), Vec::new());
        for (one, given_up) in hopeless.iter().zip(given_up) {
            let member = one.reservation.member.as_str();
            if given_up { done.push(member) } else { none.push(member) }
        }
        self.close(code, Kind::RefusedByDatabase, &done, &none).await?;
        Ok(done.len())
    }

    async fn note_given_up(&self, code: &CouponCode, hopeless: &[Hopeless]) -> Result<(), TaskError> {
        let members: Vec<String> = hopeless.iter().map(|one| storable(one.reservation.member.as_str())).collect();
        let requests: Vec<Uuid> = hopeless.iter().map(|one| one.reservation.request.uuid()).collect();
        let details: Vec<&str> = hopeless.iter().map(|one| one.detail.as_str()).collect();
        let mut connection = self.connection().await?;
        sql_query(
            "INSERT INTO reconciliation_repair (coupon_code, member_id, kind, request_id, detail) \
             SELECT $1, member, $2, request, detail FROM unnest($3, $4, $5) AS one (member, request, detail) \
             ON CONFLICT (coupon_code, member_id, kind) WHERE repaired_at IS NULL \
             DO UPDATE SET request_id = EXCLUDED.request_id, detail = EXCLUDED.detail",
        )
        .bind::<sql_types::Text, _>(code.as_str())
        .bind::<sql_types::Text, _>(Kind::RefusedByDatabase.as_str())
        .bind::<sql_types::Array<sql_types::Text>, _>(members)
        .bind::<sql_types::Array<sql_types::Uuid>, _>(requests)
        .bind::<sql_types::Array<sql_types::Text>, _>(details)
        .execute(&mut connection)
        .await?;
        Ok(())
    }
}
