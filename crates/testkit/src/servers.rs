//! Real servers: one of each kind for a whole test binary, and private ones for tests that break theirs.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, OnceLock},
};

use stack::{Kafka, Lifetime, Postgres, Redis, Toxiproxy, kafka::Listener, ports, postgres::Durability, toxiproxy::Link};

use crate::folder::TestFolder;

/// How often a server is started again when somebody took its port in between.
const ATTEMPTS: u32 = 3;

macro_rules! private_server {
    ($(#[$doc:meta])* $name:ident, $server:ty) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name {
            // Declared first, so that the server has ended before its folder goes.
            server: $server,
            _folder: TestFolder,
        }

        impl Deref for $name {
            type Target = $server;
            fn deref(&self) -> &$server {
                &self.server
            }
        }

        impl DerefMut for $name {
            fn deref_mut(&mut self) -> &mut $server {
                &mut self.server
            }
        }
    };
}

private_server!(
    /// A broker of its own, for a test that stops or kills it.
    PrivateKafka,
    Kafka
);
private_server!(
    /// A PostgreSQL of its own, for a test that stops or kills it.
    PrivatePostgres,
    Postgres
);
private_server!(
    /// A Redis of its own, for a test that stops, kills or flushes it.
    PrivateRedis,
    Redis
);

private_server!(
    /// A Toxiproxy of its own: its links are as this test needs them.
    PrivateToxiproxy,
    Toxiproxy
);

/// Starts a server on a free port. Between finding a port and listening on it somebody else may take it, so a failed
/// start is tried again on another.
fn start<T>(name: &str, mut attempt: impl FnMut(&TestFolder) -> Result<T, String>) -> (T, TestFolder) {
    let mut error = String::new();
    for _ in 0..ATTEMPTS {
        let folder = TestFolder::new(name);
        match attempt(&folder) {
            Ok(server) => return (server, folder),
            Err(failed) => error = failed,
        }
    }
    panic!("{name} does not start: {error}");
}

fn free_port() -> u16 {
    ports::free().expect("a free port")
}

impl PrivateKafka {
    /// Starts it.
    ///
    /// # Panics
    /// It does not come up.
    #[must_use]
    pub fn start() -> Self {
        let (server, folder) = start("kafka", |folder| {
            Kafka::start(folder.path(), free_port(), free_port(), Lifetime::Owned).map_err(|error| format!("{error:#}"))
        });
        Self { server, _folder: folder }
    }
}

impl PrivateKafka {
    /// Starts it with a listener behind a link of `toxiproxy`. Its own address stays in direct contact.
    ///
    /// # Panics
    /// It does not come up.
    #[must_use]
    pub fn start_behind(toxiproxy: &Toxiproxy) -> (Self, Link) {
        let mut link = None;
        let (server, folder) = start("kafka", |folder| {
            let listener = Listener { port: free_port(), advertised_port: free_port() };
            let name = format!("kafka-{}", listener.advertised_port);
            let made = toxiproxy.link(&name, listener.advertised_port, listener.port).map_err(|error| format!("{error:#}"))?;
            link = Some(made);
            Kafka::start_behind(folder.path(), free_port(), free_port(), &[listener], Lifetime::Owned)
                .map_err(|error| format!("{error:#}"))
        });
        (Self { server, _folder: folder }, link.expect("the link of the broker that came up"))
    }
}

impl PrivateToxiproxy {
    /// Starts it.
    ///
    /// # Panics
    /// It is not installed or does not come up.
    #[must_use]
    pub fn start() -> Self {
        let (server, folder) = start("toxiproxy", |folder| {
            Toxiproxy::start(folder.path(), free_port(), Lifetime::Owned).map_err(|error| format!("{error:#}"))
        });
        Self { server, _folder: folder }
    }

    /// A link to a server on `upstream`.
    ///
    /// # Panics
    /// The link cannot be made.
    #[must_use]
    pub fn link_to(&self, name: &str, upstream: u16) -> Link {
        self.link(name, free_port(), upstream).expect("a link")
    }
}

impl PrivatePostgres {
    /// Starts it.
    ///
    /// # Panics
    /// It does not come up.
    #[must_use]
    pub fn start() -> Self {
        let (server, folder) = start("postgres", |folder| {
            Postgres::start(folder.path(), free_port(), Durability::ProcessDeath, Lifetime::Owned)
                .map_err(|error| format!("{error:#}"))
        });
        Self { server, _folder: folder }
    }
}

impl PrivateRedis {
    /// Starts it.
    ///
    /// # Panics
    /// It does not come up.
    #[must_use]
    pub fn start() -> Self {
        let (server, folder) = start("redis", |folder| {
            Redis::start(folder.path(), free_port(), Lifetime::Owned).map_err(|error| format!("{error:#}"))
        });
        Self { server, _folder: folder }
    }
}

/// The brokers of this test binary's Kafka.
///
/// # Panics
/// It does not come up.
pub fn kafka_brokers() -> String {
    static SERVER: OnceLock<PrivateKafka> = OnceLock::new();
    SERVER.get_or_init(PrivateKafka::start).brokers()
}

/// This test binary's PostgreSQL.
///
/// # Panics
/// It does not come up.
pub fn postgres() -> &'static Postgres {
    static SERVER: OnceLock<PrivatePostgres> = OnceLock::new();
    SERVER.get_or_init(PrivatePostgres::start)
}

/// The address of this test binary's Redis.
///
/// # Panics
/// It does not come up.
pub fn redis_url() -> String {
    // A Mutex, because a handle to a Redis need not be shareable between threads.
    static SERVER: OnceLock<Mutex<PrivateRedis>> = OnceLock::new();
    let server = SERVER.get_or_init(|| Mutex::new(PrivateRedis::start()));
    server.lock().unwrap_or_else(std::sync::PoisonError::into_inner).url()
}
