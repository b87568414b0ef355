//! Loads under way: tasks of their own that keep their leases, so that neither their length nor one slow page lets two replicas take turns.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::ids::CouponCode;
use redis_io::{Gate, LoadToken};
use tokio::task::{Id, JoinSet};

use crate::{
    config::GateTaskSettings,
    error::TaskError,
    gates::GateReport,
    lease::Task,
    load::{Opened, load_and_open},
    store::Store,
    walk::Walk,
};

/// A gate that is shut under a token and may be loaded.
#[derive(Debug, Clone)]
pub struct Order {
    /// The coupon.
    pub code: CouponCode,
    /// What it was shut under.
    pub token: LoadToken,
    /// How far its partition has to be decided.
    pub end: i64,
    /// When it was shut.
    pub since: Instant,
}

/// The loads of one replica.
pub struct Loads {
    store: Arc<Store>,
    gate: Arc<Gate>,
    settings: GateTaskSettings,
    tasks: JoinSet<Result<Option<Opened>, TaskError>>,
    orders: HashMap<Id, Order>,
}

impl Loads {
    /// None yet.
    #[must_use]
    pub fn new(store: Arc<Store>, gate: Arc<Gate>, settings: GateTaskSettings) -> Self {
        Self { store, gate, settings, tasks: JoinSet::new(), orders: HashMap::new() }
    }

    /// How many are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.orders.len()
    }

    /// Whether none is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    /// How many may be begun.
    #[must_use]
    pub fn room(&self) -> usize {
        self.settings.loads_max.saturating_sub(self.orders.len())
    }

    /// Whether this coupon's gate is being loaded.
    #[must_use]
    pub fn contains(&self, code: &CouponCode) -> bool {
        self.orders.values().any(|order| order.code == *code)
    }

    /// Begins one. Its lease is held by this replica, and is given back when it ends.
    pub fn begin(&mut self, order: Order, walk: &Walk) {
        let (store, gate, walk) = (Arc::clone(&self.store), Arc::clone(&self.gate), walk.clone());
        let (page, ttl, ordered) = (self.settings.page, Duration::from_millis(self.settings.lease_ms), order.clone());
        let task = self.tasks.spawn(async move {
            let Order { code, token, end, .. } = ordered;
            let loaded = tokio::select! {
                loaded = load_and_open(&store, &gate, &code, token, end, page, &walk) => loaded,
                // Whoever has the lease now begins anew. The token would stop this load as well, but only behind its present page.
                () = store.renew_until_lost(&code, Task::Gate, ttl) => Ok(None),
            };
            let given_back = store.give_back(&code, Task::Gate, loaded.is_ok()).await;
            loaded.and_then(|opened| given_back.map(|()| opened))
        });
        self.orders.insert(task.id(), order);
    }

    /// Waits until all have ended, for `patience` at most, and tells of those that have.
    pub async fn finish(&mut self, patience: Duration, walk: &Walk, report: &mut GateReport) {
        let until = tokio::time::Instant::now() + patience;
        while let Ok(Some(ended)) = tokio::time::timeout_at(until, self.tasks.join_next_with_id()).await {
            let (id, loaded) = match ended {
                Ok((id, loaded)) => (id, loaded),
                Err(error) => (error.id(), Err(TaskError::Row(format!("the load ended without a result: {error}")))),
            };
            // Loaded or not: the token is used up or gone, and the next run looks at the gate afresh.
            if let Some(order) = self.orders.remove(&id) {
                tell(order, loaded, walk, report);
            }
        }
    }

    /// Waits for all of them; the end of the process stops each between two pages.
    pub async fn end(&mut self) {
        while self.tasks.join_next().await.is_some() {}
        self.orders.clear();
    }
}

fn tell(order: Order, loaded: Result<Option<Opened>, TaskError>, walk: &Walk, report: &mut GateReport) {
    let Order { code, since, .. } = order;
    match loaded {
        Ok(Some(opened)) => {
            metrics::counter!("trueup_reconciler_gates_opened_total").increment(1);
            metrics::histogram!("trueup_reconciler_gate_open_seconds").record(since.elapsed());
            tracing::info!(couponCode = %code, members = opened.members, cursor = opened.cursor,
                elapsedMs = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX), "[RECONCILIATION] gate opened");
            report.opened.push((code, opened.members));
        }
        Ok(None) => tracing::warn!(couponCode = %code, "[RECONCILIATION] a gate's load was overtaken; beginning again"),
        Err(error) => report.failures.push((code.clone(), walk.failed(Task::Gate, &code, &error))),
    }
}
