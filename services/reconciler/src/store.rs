//! What PostgreSQL knows about the coupons that are looked after.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    clock::Timestamp,
    coupon::{Admission, Coupon, LogIncarnation},
    ids::CouponCode,
};
use postgres_io::Db;
use uuid::Uuid;

use crate::error::TaskError;

/// A coupon with the decided position of its partition.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The coupon.
    pub coupon: Coupon,
    /// How far its partition is decided; none before the consumer's first batch there.
    pub position: Option<Position>,
}

/// How far a partition is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The next record to decide.
    pub next_offset: i64,
    /// The log that this offset belongs to.
    pub log: LogIncarnation,
}

/// Which coupons a listing takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Reserved coupons that are not ended: those that need a gate.
    Reserved,
    /// The same, and those that ended lately: their last reservations still need a decision.
    ReservedAndLatelyEnded,
    /// Coupons of both kinds that are not ended, or ended lately.
    All,
}

/// PostgreSQL, in the name of this process.
pub struct Store {
    pub(crate) db: Db,
    pub(crate) topic: String,
    pub(crate) holder: Uuid,
    ended_for_s: i64,
}

#[derive(QueryableByName)]
pub(crate) struct CouponRow {
    #[diesel(sql_type = sql_types::Text)]
    coupon_code: String,
    #[diesel(sql_type = sql_types::Text)]
    name: String,
    #[diesel(sql_type = sql_types::Text)]
    admission: String,
    #[diesel(sql_type = sql_types::Integer)]
    partition: i32,
    #[diesel(sql_type = sql_types::BigInt)]
    total_quantity: i64,
    #[diesel(sql_type = sql_types::BigInt)]
    issued_quantity: i64,
    #[diesel(sql_type = sql_types::Nullable<sql_types::Timestamptz>)]
    opens_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = sql_types::Nullable<sql_types::Timestamptz>)]
    closes_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = sql_types::Bool)]
    paused: bool,
    #[diesel(sql_type = sql_types::Bool)]
    ended: bool,
    #[diesel(sql_type = sql_types::BigInt)]
    rules_offset: i64,
    #[diesel(sql_type = sql_types::Nullable<sql_types::BigInt>)]
    next_offset: Option<i64>,
    #[diesel(sql_type = sql_types::Nullable<sql_types::Text>)]
    cluster_id: Option<String>,
    #[diesel(sql_type = sql_types::Nullable<sql_types::Text>)]
    topic_id: Option<String>,
}

/// The columns of [`CouponRow`]; `$1` is the topic.
pub(crate) const COUPON_WITH_POSITION: &str = "SELECT c.coupon_code, c.name, c.admission::text AS admission, c.partition, c.total_quantity, \
    c.issued_quantity, c.opens_at, c.closes_at, c.paused, c.ended, c.rules_offset, p.next_offset, p.cluster_id, p.topic_id \
    FROM coupon c LEFT JOIN consumer_position p ON p.topic = $1 AND p.partition = c.partition";

impl TryFrom<CouponRow> for Watched {
    type Error = TaskError;
    fn try_from(row: CouponRow) -> Result<Self, TaskError> {
        let coupon = Coupon {
            code: CouponCode::new(&row.coupon_code).map_err(|e| TaskError::Row(format!("coupon_code {e}")))?,
            name: row.name,
            admission: row.admission.parse::<Admission>().map_err(TaskError::Row)?,
            partition: row.partition,
            total: row.total_quantity,
            issued: row.issued_quantity,
            opens_at: row.opens_at.map(Timestamp::from),
            closes_at: row.closes_at.map(Timestamp::from),
            paused: row.paused,
            ended: row.ended,
            rules_offset: row.rules_offset,
        };
        let position = match (row.next_offset, row.cluster_id, row.topic_id) {
            (Some(next_offset), Some(cluster_id), Some(topic_id)) => {
                Some(Position { next_offset, log: LogIncarnation { cluster_id, topic_id } })
            }
            _ => None,
        };
        Ok(Self { coupon, position })
    }
}

impl Store {
    /// Works on `db` in the name of `holder`, an id of this process.
    #[must_use]
    pub const fn new(db: Db, topic: String, holder: Uuid, ended_for_s: i64) -> Self {
        Self { db, topic, holder, ended_for_s }
    }

    /// A connection of the pool, for one statement or one transaction.
    pub(crate) async fn connection(&self) -> Result<impl std::ops::DerefMut<Target = AsyncPgConnection> + use<>, TaskError> {
        self.db.conn().await.map_err(|error| TaskError::Connection(error.to_string()))
    }

    /// One page of coupons behind the code `after`, in order of their codes.
    ///
    /// # Errors
    /// PostgreSQL.
    pub async fn page(&self, which: Which, after: &str, limit: i64) -> Result<Vec<Watched>, TaskError> {
        let query = format!(
            "{COUPON_WITH_POSITION} WHERE (c.admission = 'reserved' OR $2) \
             AND (NOT c.ended OR $3 > 0 AND c.updated_at > now() - $3 * interval '1 second') AND c.coupon_code > $4 \
             ORDER BY c.coupon_code LIMIT $5"
        );
        let ended_for_s = if which == Which::Reserved { 0 } else { self.ended_for_s };
        let mut connection = self.connection().await?;
        let rows: Vec<CouponRow> = sql_query(query)
            .bind::<sql_types::Text, _>(&self.topic)
            .bind::<sql_types::Bool, _>(which == Which::All)
            .bind::<sql_types::BigInt, _>(ended_for_s)
            .bind::<sql_types::Text, _>(after)
            .bind::<sql_types::BigInt, _>(limit)
            .load(&mut connection)
            .await?;
        rows.into_iter().map(Watched::try_from).collect()
    }

    /// One coupon.
    ///
    /// # Errors
    /// PostgreSQL, or [`TaskError::UnknownCoupon`].
    pub async fn one(&self, code: &CouponCode) -> Result<Watched, TaskError> {
        let mut connection = self.connection().await?;
        let rows: Vec<CouponRow> = sql_query(format!("{COUPON_WITH_POSITION} WHERE c.coupon_code = $2"))
            .bind::<sql_types::Text, _>(&self.topic)
            .bind::<sql_types::Text, _>(code.as_str())
            .load(&mut connection)
            .await?;
        rows.into_iter().next().ok_or_else(|| TaskError::UnknownCoupon(code.clone()))?.try_into()
    }

    /// The decided positions of all partitions of the topic.
    ///
    /// # Errors
    /// PostgreSQL.
    pub async fn positions(&self) -> Result<BTreeMap<i32, Position>, TaskError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = sql_types::Integer)]
            partition: i32,
            #[diesel(sql_type = sql_types::BigInt)]
            next_offset: i64,
            #[diesel(sql_type = sql_types::Text)]
            cluster_id: String,
            #[diesel(sql_type = sql_types::Text)]
            topic_id: String,
        }
        let mut connection = self.connection().await?;
        let rows: Vec<Row> =
            sql_query("SELECT partition, next_offset, cluster_id, topic_id FROM consumer_position WHERE topic = $1")
                .bind::<sql_types::Text, _>(&self.topic)
                .load(&mut connection)
                .await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let log = LogIncarnation { cluster_id: row.cluster_id, topic_id: row.topic_id };
                (row.partition, Position { next_offset: row.next_offset, log })
            })
            .collect())
    }
}
