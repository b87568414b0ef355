//! Statements and the rows that they answer with.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Bool, Integer, Nullable, Text, Timestamptz, Uuid},
};
use domain::{
    clock::Timestamp,
    coupon::{LedgerRow, Outcome, Place},
    ids::{CouponCode, MemberId, RequestId},
};
use postgres_io::{COUPON_COLUMNS, CouponRow};

/// One statement is one snapshot, so a request that is not there is not decided before `next_offset`. The lateral
/// subquery keeps the planner at one index probe a key, however long the ledger gets.
pub const FIND_REQUESTS: &str = "\
SELECT p.next_offset, r.* \
FROM unnest($1::text[], $2::uuid[], $3::int[]) WITH ORDINALITY AS k(coupon, request, part, place) \
LEFT JOIN LATERAL (SELECT coupon_code, request_id, member_id, partition, log_offset, appended_at, admitted, \
    outcome::text AS outcome, sequence, issued_request_id \
  FROM coupon_request WHERE coupon_code = k.coupon AND request_id = k.request LIMIT 1) r ON true \
LEFT JOIN consumer_position p ON p.topic = $4 AND p.partition = k.part \
ORDER BY k.place";

/// The issue comes before all others, then the newest.
pub const FIND_MEMBERS: &str = "\
SELECT NULL::bigint AS next_offset, r.* \
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k(coupon, member, place) \
LEFT JOIN LATERAL (SELECT coupon_code, request_id, member_id, partition, log_offset, appended_at, admitted, \
    outcome::text AS outcome, sequence, issued_request_id \
  FROM coupon_request WHERE member_id = k.member AND coupon_code = k.coupon \
  ORDER BY (sequence IS NOT NULL) DESC, log_offset DESC LIMIT 1) r ON true \
ORDER BY k.place";

/// Coupons, with how far their partitions are decided.
pub static LOAD_COUPONS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {COUPON_COLUMNS}, p.next_offset FROM coupon c \
         LEFT JOIN consumer_position p ON p.topic = $2 AND p.partition = c.partition WHERE c.coupon_code = ANY($1)"
    )
});

/// Who holds an issue, in the order of issuing.
pub const HOLDERS: &str = "\
SELECT member_id, sequence FROM coupon_request \
WHERE coupon_code = $1 AND outcome = 'issued' AND sequence > $2 ORDER BY sequence LIMIT $3";

/// A member's requests.
pub const MEMBER_PAGE: &str = "\
SELECT NULL::bigint AS next_offset, coupon_code, request_id, member_id, partition, log_offset, appended_at, admitted, \
    outcome::text AS outcome, sequence, issued_request_id \
FROM coupon_request WHERE member_id = $1 AND (coupon_code, request_id) > ($2, $3) \
ORDER BY coupon_code, request_id LIMIT $4";

/// A row of the ledger, or nothing but the position.
#[derive(Debug, QueryableByName)]
pub struct FoundRow {
    #[diesel(sql_type = Nullable<BigInt>)]
    pub next_offset: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    coupon_code: Option<String>,
    #[diesel(sql_type = Nullable<Uuid>)]
    request_id: Option<uuid::Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    member_id: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    partition: Option<i32>,
    #[diesel(sql_type = Nullable<BigInt>)]
    log_offset: Option<i64>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    appended_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Bool>)]
    admitted: Option<bool>,
    #[diesel(sql_type = Nullable<Text>)]
    outcome: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    sequence: Option<i64>,
    #[diesel(sql_type = Nullable<Uuid>)]
    issued_request_id: Option<uuid::Uuid>,
}

impl FoundRow {
    /// The row of the ledger, if there is one.
    ///
    /// # Errors
    /// What stands in it is not what the schema promises.
    pub fn ledger_row(&self) -> Result<Option<LedgerRow>, String> {
        let (Some(coupon), Some(request), Some(partition), Some(offset), Some(at), Some(outcome)) =
            (&self.coupon_code, self.request_id, self.partition, self.log_offset, self.appended_at, &self.outcome)
        else {
            return Ok(None);
        };
        let issued_request = self.issued_request_id.map(RequestId::from_uuid);
        Ok(Some(LedgerRow {
            coupon: CouponCode::new(coupon).map_err(|error| error.to_string())?,
            request: RequestId::from_uuid(request),
            member: self.member_id.as_ref().map(MemberId::new).transpose().map_err(|error| error.to_string())?,
            place: Place { partition, offset },
            at: Timestamp::from(at),
            admitted: self.admitted.unwrap_or(false),
            outcome: Outcome::from_parts(outcome, self.sequence, issued_request)?,
        }))
    }
}

/// A coupon, and how far its partition is decided.
#[derive(Debug, QueryableByName)]
pub struct DecidedCouponRow {
    #[diesel(embed)]
    pub coupon: CouponRow,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub next_offset: Option<i64>,
}

/// Who holds an issue.
#[derive(Debug, QueryableByName)]
pub struct HolderRow {
    #[diesel(sql_type = Text)]
    pub member_id: String,
    #[diesel(sql_type = BigInt)]
    pub sequence: i64,
}
