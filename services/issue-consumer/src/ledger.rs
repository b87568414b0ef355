//! The ledger as the followers read it, and the publisher's cursor.

use std::time::Duration;

use domain::{
    clock::Timestamp,
    coupon::{Admission, Coupon, LedgerRow, NewRow, Outcome, Place},
    ids::{CouponCode, MemberId, RequestId},
};
use postgres_io::{COUPON_COLUMNS, PostgresSettings};
use tokio::sync::Mutex;
use tokio_postgres::{Client, Row, types::ToSql};

use crate::{error::StoreError, trace::Traces};

const ROWS: &str = "SELECT coupon_code, request_id, member_id, log_offset, told_offset, \
     (extract(epoch FROM appended_at) * 1000)::bigint, admitted, outcome::text, sequence, issued_request_id, traceparent FROM coupon_request \
     WHERE partition = $1 AND told_offset >= $2 AND told_offset < $3";

/// Of the coupons of partition `$1`, those that a gate may be open for.
const COUPONS: &str = "WHERE c.partition = $1 AND c.admission = 'reserved' \
     AND (NOT c.ended OR c.updated_at > now() - interval '1 day') ORDER BY c.coupon_code";

const CURSOR: &str = "SELECT next_offset FROM publisher_position WHERE topic = $1 AND partition = $2";

// A zombie's older cursor must not take a newer one back; what lies between would only be told again, but for nothing.
const MOVE_CURSOR: &str = "INSERT INTO publisher_position AS p (topic, partition, next_offset) VALUES ($1, $2, $3) \
     ON CONFLICT (topic, partition) DO UPDATE SET next_offset = greatest(p.next_offset, excluded.next_offset)";

/// A cursor that a power cut takes back is moved again: what lies between is only told once more. This connection writes nothing else.
const CURSORS_NEED_NO_FSYNC: &str = "SET synchronous_commit = off";

/// One partition's followers share it, and its connection, which is made at first use.
pub struct Ledger {
    settings: PostgresSettings,
    topic: String,
    partition: i32,
    timeout: Duration,
    client: Mutex<Option<Client>>,
}

impl Ledger {
    /// The ledger of one partition. A query that takes longer than `timeout` is given up.
    #[must_use]
    pub fn new(settings: PostgresSettings, topic: String, partition: i32, timeout: Duration) -> Self {
        Self { settings, topic, partition, timeout, client: Mutex::new(None) }
    }

    /// Up to `limit` rows with a told offset in `[from, to)`, by told offset; of one coupon, if one is given. With them, the traces of their
    /// requests.
    ///
    /// # Errors
    /// [`StoreError`], when the database cannot be asked.
    pub async fn rows(
        &self,
        from: i64,
        to: i64,
        coupon: Option<&CouponCode>,
        limit: i64,
    ) -> Result<(Vec<NewRow>, Traces), StoreError> {
        let rows = match coupon {
            None => self.query(&format!("{ROWS} ORDER BY told_offset LIMIT $4"), &[&self.partition, &from, &to, &limit]).await?,
            Some(code) => {
                let text = format!("{ROWS} AND coupon_code = $5 ORDER BY told_offset LIMIT $4");
                self.query(&text, &[&self.partition, &from, &to, &limit, &code.as_str()]).await?
            }
        };
        let new = rows.iter().map(|row| self.row(row)).collect::<Result<Vec<_>, _>>()?;
        // A text that is no trace is no reason to keep an outcome back.
        let trace = |row: &Row| row.try_get::<_, Option<&str>>(10).ok()??.parse().ok();
        let traces = new.iter().zip(&rows).filter_map(|(new, row)| Some((new.row.place.offset, trace(row)?))).collect();
        Ok((new, traces))
    }

    /// The reserved coupons of this partition that a gate may be open for.
    ///
    /// # Errors
    /// [`StoreError`], when the database cannot be asked.
    pub async fn reserved_coupons(&self) -> Result<Vec<Coupon>, StoreError> {
        let rows = self.query(&format!("SELECT {COUPON_COLUMNS} FROM coupon c {COUPONS}"), &[&self.partition]).await?;
        let coupons = rows.iter().map(crate::store::coupon_of_row).collect::<Result<Vec<_>, _>>()?;
        Ok(coupons.into_iter().filter(|coupon| coupon.admission == Admission::Reserved).collect())
    }

    /// The publisher's cursor; none before it first moved.
    ///
    /// # Errors
    /// [`StoreError`], when the database cannot be asked.
    pub async fn published(&self) -> Result<Option<i64>, StoreError> {
        let rows = self.query(CURSOR, &[&self.topic, &self.partition]).await?;
        rows.first().map(|row| row.try_get(0).map_err(|error| StoreError::from_postgres(&error))).transpose()
    }

    /// Moves the publisher's cursor forward.
    ///
    /// # Errors
    /// [`StoreError`], when the database cannot be asked.
    pub async fn move_published(&self, to: i64) -> Result<(), StoreError> {
        self.query(MOVE_CURSOR, &[&self.topic, &self.partition, &to]).await.map(drop)
    }

    async fn query(&self, text: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, StoreError> {
        let mut slot = self.client.lock().await;
        // Taken out while in use: a future that is dropped or too late closes the connection with its query.
        let client = slot.take().filter(|client| !client.is_closed());
        let asking = async {
            let client = match client {
                Some(client) => client,
                None => {
                    let client = crate::connect::client(&self.settings).await?;
                    let set = client.batch_execute(CURSORS_NEED_NO_FSYNC).await;
                    set.map_err(|error| StoreError::from_postgres(&error))?;
                    client
                }
            };
            let rows = client.query(text, params).await.map_err(|error| StoreError::from_postgres(&error));
            Ok((client, rows))
        };
        match tokio::time::timeout(self.timeout, asking).await {
            Ok(Ok((client, rows))) => {
                *slot = Some(client);
                rows
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StoreError::Transient(format!("no answer within {} ms", self.timeout.as_millis()))),
        }
    }

    fn row(&self, row: &Row) -> Result<NewRow, StoreError> {
        let fault = |error: tokio_postgres::Error| StoreError::Fatal(format!("table coupon_request: {error}"));
        let id = |error: domain::ids::IdError| StoreError::Fatal(format!("an id in the ledger {error}"));
        let member: Option<&str> = row.try_get(2).map_err(fault)?;
        let issued: Option<uuid::Uuid> = row.try_get(9).map_err(fault)?;
        let outcome: &str = row.try_get(7).map_err(fault)?;
        let sequence = row.try_get(8).map_err(fault)?;
        Ok(NewRow {
            row: LedgerRow {
                coupon: CouponCode::new(row.try_get::<_, &str>(0).map_err(fault)?).map_err(id)?,
                request: RequestId::from_uuid(row.try_get(1).map_err(fault)?),
                member: member.map(MemberId::new).transpose().map_err(id)?,
                place: Place { partition: self.partition, offset: row.try_get(3).map_err(fault)? },
                at: Timestamp::from_unix_ms(row.try_get(5).map_err(fault)?),
                admitted: row.try_get(6).map_err(fault)?,
                outcome: Outcome::from_parts(outcome, sequence, issued.map(RequestId::from_uuid)).map_err(StoreError::Fatal)?,
            },
            told_offset: row.try_get(4).map_err(fault)?,
        })
    }
}
