//! Rows of `coupon` as coupons, for both drivers.

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Bool, Integer, Nullable, Text, Timestamptz},
};
use domain::{clock::Timestamp, coupon::Coupon, ids::CouponCode};

/// What a statement selects of `coupon c` to read a [`CouponRow`].
pub const COUPON_COLUMNS: &str = "c.coupon_code, c.name, c.admission::text AS admission, c.partition, c.total_quantity, \
     c.issued_quantity, c.opens_at, c.closes_at, c.paused, c.ended, c.rules_offset";

/// A row of `coupon`; further columns stand beside it, in a row that embeds this one.
#[derive(Debug, Clone, QueryableByName)]
pub struct CouponRow {
    #[diesel(sql_type = Text)]
    coupon_code: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    admission: String,
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = BigInt)]
    total_quantity: i64,
    #[diesel(sql_type = BigInt)]
    issued_quantity: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    opens_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    closes_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Bool)]
    paused: bool,
    #[diesel(sql_type = Bool)]
    ended: bool,
    #[diesel(sql_type = BigInt)]
    rules_offset: i64,
}

impl TryFrom<CouponRow> for Coupon {
    type Error = RowError;
    fn try_from(row: CouponRow) -> Result<Self, RowError> {
        Ok(Self {
            code: CouponCode::new(&row.coupon_code).map_err(|error| RowError(format!("`{}` {error}", row.coupon_code)))?,
            name: row.name,
            admission: row.admission.parse().map_err(RowError)?,
            partition: row.partition,
            total: row.total_quantity,
            issued: row.issued_quantity,
            opens_at: row.opens_at.map(Timestamp::from),
            closes_at: row.closes_at.map(Timestamp::from),
            paused: row.paused,
            ended: row.ended,
            rules_offset: row.rules_offset,
        })
    }
}

/// The coupon in a row that a raw connection read, by the names of [`COUPON_COLUMNS`].
///
/// # Errors
/// A column is missing or of another type, or what stands in it is not what the schema promises.
pub fn coupon_of_row(row: &tokio_postgres::Row) -> Result<Coupon, RowError> {
    let fault = |error: tokio_postgres::Error| RowError(error.to_string());
    Coupon::try_from(CouponRow {
        coupon_code: row.try_get("coupon_code").map_err(fault)?,
        name: row.try_get("name").map_err(fault)?,
        admission: row.try_get("admission").map_err(fault)?,
        partition: row.try_get("partition").map_err(fault)?,
        total_quantity: row.try_get("total_quantity").map_err(fault)?,
        issued_quantity: row.try_get("issued_quantity").map_err(fault)?,
        opens_at: row.try_get("opens_at").map_err(fault)?,
        closes_at: row.try_get("closes_at").map_err(fault)?,
        paused: row.try_get("paused").map_err(fault)?,
        ended: row.try_get("ended").map_err(fault)?,
        rules_offset: row.try_get("rules_offset").map_err(fault)?,
    })
}

/// A row that is not what the schema promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table coupon: {0}")]
pub struct RowError(String);
