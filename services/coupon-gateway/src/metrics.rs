//! The gateway's metrics. Every handle is made once: the hot path only adds to an atomic.

use std::collections::HashMap;

use metrics::{Counter, Gauge, Histogram, Unit};

use crate::error::ApiError;

/// Codes that a coupon request can be answered with besides `accepted`, each with a counter of its own.
const REFUSALS: [&str; 21] = [
    "invalid_fields",
    "malformed_body",
    "unauthorized",
    "not_yours",
    "forbidden",
    "not_open",
    "closed",
    "paused",
    "ended",
    "unknown_coupon",
    "sold_out",
    "body_too_large",
    "unsupported_media_type",
    "rate_limited",
    "overloaded",
    "shutting_down",
    "log_unavailable",
    "append_unknown",
    "gate_unavailable",
    "database_unavailable",
    "identity_unavailable",
];

/// The gateway's metrics.
pub struct GatewayMetrics {
    /// Requests answered 202.
    pub accepted: Counter,
    /// Requests answered 410 in the process, without Redis, Kafka or a query.
    pub sold_out_here: Counter,
    /// From the request's head to its 202.
    pub accept_seconds: Histogram,
    /// Coupon requests in progress.
    pub in_flight: Gauge,
    /// Reserved coupons' requests that went on without the gate.
    pub fallbacks: Counter,
    /// Reservations taken back after a refused append.
    pub released: Counter,
    /// Reservations that could not be taken back; the reconciler finds them.
    pub release_failures: Counter,
    /// Members in one reserve call.
    pub gate_batch: Histogram,
    /// Keys in one look-up statement.
    pub lookup_batch: Histogram,
    /// How long one look-up statement takes.
    pub lookup_seconds: Histogram,
    /// Look-up statements that failed.
    pub lookup_failures: Counter,
    /// Coupons held.
    pub coupons_held: Gauge,
    /// Refreshes of the held coupons that failed.
    pub refresh_failures: Counter,
    /// Fingerprints of members of sold out coupons.
    pub fingerprints: Gauge,
    /// 1 while the log is known not to take appends.
    pub log_down: Gauge,
    /// Open streams of server-sent events.
    pub streams: Gauge,
    /// Requests still unconfirmed when the process ended.
    pub unconfirmed_at_exit: Gauge,
    refused: HashMap<&'static str, Counter>,
    sold_out: Counter,
    refused_otherwise: Counter,
}

fn described_counter(name: &'static str, what: &'static str) -> Counter {
    metrics::describe_counter!(name, what);
    metrics::counter!(name)
}

fn described_gauge(name: &'static str, unit: Unit, what: &'static str) -> Gauge {
    metrics::describe_gauge!(name, unit, what);
    metrics::gauge!(name)
}

fn described_histogram(name: &'static str, unit: Unit, what: &'static str) -> Histogram {
    metrics::describe_histogram!(name, unit, what);
    metrics::histogram!(name)
}

impl GatewayMetrics {
    /// Makes every handle; call it after the recorder is installed.
    #[must_use]
    pub fn new() -> Self {
        let requests = "trueup_gateway_requests_total";
        metrics::describe_counter!(requests, "Coupon requests by how they were answered: accepted, or the error's code.");
        let refused = REFUSALS.map(|code| (code, metrics::counter!(requests, "outcome" => code))).into_iter().collect();
        Self {
            accepted: metrics::counter!(requests, "outcome" => "accepted"),
            refused,
            sold_out: metrics::counter!(requests, "outcome" => "sold_out"),
            refused_otherwise: metrics::counter!(requests, "outcome" => "other"),
            sold_out_here: described_counter("trueup_gateway_sold_out_answers_total", "410s answered from memory alone."),
            accept_seconds: described_histogram("trueup_gateway_accept_seconds", Unit::Seconds, "From head to 202."),
            in_flight: described_gauge("trueup_gateway_in_flight", Unit::Count, "Coupon requests in progress."),
            fallbacks: described_counter("trueup_gateway_gate_fallbacks_total", "Requests that went on without the gate."),
            released: described_counter("trueup_gateway_released_total", "Reservations taken back after a refused append."),
            release_failures: described_counter(
                "trueup_gateway_release_failures_total",
                "Reservations that could not be taken back; the reconciler publishes them.",
            ),
            gate_batch: described_histogram("trueup_gateway_gate_batch_members", Unit::Count, "Members in one reserve call."),
            lookup_batch: described_histogram("trueup_gateway_lookup_batch_keys", Unit::Count, "Keys in one look-up."),
            lookup_seconds: described_histogram("trueup_gateway_lookup_seconds", Unit::Seconds, "One look-up statement."),
            lookup_failures: described_counter("trueup_gateway_lookup_failures_total", "Look-up statements that failed."),
            coupons_held: described_gauge("trueup_gateway_coupons_held", Unit::Count, "Coupons held in the process."),
            refresh_failures: described_counter("trueup_gateway_refresh_failures_total", "Refreshes of coupons that failed."),
            fingerprints: described_gauge("trueup_gateway_fingerprints", Unit::Count, "Fingerprints of issued members."),
            log_down: described_gauge("trueup_gateway_log_down", Unit::Count, "1 while the log takes no appends."),
            streams: described_gauge("trueup_gateway_streams", Unit::Count, "Open streams of server-sent events."),
            unconfirmed_at_exit: described_gauge(
                "trueup_gateway_unconfirmed_at_exit",
                Unit::Count,
                "Appends without an answer when the process ended.",
            ),
        }
    }

    /// Counts a coupon request that was answered 410 with a prepared answer.
    pub fn refused_sold_out(&self) {
        self.sold_out.increment(1);
    }

    /// Counts a coupon request that was answered with an error.
    pub fn refused(&self, error: &ApiError) {
        self.refused.get(error.parts().1).unwrap_or(&self.refused_otherwise).increment(1);
    }
}

impl Default for GatewayMetrics {
    fn default() -> Self {
        Self::new()
    }
}
