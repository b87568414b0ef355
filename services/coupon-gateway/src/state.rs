//! What every handler can reach, shared by all worker threads.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use contracts::LogKey;
use domain::clock::Clock;
use kafka_io::CommandProducer;
use postgres_io::Db;

use crate::{
    admin::Admin, config::Settings, coupons::CouponCache, coupons::Fingerprinter, identity::Identity, in_flight::InFlight,
    limits::Limits, log_health::LogHealth, metrics::GatewayMetrics, recent::Recent, ticket::TicketKeys,
};

/// Who writes the gateway's records, in `ce_source`.
pub const SOURCE: &str = "/trueup/coupon-gateway";

/// What every handler can reach, shared by all worker threads.
pub struct AppState {
    /// The settings that the process was started with.
    pub settings: Settings,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// PostgreSQL.
    pub db: Db,
    /// Appends to the log; use [`AppState::append`].
    pub producer: CommandProducer,
    /// Whether appends get on.
    pub log_health: LogHealth,
    /// Signs records of the log.
    pub log_key: LogKey,
    /// Signs tickets.
    pub tickets: TicketKeys,
    /// The coupons held in the process.
    pub coupons: CouponCache,
    /// Makes the fingerprints of members of sold out coupons.
    pub fingerprinter: Fingerprinter,
    /// Requests acknowledged lately.
    pub recent: Recent,
    /// Coupon requests in progress.
    pub in_flight: InFlight,
    /// Open streams of server-sent events.
    pub streams: InFlight,
    /// Who is asking.
    pub identity: Identity,
    /// How often one may ask.
    pub limits: Limits,
    /// The operators and their tokens.
    pub admin: Admin,
    /// The metrics.
    pub metrics: GatewayMetrics,
    /// Traces are exported: spans are made, and new traces say that they are recorded.
    pub tracing_on: bool,
    /// The process is going down and takes nothing new.
    pub draining: AtomicBool,
}

impl AppState {
    /// The process is going down and takes nothing new.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
