//! What PostgreSQL knows about the coupons that are looked after.

use std::{collections::BTreeMap, sync::LazyLock};

use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    coupon::{Coupon, LogIncarnation},
    ids::CouponCode,
};
use postgres_io::{COUPON_COLUMNS, CouponRow, Db};
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
pub(crate) struct WatchedRow {
    #[diesel(embed)]
    coupon: CouponRow,
    #[diesel(sql_type = sql_types::Nullable<sql_types::BigInt>)]
    next_offset: Option<i64>,
    #[diesel(sql_type = sql_types::Nullable<sql_types::Text>)]
    cluster_id: Option<String>,
    #[diesel(sql_type = sql_types::Nullable<sql_types::Text>)]
    topic_id: Option<String>,
}

/// Selects a [`WatchedRow`]; `$1` is the topic.
pub(crate) static COUPON_WITH_POSITION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {COUPON_COLUMNS}, p.next_offset, p.cluster_id, p.topic_id \
         FROM coupon c LEFT JOIN consumer_position p ON p.topic = $1 AND p.partition = c.partition"
    )
});

impl TryFrom<WatchedRow> for Watched {
    type Error = TaskError;
    fn try_from(row: WatchedRow) -> Result<Self, TaskError> {
        let coupon = Coupon::try_from(row.coupon)?;
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
            "{} WHERE (c.admission = 'reserved' OR $2) \
             AND (NOT c.ended OR $3 > 0 AND c.updated_at > now() - $3 * interval '1 second') AND c.coupon_code > $4 \
             ORDER BY c.coupon_code LIMIT $5",
            *COUPON_WITH_POSITION
        );
        let ended_for_s = if which == Which::Reserved { 0 } else { self.ended_for_s };
        let mut connection = self.connection().await?;
        let rows: Vec<WatchedRow> = sql_query(query)
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
        let rows: Vec<WatchedRow> = sql_query(format!("{} WHERE c.coupon_code = $2", *COUPON_WITH_POSITION))
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
