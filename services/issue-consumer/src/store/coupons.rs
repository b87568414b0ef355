//! Coupons as rows and back.

use domain::{
    clock::Timestamp,
    coupon::{Coupon, FoldState},
};
use postgres_io::coupon_of_row;
use tokio_postgres::Row;

use crate::error::StoreError;

/// Reads a row of [`postgres_io::COUPON_COLUMNS`].
pub(crate) fn coupon(row: &Row) -> Result<Coupon, StoreError> {
    coupon_of_row(row).map_err(|error| StoreError::Fatal(error.to_string()))
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
