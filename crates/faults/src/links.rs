//! A proxy on every way between a service and a server: gateways have ways of their own, so that one side can be cut off from a server alone.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use stack::{Lifetime, Toxiproxy, kafka::Listener, ports, toxiproxy};

use crate::action::{Link, Trouble, Who};

/// How long after a swallowed answer its connection is closed, in milliseconds.
const CLOSED_AFTER_MS: u64 = 300;

/// Where a service finds its servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// The broker.
    pub brokers: String,
    /// PostgreSQL.
    pub postgres_url: String,
    /// Redis.
    pub redis_url: String,
}

/// All ways.
#[derive(Debug)]
pub struct Links {
    // Held, because the proxies end with it.
    _toxiproxy: Toxiproxy,
    links: BTreeMap<Link, toxiproxy::Link>,
    listeners: Vec<Listener>,
    postgres_port: u16,
    redis_port: u16,
}

impl Links {
    /// Starts the proxies and picks the servers' ports.
    ///
    /// # Errors
    /// Toxiproxy does not come up.
    pub fn start(folder: &Path) -> Result<Self> {
        let toxiproxy = Toxiproxy::start(folder, ports::free()?, Lifetime::Owned)?;
        let (postgres_port, redis_port) = (ports::free()?, ports::free()?);
        let mut links = BTreeMap::new();
        let mut listeners = Vec::new();
        for link in Link::ALL {
            let port = ports::free()?;
            let upstream = match link {
                Link::GatewayRedis | Link::BehindRedis => redis_port,
                Link::GatewayPostgres | Link::BehindPostgres => postgres_port,
                Link::GatewayKafka | Link::BehindKafka => {
                    let listener = Listener { port: ports::free()?, advertised_port: port };
                    listeners.push(listener);
                    listener.port
                }
            };
            links.insert(link, toxiproxy.link(link.as_str(), port, upstream)?);
        }
        Ok(Self { _toxiproxy: toxiproxy, links, listeners, postgres_port, redis_port })
    }

    /// The broker's listeners behind proxies.
    #[must_use]
    pub fn listeners(&self) -> Vec<Listener> {
        self.listeners.clone()
    }

    /// Where PostgreSQL is to listen.
    #[must_use]
    pub const fn postgres_port(&self) -> u16 {
        self.postgres_port
    }

    /// Where Redis is to listen.
    #[must_use]
    pub const fn redis_port(&self) -> u16 {
        self.redis_port
    }

    /// Where a service finds its servers: behind the proxies.
    #[must_use]
    pub fn addresses(&self, who: Who) -> Addresses {
        let [redis, kafka, postgres] = match who {
            Who::Gateway(_) => [Link::GatewayRedis, Link::GatewayKafka, Link::GatewayPostgres],
            _ => [Link::BehindRedis, Link::BehindKafka, Link::BehindPostgres],
        };
        let address = |link: Link| self.links.get(&link).map_or_else(String::new, toxiproxy::Link::address);
        Addresses {
            brokers: address(kafka),
            postgres_url: format!("postgres://trueup@{}/trueup", address(postgres)),
            redis_url: format!("redis://{}/", address(redis)),
        }
    }

    /// Makes trouble on a link, or ends it.
    ///
    /// # Errors
    /// The proxies do not answer.
    pub fn trouble(&self, link: Link, trouble: Trouble) -> Result<()> {
        let link = self.links.get(&link).context("no such link")?;
        match trouble {
            Trouble::Slow { latency_ms, jitter_ms } => link.slow(latency_ms, jitter_ms),
            Trouble::RepliesLost => link.lose_replies_and_close(CLOSED_AFTER_MS),
            Trouble::Mute => link.lose_replies(),
            Trouble::Cut => link.cut(),
            Trouble::None => link.clear(),
        }
    }
}
