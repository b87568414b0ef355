//! Real servers and real service processes, all of them private to one drill.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use kafka_io::topics;
use rustix::process::Signal;
use stack::{
    Kafka, Lifetime, Postgres, Redis, ServiceProcess, failpoints::Failpoints, ports, postgres::Durability, process::Process,
};

use crate::{
    action::{Action, Link, Trouble, Who},
    environment,
    links::Links,
    places::{PARTITIONS, Places},
    plan::{CONSUMERS, GATEWAYS, RECONCILERS},
};

/// How long a service may take from SIGTERM to its end: its grace time and some more.
const END_LIMIT: Duration = Duration::from_secs(15);
/// How often a killed PostgreSQL is started again.
const POSTGRES_ATTEMPTS: u32 = 20;
/// The pause in between.
const POSTGRES_PAUSE: Duration = Duration::from_millis(200);
/// How long a server of a drill keeps its log: a day is more than any drill lasts.
const RETENTION_DAYS: u32 = 1;

/// A service and how it is started again.
#[derive(Debug)]
struct Service {
    name: String,
    binary: PathBuf,
    environment: BTreeMap<String, String>,
    port: u16,
    log: PathBuf,
    process: Option<ServiceProcess>,
}

/// All of it.
#[derive(Debug)]
pub struct World {
    folder: PathBuf,
    postgres: Postgres,
    redis: Redis,
    kafka: Kafka,
    links: Links,
    services: BTreeMap<Who, Service>,
    places: Places,
}

