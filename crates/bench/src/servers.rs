//! Everything that is measured: real servers with full durability, and our release binaries on them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use stack::{Kafka, Lifetime, Postgres, Redis, ServiceProcess, paths, ports, postgres::Durability};

/// How long a service may take to end in an orderly way.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A key for this run only; it protects nothing.
const KEY: &str = "bench-only-key-0123456789abcdef";

/// The servers and the settings of the services.
pub struct Servers {
    folder: PathBuf,
    /// PostgreSQL, fsync on.
    pub postgres: Postgres,
    /// Redis, append-only file synced every second.
    pub redis: Redis,
    /// One Kafka broker.
    pub kafka: Kafka,
    environment: BTreeMap<String, String>,
}

impl Servers {
    /// Starts the servers in `folder` and lays schema and topics.
    ///
    /// # Errors
    /// A server or the operator's command fails.
    pub fn start(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        let postgres = Postgres::start(&folder.join("postgres"), ports::free()?, Durability::Full, Lifetime::Owned)?;
        let redis = Redis::start(&folder.join("redis"), ports::free()?, Lifetime::Owned)?;
        let kafka = Kafka::start(&folder.join("kafka"), ports::free()?, ports::free()?, Lifetime::Owned)?;
        let mut environment = BTreeMap::new();
        for prefix in ["COUPON_GATEWAY", "ISSUE_CONSUMER", "RECONCILER", "TRUEUP"] {
            let mut set = |name: &str, value: String| environment.insert(format!("{prefix}__{name}"), value);
            set("KAFKA__BROKERS", kafka.brokers());
            set("POSTGRES__URL", postgres.url());
            set("REDIS__URL", redis.url());
            set("KEYS__LOG_SIGNING", KEY.to_owned());
        }
        // The payment line knows neither Redis nor the log's key.
        environment.insert("PAYMENT_RECONCILER__KAFKA__BROKERS".to_owned(), kafka.brokers());
        environment.insert("PAYMENT_RECONCILER__POSTGRES__URL".to_owned(), postgres.url());
        environment.insert("COUPON_GATEWAY__KEYS__TICKET".to_owned(), KEY.to_owned());
        environment.insert("COUPON_GATEWAY__ADMIN__TOKENS".to_owned(), format!("bench:{KEY}"));
        environment.insert("COUPON_GATEWAY__IDENTITY__MODE".to_owned(), "header".to_owned());
        environment.insert("TRUEUP__ADMIN__TOKEN".to_owned(), KEY.to_owned());
        let servers = Self { folder: folder.to_path_buf(), postgres, redis, kafka, environment };
        servers.trueup(&["migrate"])?;
        servers.trueup(&["topics"])?;
        Ok(servers)
    }

    /// Where scripts and logs of this run lie.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The key that signs the log of this run.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        KEY
    }

    /// Starts one of our services and waits until it is ready.
    ///
    /// # Errors
    /// It is not built or does not come up.
    pub fn service(&self, binary: &str, prefix: &str) -> Result<ServiceProcess> {
        self.service_with(binary, prefix, &[])
    }

    /// As [`Self::service`], with settings of its own.
    ///
    /// # Errors
    /// As [`Self::service`].
    pub fn service_with(&self, binary: &str, prefix: &str, more: &[(&str, &str)]) -> Result<ServiceProcess> {
        let port = ports::free()?;
        let mut environment = self.environment.clone();
        environment.extend(more.iter().map(|(name, value)| (format!("{prefix}__{name}"), (*value).to_owned())));
        environment.insert(format!("{prefix}__HTTP__LISTEN"), format!("127.0.0.1:{port}"));
        let log = self.folder.join(format!("{binary}.log"));
        let mut service = ServiceProcess::spawn(binary, &release(binary)?, &environment, port, &log, Lifetime::Owned)?;
        service.wait_ready()?;
        Ok(service)
    }

    /// Runs the operator's command against the gateway on `port`, if given; its standard output.
    ///
    /// # Errors
    /// It says no.
    pub fn trueup(&self, arguments: &[&str]) -> Result<String> {
        self.trueup_on(arguments, None)
    }

    /// As [`Self::trueup`], against the gateway on `port`.
    ///
    /// # Errors
    /// It says no.
    pub fn trueup_on(&self, arguments: &[&str], port: Option<u16>) -> Result<String> {
        let mut command = Command::new(release("trueup")?);
        command.args(arguments).envs(&self.environment);
        if let Some(port) = port {
            command.env("TRUEUP__GATEWAYS", format!("http://127.0.0.1:{port}"));
        }
        let output = command.output().context("cannot start trueup")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "trueup {} failed: {said}{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(said)
    }
}

/// Ends a service in an orderly way.
///
/// # Errors
/// It had to be killed.
pub fn stop(mut service: ServiceProcess) -> Result<()> {
    service.terminate(STOP_LIMIT).map(drop)
}

/// A release binary.
///
/// # Errors
/// It is not built.
pub fn release(name: &str) -> Result<PathBuf> {
    let path = paths::binaries("release")?.join(name);
    ensure!(path.is_file(), "{name} is not built: run `make bench`, which builds it");
    Ok(path)
}
