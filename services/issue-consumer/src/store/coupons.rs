//! Coupons as rows and back.

use std::str::FromStr;

use domain::{
    clock::Timestamp,
    coupon::{Admission, Coupon, FoldState},
    ids::CouponCode,
};
use tokio_postgres::Row;

use crate::error::StoreError;

/// Reads a row of the columns that the statements name.
pub(crate) fn coupon(row: &Row) -> Result<Coupon, StoreError> {
    let get = |error: tokio_postgres::Error| StoreError::Fatal(format!("table coupon: {error}"));
    let code: &str = row.try_get(0).map_err(get)?;
    let admission: &str = row.try_get(2).map_err(get)?;
    Ok(Coupon {
        code: CouponCode::new(code).map_err(|error| StoreError::Fatal(format!("coupon code `{code}` {error}")))?,
        name: row.try_get(1).map_err(get)?,
        admission: Admission::from_str(admission).map_err(StoreError::Fatal)?,
        partition: row.try_get(3).map_err(get)?,
        total: row.try_get(4).map_err(get)?,
        issued: row.try_get(5).map_err(get)?,
        opens_at: row.try_get::<_, Option<i64>>(6).map_err(get)?.map(Timestamp::from_unix_ms),
        closes_at: row.try_get::<_, Option<i64>>(7).map_err(get)?.map(Timestamp::from_unix_ms),
        paused: row.try_get(8).map_err(get)?,
        ended: row.try_get(9).map_err(get)?,
        rules_offset: row.try_get(10).map_err(get)?,
    })
}

pub(super) fn put(state: &mut FoldState, coupons: Vec<Coupon>) {
    for coupon in coupons {
        let fold = state.coupons.entry(coupon.code.clone()).or_default();
        fold.coupon = Some(coupon);
    }
}

/// Coupons as one array for each column.
#[derive(Default)]
pub(super) struct Columns<'a> {
    pub codes: Vec<&'a str>,
    pub names: Vec<&'a str>,
    pub admissions: Vec<&'a str>,
    pub partitions: Vec<i32>,
    pub totals: Vec<i64>,
    pub issued: Vec<i64>,
    pub opens_ms: Vec<Option<i64>>,
    pub closes_ms: Vec<Option<i64>>,
    pub paused: Vec<bool>,
    pub ended: Vec<bool>,
    pub rules_offsets: Vec<i64>,
}

impl<'a> Columns<'a> {
    pub(super) fn push(&mut self, coupon: &'a Coupon) {
        self.codes.push(coupon.code.as_str());
        self.names.push(&coupon.name);
        self.admissions.push(coupon.admission.as_str());
        self.partitions.push(coupon.partition);
        self.totals.push(coupon.total);
        self.issued.push(coupon.issued);
        self.opens_ms.push(coupon.opens_at.map(Timestamp::unix_ms));
        self.closes_ms.push(coupon.closes_at.map(Timestamp::unix_ms));
        self.paused.push(coupon.paused);
        self.ended.push(coupon.ended);
        self.rules_offsets.push(coupon.rules_offset);
    }
}