impl World {
    /// Starts the servers, migrates, makes the topics, and starts gateways, consumers and reconcilers. Blocks.
    ///
    /// # Errors
    /// Something does not come up; the error shows its log.
    pub fn start(folder: &Path, binaries: &Path, runtime: &tokio::runtime::Handle) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let links = Links::start(&folder.join("toxiproxy"))?;
        let (postgres, redis, kafka) = thread::scope(|scope| {
            let kafka = scope.spawn(|| {
                let listeners = links.listeners();
                Kafka::start_behind(&folder.join("kafka"), ports::free()?, ports::free()?, &listeners, Lifetime::Owned)
            });
            let postgres = scope.spawn(|| {
                Postgres::start(&folder.join("postgres"), links.postgres_port(), Durability::ProcessDeath, Lifetime::Owned)
            });
            let redis = Redis::start(&folder.join("redis"), links.redis_port(), Lifetime::Owned);
            let gone = |_| anyhow!("a thread that starts a server panicked");
            anyhow::Ok((postgres.join().map_err(gone)??, redis?, kafka.join().map_err(gone)??))
        })?;
        let gateway_ports = (0..GATEWAYS).map(|_| ports::free()).collect::<Result<Vec<_>>>()?;
        let gateways = gateway_ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        let places = Places::new(postgres.url(), kafka.brokers(), redis.url(), gateways);
        runtime.block_on(async {
            postgres_io::migrate(&places.postgres).await.context("migrations")?;
            let plans = topics::plans(&places.kafka.topics, PARTITIONS, 1, RETENTION_DAYS);
            topics::create(&places.log_client()?, &plans).await.context("topics")?;
            anyhow::Ok(())
        })?;
        let services = BTreeMap::new();
        let mut world = Self { folder: folder.to_path_buf(), postgres, redis, kafka, links, services, places };
        for (index, port) in gateway_ports.into_iter().enumerate() {
            world.add(Who::Gateway(index), "coupon-gateway", binaries, port)?;
        }
        for index in 0..CONSUMERS {
            world.add(Who::Consumer(index), "issue-consumer", binaries, ports::free()?)?;
        }
        for index in 0..RECONCILERS {
            world.add(Who::Reconciler(index), "reconciler", binaries, ports::free()?)?;
        }
        Ok(world)
    }

    fn add(&mut self, who: Who, binary: &str, binaries: &Path, port: u16) -> Result<()> {
        let path = binaries.join(binary);
        ensure!(path.is_file(), "{} is not built; build it, or give --binaries", path.display());
        let name = who.to_string();
        let log = self.folder.join("logs").join(format!("{name}.log"));
        let environment = environment::of(who, &self.links.addresses(who), port);
        self.services.insert(who, Service { name, binary: path, environment, port, log, process: None });
        Ok(())
    }

    /// Where everything is.
    #[must_use]
    pub const fn places(&self) -> &Places {
        &self.places
    }

    /// Its folder, with data and logs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of Redis' files.
    #[must_use]
    pub fn redis_folder(&self) -> PathBuf {
        self.folder.join("redis")
    }

    fn process(&mut self, who: Who) -> Option<&mut Process> {
        match who {
            Who::Postgres => Some(self.postgres.process()),
            Who::Redis => Some(self.redis.process()),
            Who::Kafka => Some(self.kafka.process()),
            Who::Gateway(_) | Who::Consumer(_) | Who::Reconciler(_) => {
                self.services.get_mut(&who)?.process.as_mut().map(ServiceProcess::process)
            }
        }
    }

    /// The HTTP port of a service.
    #[must_use]
    pub fn port(&self, who: Who) -> Option<u16> {
        self.services.get(&who).map(|service| service.port)
    }

    /// The pid of a process that was started.
    pub fn pid(&mut self, who: Who) -> Option<u32> {
        self.process(who).map(|process| process.pid())
    }

    /// SIGKILL, if it runs.
    pub fn kill(&mut self, who: Who) {
        if let Some(process) = self.process(who) {
            process.kill();
        }
    }

    /// SIGSTOP, if it runs.
    pub fn freeze(&mut self, who: Who) {
        if let Some(process) = self.process(who) {
            process.pause();
        }
    }

    /// SIGCONT, if it runs.
    pub fn wake(&mut self, who: Who) {
        if let Some(process) = self.process(who) {
            process.resume();
        }
    }

    /// SIGTERM; the exit code.
    ///
    /// # Errors
    /// It did not end in its grace time and was killed.
    pub fn terminate(&mut self, who: Who) -> Result<Option<i32>> {
        match self.process(who) {
            Some(process) => process.stop(Signal::TERM, END_LIMIT),
            None => Ok(None),
        }
    }

    /// Whether it runs.
    pub fn is_running(&mut self, who: Who) -> bool {
        self.process(who).is_some_and(Process::is_running)
    }

    /// Starts it again if it does not run, and says whether it had to. Servers are waited for, services are not.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_again(&mut self, who: Who) -> Result<bool> {
        if self.is_running(who) {
            return Ok(false);
        }
        self.start_dead(who)?;
        Ok(true)
    }

    fn start_dead(&mut self, who: Who) -> Result<()> {
        match who {
            Who::Postgres => self.restart_postgres(),
            Who::Redis => self.redis.restart(),
            Who::Kafka => self.kafka.restart(),
            Who::Gateway(_) | Who::Consumer(_) | Who::Reconciler(_) => {
                let service = self.services.get_mut(&who).with_context(|| format!("there is no {who}"))?;
                let Service { name, binary, environment, port, log, process } = service;
                *process = Some(ServiceProcess::spawn(name, binary, environment, *port, log, Lifetime::Owned)?);
                Ok(())
            }
        }
    }

    /// The children of a killed PostgreSQL live a moment longer than it and hold its memory, so that a new one cannot start at once.
    fn restart_postgres(&mut self) -> Result<()> {
        for _ in 1..POSTGRES_ATTEMPTS {
            if self.postgres.restart().is_ok() {
                return Ok(());
            }
            thread::sleep(POSTGRES_PAUSE);
        }
        self.postgres.restart()
    }

    /// Waits until a service is ready.
    ///
    /// # Errors
    /// It is not, in time; the error shows its log.
    pub fn wait_ready(&mut self, who: Who) -> Result<()> {
        match self.services.get_mut(&who).and_then(|service| service.process.as_mut()) {
            Some(process) => process.wait_ready(),
            None => Ok(()),
        }
    }

    /// Everything up again: the frozen go on, the dead are started, `consumers` of them run and no more; all are ready.
    ///
    /// # Errors
    /// Something does not come up.
    pub fn heal(&mut self, consumers: usize) -> Result<()> {
        let everybody: Vec<Who> =
            [Who::Postgres, Who::Redis, Who::Kafka].into_iter().chain(self.services.keys().copied()).collect();
        for who in &everybody {
            self.wake(*who);
        }
        for who in &everybody {
            if matches!(who, Who::Consumer(index) if *index >= consumers) {
                self.terminate(*who)?;
            } else {
                self.start_again(*who)?;
            }
        }
        for who in &everybody {
            if self.is_running(*who) {
                self.wait_ready(*who)?;
            }
        }
        Ok(())
    }

    /// Makes trouble on a link, or ends it.
    ///
    /// # Errors
    /// The proxies do not answer.
    pub fn trouble(&self, link: Link, trouble: Trouble) -> Result<()> {
        self.links.trouble(link, trouble)
    }

    /// Takes back what an action left behind in services that still run. Says how often a failpoint took effect.
    ///
    /// # Errors
    /// A service does not answer.
    pub fn undo(&self, action: &Action) -> Result<Option<String>> {
        let failpoints = |who: Who| {
            let port = self.port(who).with_context(|| format!("there is no {who}"))?;
            anyhow::Ok(Failpoints::on(port))
        };
        match action {
            Action::Failpoint { who, step, .. } => {
                let report = failpoints(*who)?.clear(step)?;
                Ok(Some(format!("{who}: {step} took effect {} of {} times", report.fired, report.hits)))
            }
            Action::SetClock { who, .. } => failpoints(*who)?.set_clock_offset_ms(0).map(|()| None),
            Action::Trouble { link, .. } => self.trouble(*link, Trouble::None).map(|()| None),
            _ => Ok(None),
        }
    }
}
