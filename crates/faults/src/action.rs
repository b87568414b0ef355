//! What a schedule can do to the running line, and to whom.

use std::fmt;

use serde::Serialize;

/// A process of the drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// The database.
    Postgres,
    /// The gate's server.
    Redis,
    /// The broker.
    Kafka,
    /// A gateway, counted from 0.
    Gateway(usize),
    /// A consumer, counted from 0.
    Consumer(usize),
    /// A reconciler, counted from 0.
    Reconciler(usize),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres => f.write_str("postgres"),
            Self::Redis => f.write_str("redis"),
            Self::Kafka => f.write_str("kafka"),
            Self::Gateway(index) => write!(f, "gateway-{}", index + 1),
            Self::Consumer(index) => write!(f, "consumer-{}", index + 1),
            Self::Reconciler(index) => write!(f, "reconciler-{}", index + 1),
        }
    }
}

/// A way between services and a server that a proxy stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Gateways and Redis.
    GatewayRedis,
    /// Gateways and the broker.
    GatewayKafka,
    /// Gateways and PostgreSQL.
    GatewayPostgres,
    /// Consumers and reconcilers, and Redis.
    BehindRedis,
    /// Consumers and reconcilers, and the broker.
    BehindKafka,
    /// Consumers and reconcilers, and PostgreSQL.
    BehindPostgres,
}

impl Link {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::GatewayRedis,
        Self::GatewayKafka,
        Self::GatewayPostgres,
        Self::BehindRedis,
        Self::BehindKafka,
        Self::BehindPostgres,
    ];

    /// The name of its proxy.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GatewayRedis => "gateway-redis",
            Self::GatewayKafka => "gateway-kafka",
            Self::GatewayPostgres => "gateway-postgres",
            Self::BehindRedis => "behind-redis",
            Self::BehindKafka => "behind-kafka",
            Self::BehindPostgres => "behind-postgres",
        }
    }
}

/// What happens on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// Every packet comes later, by so much and up to so much more.
    Slow {
        /// Milliseconds.
        latency_ms: u64,
        /// Milliseconds more or less.
        jitter_ms: u64,
    },
    /// Replies vanish and the connection is cut soon after: what was asked was done.
    RepliesLost,
    /// Replies vanish and the connection stays open: what was asked was done, and who asked waits until he gives up.
    Mute,
    /// Connections are cut and none is taken.
    Cut,
    /// All is well again.
    None,
}

/// One thing that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// SIGKILL.
    Kill(Who),
    /// SIGSTOP.
    Freeze(Who),
    /// SIGCONT.
    Wake(Who),
    /// SIGTERM, and it has to end by itself in its grace time.
    Terminate(Who),
    /// Starts it again, if it does not run.
    Start(Who),
    /// FLUSHALL.
    FlushRedis,
    /// SCRIPT FLUSH.
    FlushScripts,
    /// Keeps a copy of Redis' files as they are now.
    KeepRedisFiles,
    /// SIGKILL, the kept files instead of the newest, and a new start.
    BringBackOldRedisFiles,
    /// Deletes the consumer group with its offsets; no consumer may run.
    DeleteGroup,
    /// Adds partitions to the log's topic.
    AddPartitions(i32),
    /// Another producer's bare JSON, on the partition that its client picks by the key.
    Foreign {
        /// Index of the coupon.
        coupon: usize,
        /// How many records, each for a member of the plan.
        records: u64,
    },
    /// Records that cannot be used, in the coupon's partition.
    Poison {
        /// Index of the coupon.
        coupon: usize,
        /// How many.
        records: u64,
    },
    /// Everything that the round wrote into the coupon's partition, byte for byte, once more.
    DoubleLog {
        /// Index of the coupon.
        coupon: usize,
    },
    /// An operator sets the total to this share of what was planned at first.
    SetTotal {
        /// Index of the coupon.
        coupon: usize,
        /// Percent of the first total.
        percent: i64,
    },
    /// Gives a named step of a service a plan, such as `1*pause`.
    Failpoint {
        /// Which service.
        who: Who,
        /// The step.
        step: &'static str,
        /// The plan.
        plan: &'static str,
    },
    /// Waits, at most so long, until somebody stands at that step.
    AwaitPaused {
        /// Which service.
        who: Who,
        /// The step.
        step: &'static str,
        /// At most, in milliseconds.
        at_most_ms: u64,
    },
    /// Sets a service's clock off by so much.
    SetClock {
        /// Which service.
        who: Who,
        /// Milliseconds ahead.
        offset_ms: i64,
    },
    /// Makes trouble on a link.
    Trouble {
        /// Where.
        link: Link,
        /// What.
        trouble: Trouble,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(who) => write!(f, "kill {who}"),
            Self::Freeze(who) => write!(f, "freeze {who}"),
            Self::Wake(who) => write!(f, "wake {who}"),
            Self::Terminate(who) => write!(f, "terminate {who}"),
            Self::Start(who) => write!(f, "start {who}"),
            Self::FlushRedis => f.write_str("FLUSHALL"),
            Self::FlushScripts => f.write_str("SCRIPT FLUSH"),
            Self::KeepRedisFiles => f.write_str("keep a copy of redis' files"),
            Self::BringBackOldRedisFiles => f.write_str("kill redis and start it on the kept files"),
            Self::DeleteGroup => f.write_str("delete the consumer group with its offsets"),
            Self::AddPartitions(more) => write!(f, "add {more} partitions to the log"),
            Self::Foreign { coupon, records } => write!(f, "{records} foreign records for coupon {coupon}"),
            Self::Poison { coupon, records } => write!(f, "{records} unusable records in the log of coupon {coupon}"),
            Self::DoubleLog { coupon } => write!(f, "append the log of coupon {coupon} once more"),
            Self::SetTotal { coupon, percent } => write!(f, "set the total of coupon {coupon} to {percent} %"),
            Self::Failpoint { who, step, plan } => write!(f, "{who}: {step} = {plan}"),
            Self::AwaitPaused { who, step, at_most_ms } => write!(f, "{who}: wait for {step}, at most {at_most_ms} ms"),
            Self::SetClock { who, offset_ms } => write!(f, "set the clock of {who} off by {offset_ms} ms"),
            Self::Trouble { link, trouble } => match trouble {
                Trouble::Slow { latency_ms, jitter_ms } => {
                    write!(f, "{}: {latency_ms} ± {jitter_ms} ms late", link.as_str())
                }
                Trouble::RepliesLost => write!(f, "{}: replies are lost", link.as_str()),
                Trouble::Mute => write!(f, "{}: replies never come", link.as_str()),
                Trouble::Cut => write!(f, "{}: cut", link.as_str()),
                Trouble::None => write!(f, "{}: as it should be", link.as_str()),
            },
        }
    }
}

/// An action and its moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Milliseconds after the load began.
    pub at_ms: u64,
    /// What is done.
    pub action: Action,
}

/// `action` at `at_ms`.
#[must_use]
pub const fn at(at_ms: u64, action: Action) -> Step {
    Step { at_ms, action }
}
