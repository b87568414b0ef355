//! Settings of the services under a drill: intervals and time-outs scaled down, so that a round shows in seconds what takes minutes in use.

use std::collections::BTreeMap;

use crate::{
    action::Who,
    links::Addresses,
    places::{ADMIN_TOKEN, GROUP, LOG_SECRET, TICKET_SECRET},
};

/// How long a producer tries, in milliseconds.
pub const DELIVERY_MS: u64 = 2_500;
/// How long a reservation may be pending until it is published again, in milliseconds: above the gateways' delivery time-out, as in use.
pub const PENDING_GRACE_MS: u64 = DELIVERY_MS + 500;
/// How long the group waits for a silent consumer, in milliseconds; the broker allows no less.
pub const SESSION_MS: u64 = 6_000;
/// A reconciler's lease, in milliseconds.
pub const LEASE_MS: u64 = 2_000;

/// The environment of a service that listens on `port`.
#[must_use]
pub fn of(who: Who, servers: &Addresses, port: u16) -> BTreeMap<String, String> {
    let mut all: Vec<(&str, String)> = vec![
        ("HTTP__LISTEN", format!("127.0.0.1:{port}")),
        ("KAFKA__BROKERS", servers.brokers.clone()),
        ("POSTGRES__URL", servers.postgres_url.clone()),
        ("POSTGRES__STATEMENT_TIMEOUT_MS", "4000".to_owned()),
        ("POSTGRES__CONNECT_TIMEOUT_MS", "1500".to_owned()),
        ("POSTGRES__POOL_WAIT_MS", "1500".to_owned()),
        ("POSTGRES__IDLE_IN_TRANSACTION_TIMEOUT_MS", "3000".to_owned()),
        ("REDIS__URL", servers.redis_url.clone()),
        ("KEYS__LOG_SIGNING", LOG_SECRET.to_owned()),
        ("PRODUCER__DELIVERY_TIMEOUT_MS", DELIVERY_MS.to_string()),
        ("TELEMETRY__LOG_FILTER", "info".to_owned()),
    ];
    let prefix = match who {
        Who::Gateway(_) => {
            all.extend([
                ("HTTP__WORKERS", "2".to_owned()),
                ("KEYS__TICKET", TICKET_SECRET.to_owned()),
                ("IDENTITY__MODE", "none".to_owned()),
                ("LIMITS__MEMBER_PER_S", "0".to_owned()),
                ("ADMIN__TOKENS", format!("drill:{ADMIN_TOKEN}")),
                ("SHUTDOWN__GRACE_MS", "8000".to_owned()),
            ]);
            "COUPON_GATEWAY"
        }
        Who::Consumer(_) => {
            all.extend([
                ("CONSUMER__GROUP_ID", GROUP.to_owned()),
                ("CONSUMER__SESSION_TIMEOUT_MS", SESSION_MS.to_string()),
                ("CONSUMER__HEARTBEAT_INTERVAL_MS", "1000".to_owned()),
                // Small batches: more of them break in the middle.
                ("BATCH__RECORDS_MAX", "200".to_owned()),
                ("TRANSACTION_TIMEOUT_MS", "5000".to_owned()),
                ("LAG_INTERVAL_MS", "250".to_owned()),
                ("STOP_TIMEOUT_MS", "3000".to_owned()),
                ("GRACE_MS", "8000".to_owned()),
            ]);
            "ISSUE_CONSUMER"
        }
        _ => {
            all.extend([
                ("PENDING__INTERVAL_MS", "400".to_owned()),
                ("PENDING__GRACE_MS", PENDING_GRACE_MS.to_string()),
                ("PENDING__LEASE_MS", LEASE_MS.to_string()),
                ("GATES__INTERVAL_MS", "200".to_owned()),
                ("GATES__LEASE_MS", LEASE_MS.to_string()),
                ("GATES__PAGE", "100".to_owned()),
                ("RUN__INTERVAL_MS", "1000".to_owned()),
                ("RUN__LEASE_MS", LEASE_MS.to_string()),
                ("SHUTDOWN__GRACE_MS", "8000".to_owned()),
            ]);
            "RECONCILER"
        }
    };
    all.into_iter().map(|(name, value)| (format!("{prefix}__{name}"), value)).collect()
}
