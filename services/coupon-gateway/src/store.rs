//! What the gateway reads from PostgreSQL, in the gateway's words. Rows and statements are in `rows`.

mod rows;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use diesel::{
    sql_query,
    sql_types::{Array, BigInt, Integer, Text, Uuid},
};
use diesel_async::RunQueryDsl;
use domain::{
    coupon::{Coupon, LedgerRow},
    ids::{CouponCode, MemberId, RequestId},
};

use self::rows::{DecidedCouponRow, FIND_MEMBERS, FIND_REQUESTS, FoundRow, HOLDERS, HolderRow, LOAD_COUPONS, MEMBER_PAGE};
use crate::{config::WhenCold, coupons::CouponView, error::ApiError, find::Found, state::AppState};

/// The database did not answer, or not as it should. The cause is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreError;

impl From<StoreError> for ApiError {
    fn from(StoreError: StoreError) -> Self {
        Self::DatabaseUnavailable
    }
}

/// How far a partition is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The next record to be decided.
    pub next_offset: i64,
}

/// Where a page of a member's requests begins: behind this row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageKey {
    /// The row's coupon.
    pub coupon: CouponCode,
    /// The row's request.
    pub request: RequestId,
}

impl PageKey {
    /// The page behind `row`.
    #[must_use]
    pub fn of(row: &LedgerRow) -> Self {
        Self { coupon: row.coupon.clone(), request: row.request }
    }

    /// An opaque text that can stand in an address.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut bytes = self.request.uuid().as_bytes().to_vec();
        bytes.extend_from_slice(self.coupon.as_str().as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads [`PageKey::to_text`].
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (request, coupon) = bytes.split_first_chunk::<16>()?;
        let coupon = CouponCode::new(std::str::from_utf8(coupon).ok()?).ok()?;
        Some(Self { coupon, request: RequestId::from_uuid(uuid::Uuid::from_bytes(*request)) })
    }
}
/// A statement that failed is logged here; whoever asked learns that there is no answer.
fn failed(error: &dyn std::fmt::Display) -> StoreError {
    tracing::warn!(%error, "PostgreSQL gave no answer");
    StoreError
}

