//! Look-ups in PostgreSQL, gathered: thousands of pollers become a few statements.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
    time::Instant,
};

use domain::{
    coupon::LedgerRow,
    ids::{CouponCode, MemberId, RequestId},
};
use futures::future::LocalBoxFuture;

use crate::{
    batcher::{Batcher, NoAnswer},
    coupons::{CouponView, Unknown},
    error::ApiError,
    state::AppState,
    store::{self, Position, StoreError},
};

/// A request in the ledger, or how far the log is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is decided.
    Decided(LedgerRow),
    /// It is not decided; the next record of its partition to be decided, in the same snapshot.
    Undecided(Position),
}

type Answer<T> = Result<T, StoreError>;

/// The look-ups of one worker thread.
pub struct Finder {
    app: Arc<AppState>,
    requests: Batcher<(CouponCode, RequestId, i32), Answer<Found>>,
    members: Batcher<(CouponCode, MemberId), Answer<Option<LedgerRow>>>,
    coupons: Batcher<CouponCode, Answer<Option<Arc<CouponView>>>>,
    ends: Batcher<i32, Option<i64>>,
}

fn unavailable(no_answer: NoAnswer) -> ApiError {
    match no_answer {
        NoAnswer::Full => ApiError::Overloaded("look-ups wait already"),
        NoAnswer::Lost => ApiError::DatabaseUnavailable,
    }
}

impl Finder {
    /// The look-ups of a worker thread.
    #[must_use]
    pub fn new(app: Arc<AppState>) -> Self {
        let (batch_max, queue_max) = (app.settings.lookup.batch_max, app.settings.lookup.queue_max);
        let by = |app: &Arc<AppState>| Arc::clone(app);
        let (for_requests, for_members, for_coupons, for_ends) = (by(&app), by(&app), by(&app), by(&app));
        Self {
            app,
            requests: Batcher::new(batch_max, queue_max, move |keys| find_requests(Arc::clone(&for_requests), keys)),
            members: Batcher::new(batch_max, queue_max, move |keys| find_members(Arc::clone(&for_members), keys)),
            coupons: Batcher::new(batch_max, queue_max, move |keys| find_coupons(Arc::clone(&for_coupons), keys)),
            ends: Batcher::new(batch_max, queue_max, move |keys| find_ends(Arc::clone(&for_ends), keys)),
        }
    }

    /// A request, or how far its partition is decided.
    ///
    /// # Errors
    /// 503 when the database does not answer or too many wait for it.
    pub async fn request(&self, coupon: &CouponCode, request: RequestId, partition: i32) -> Result<Found, ApiError> {
        let answer = self.requests.ask((coupon.clone(), request, partition)).await.map_err(unavailable)?;
        answer.map_err(|StoreError| ApiError::DatabaseUnavailable)
    }

    /// The end of a partition of the log, read after this call began; none when the broker does not say it.
    pub async fn end_of_log(&self, partition: i32) -> Option<i64> {
        self.ends.ask(partition).await.ok().flatten()
    }

    /// The member's issue of a coupon, else his newest request of it.
    ///
    /// # Errors
    /// As [`Finder::request`].
    pub async fn member(&self, coupon: &CouponCode, member: &MemberId) -> Result<Option<LedgerRow>, ApiError> {
        let answer = self.members.ask((coupon.clone(), member.clone())).await.map_err(unavailable)?;
        answer.map_err(|StoreError| ApiError::DatabaseUnavailable)
    }

    /// A coupon by its code: as it is held, else as it is looked up now.
    ///
    /// # Errors
    /// 404 when there is none, 400 when `code` is no code, 503 when that cannot be found out.
    pub async fn coupon(&self, code: &str) -> Result<Arc<CouponView>, ApiError> {
        let found = match self.app.coupons.get(code) {
            Ok(view) => return Ok(view),
            Err(unknown) => {
                let code = CouponCode::new(code).map_err(|error| ApiError::field("code", error.to_string()))?;
                match unknown {
                    Unknown::NoCoupon => None,
                    Unknown::NotHeld => {
                        let answer = self.coupons.ask(code).await.map_err(unavailable)?;
                        answer.map_err(|StoreError| ApiError::DatabaseUnavailable)?
                    }
                }
            }
        };
        match found {
            Some(view) => Ok(view),
            None => Err(ApiError::UnknownCoupon(CouponCode::new(code).map_err(|_| ApiError::NotFound)?)),
        }
    }
}

/// Runs one statement for each key once, and gives every asker the answer to his key.
async fn gathered<K, V>(app: &AppState, keys: &[K], run: impl AsyncFnOnce(Vec<K>) -> Answer<Vec<V>>) -> Vec<Answer<V>>
where
    K: Clone + Eq + Hash,
    V: Clone,
{
    let mut place_of: HashMap<&K, usize> = HashMap::with_capacity(keys.len());
    let mut distinct = Vec::with_capacity(keys.len());
    let places: Vec<usize> = keys
        .iter()
        .map(|key| {
            *place_of.entry(key).or_insert_with(|| {
                distinct.push(key.clone());
                distinct.len().saturating_sub(1)
            })
        })
        .collect();
    app.metrics.lookup_batch.record(f64::from(u32::try_from(distinct.len()).unwrap_or(u32::MAX)));
    let started = Instant::now();
    let values = run(distinct).await;
    app.metrics.lookup_seconds.record(started.elapsed());
    if values.is_err() {
        app.metrics.lookup_failures.increment(1);
    }
    match values {
        Ok(values) => places.into_iter().map(|place| values.get(place).cloned().ok_or(StoreError)).collect(),
        Err(error) => vec![Err(error); keys.len()],
    }
}

fn find_requests(app: Arc<AppState>, keys: Vec<(CouponCode, RequestId, i32)>) -> LocalBoxFuture<'static, Vec<Answer<Found>>> {
    Box::pin(async move { gathered(&app, &keys, async |keys| store::find_requests(&app, keys).await).await })
}

fn find_members(
    app: Arc<AppState>,
    keys: Vec<(CouponCode, MemberId)>,
) -> LocalBoxFuture<'static, Vec<Answer<Option<LedgerRow>>>> {
    Box::pin(async move { gathered(&app, &keys, async |keys| store::find_members(&app, keys).await).await })
}

fn find_ends(app: Arc<AppState>, partitions: Vec<i32>) -> LocalBoxFuture<'static, Vec<Option<i64>>> {
    Box::pin(async move {
        let mut ends = HashMap::new();
        for partition in partitions.iter().copied().collect::<BTreeSet<i32>>() {
            let watermarks = app.producer.watermarks(&app.settings.kafka.topics.created, partition).await;
            ends.insert(partition, watermarks.map(|watermarks| watermarks.high).ok());
        }
        partitions.iter().map(|partition| ends.get(partition).copied().flatten()).collect()
    })
}

fn find_coupons(app: Arc<AppState>, codes: Vec<CouponCode>) -> LocalBoxFuture<'static, Vec<Answer<Option<Arc<CouponView>>>>> {
    Box::pin(async move {
        gathered(&app, &codes, async |codes: Vec<CouponCode>| {
            let views = store::load_coupons(&app, &codes).await?;
            let mut held: HashMap<CouponCode, Arc<CouponView>> =
                views.into_iter().map(|view| (view.coupon.code.clone(), app.coupons.put(view))).collect();
            Ok(codes
                .iter()
                .map(|code| {
                    let view = held.remove(code);
                    if view.is_none() {
                        app.coupons.put_unknown(code);
                    }
                    view
                })
                .collect())
        })
        .await
    })
}