/// The requests among `keys`, in their order; the partition is where the request was appended.
///
/// # Errors
/// No answer.
pub async fn find_requests(app: &AppState, keys: Vec<(CouponCode, RequestId, i32)>) -> Result<Vec<Found>, StoreError> {
    let mut conn = app.db.conn().await.map_err(|error| failed(&error))?;
    let rows: Vec<FoundRow> = sql_query(FIND_REQUESTS)
        .bind::<Array<Text>, _>(keys.iter().map(|(coupon, ..)| coupon.as_str()).collect::<Vec<_>>())
        .bind::<Array<Uuid>, _>(keys.iter().map(|(_, request, _)| request.uuid()).collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(keys.iter().map(|(.., partition)| *partition).collect::<Vec<_>>())
        .bind::<Text, _>(&app.settings.kafka.topics.created)
        .load(&mut conn)
        .await
        .map_err(|error| failed(&error))?;
    in_order(keys.len(), rows, |row, found| {
        let position = Position { next_offset: found.next_offset.unwrap_or(0) };
        row.map_or(Found::Undecided(position), Found::Decided)
    })
}

/// Of each coupon and member among `keys`, in their order: the issue, else the newest request.
///
/// # Errors
/// No answer.
pub async fn find_members(app: &AppState, keys: Vec<(CouponCode, MemberId)>) -> Result<Vec<Option<LedgerRow>>, StoreError> {
    let mut conn = app.db.conn().await.map_err(|error| failed(&error))?;
    let rows: Vec<FoundRow> = sql_query(FIND_MEMBERS)
        .bind::<Array<Text>, _>(keys.iter().map(|(coupon, _)| coupon.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(keys.iter().map(|(_, member)| member.as_str()).collect::<Vec<_>>())
        .load(&mut conn)
        .await
        .map_err(|error| failed(&error))?;
    in_order(keys.len(), rows, |row, _| row)
}

/// The coupons among `codes`, with the decided position of their partitions in the same snapshot.
///
/// # Errors
/// No answer.
pub async fn load_coupons(app: &AppState, codes: &[CouponCode]) -> Result<Vec<CouponView>, StoreError> {
    let mut conn = app.db.conn().await.map_err(|error| failed(&error))?;
    let rows: Vec<DecidedCouponRow> = sql_query(LOAD_COUPONS.as_str())
        .bind::<Array<Text>, _>(codes.iter().map(CouponCode::as_str).collect::<Vec<_>>())
        .bind::<Text, _>(&app.settings.kafka.topics.created)
        .load(&mut conn)
        .await
        .map_err(|error| failed(&error))?;
    rows.into_iter()
        .map(|row| {
            let next_offset = row.next_offset.unwrap_or(0);
            let coupon = Coupon::try_from(row.coupon).map_err(|error| failed(&error))?;
            let queued_when_cold = queued_when_cold(app, &coupon.code);
            Ok(CouponView { coupon, next_offset, queued_when_cold, sold_out: None })
        })
        .collect()
}

/// The fingerprints of all members that hold an issue of the coupon, at most `max`; read in pages, so that no answer is
/// large.
///
/// # Errors
/// No answer.
pub async fn issued_fingerprints(app: &AppState, coupon: &CouponCode, max: usize) -> Result<Vec<u64>, StoreError> {
    const PAGE: i64 = 20_000;
    let mut conn = app.db.conn().await.map_err(|error| failed(&error))?;
    let mut all = Vec::with_capacity(max);
    let mut after = 0;
    loop {
        let rows: Vec<HolderRow> = sql_query(HOLDERS)
            .bind::<Text, _>(coupon.as_str())
            .bind::<BigInt, _>(after)
            .bind::<BigInt, _>(PAGE)
            .load(&mut conn)
            .await
            .map_err(|error| failed(&error))?;
        let last_page = i64::try_from(rows.len()).unwrap_or(i64::MAX) < PAGE;
        for row in rows {
            after = row.sequence;
            let member = MemberId::new(&row.member_id).map_err(|error| failed(&error))?;
            all.push(app.fingerprinter.of(&member));
        }
        if last_page || all.len() >= max {
            return Ok(all);
        }
    }
}

/// A page of the member's requests in the ledger, by coupon and request.
///
/// # Errors
/// No answer.
pub async fn member_page(
    app: &AppState,
    member: &MemberId,
    after: Option<&PageKey>,
    limit: usize,
) -> Result<Vec<LedgerRow>, StoreError> {
    let mut conn = app.db.conn().await.map_err(|error| failed(&error))?;
    let rows: Vec<FoundRow> = sql_query(MEMBER_PAGE)
        .bind::<Text, _>(member.as_str())
        .bind::<Text, _>(after.map_or("", |key| key.coupon.as_str()))
        .bind::<Uuid, _>(after.map_or(uuid::Uuid::nil(), |key| key.request.uuid()))
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .load(&mut conn)
        .await
        .map_err(|error| failed(&error))?;
    rows.into_iter().map(|row| row.ledger_row().map_err(|error| failed(&error))).filter_map(Result::transpose).collect()
}

fn in_order<T>(keys: usize, rows: Vec<FoundRow>, make: impl Fn(Option<LedgerRow>, &FoundRow) -> T) -> Result<Vec<T>, StoreError> {
    if rows.len() != keys {
        return Err(failed(&format!("{} rows for {keys} keys", rows.len())));
    }
    rows.iter().map(|found| Ok(make(found.ledger_row().map_err(|error| failed(&error))?, found))).collect()
}

/// Whether a coupon goes on without its gate.
fn queued_when_cold(app: &AppState, code: &CouponCode) -> bool {
    let gate = &app.settings.gate;
    let excepted = gate.when_cold_except.split(',').any(|excepted| excepted.trim() == code.as_str());
    (gate.when_cold == WhenCold::Queued) != excepted
}
