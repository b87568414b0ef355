//! The settings of the services of a local run, with secrets that are made once for each checkout.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    io::{Read, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use anyhow::{Context, Result};
use stack::paths;

use super::ports::Ports;

/// The names of secrets in the environment file.
const SECRETS: [&str; 5] = [
    "TRUEUP__KEYS__LOG_SIGNING",
    "COUPON_GATEWAY__KEYS__TICKET",
    "TRUEUP__ADMIN__TOKEN",
    "PG_SIMULATOR__API_KEY",
    "PG_SIMULATOR__CALLBACK_SECRET",
];

/// Of how many payments in a hundred the simulator loses the callbacks: they are found by asking.
const CALLBACKS_LOST_PERCENT: u32 = 30;

/// A drill cannot wait for ten minutes until an order is stale, nor a minute for the next run, in milliseconds.
const STALE_AFTER_MS: u32 = 10_000;
const RUN_INTERVAL_MS: u32 = 5_000;

/// Every setting of every part, by the name of its variable.
#[derive(Debug, Clone)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Settings for `ports`, with the secrets of `.local/trueup.env`; new secrets where there are none yet.
    ///
    /// # Errors
    /// `.local` cannot be made.
    pub fn load(ports: &Ports) -> Result<Self> {
        let path = path()?;
        let old = fs::read_to_string(&path).unwrap_or_default();
        let mut all = BTreeMap::new();
        for name in SECRETS {
            let kept = old.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            all.insert(name.to_owned(), kept.map_or_else(secret, |value| Ok(value.to_owned()))?);
        }
        add_shared(&mut all, ports);
        add_payment_line(&mut all, ports);
        Ok(Self(all))
    }

    /// Writes the environment file, readable by its owner only.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self) -> Result<()> {
        let path = path()?;
        let mut file = fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        file.write_all(self.shell_lines().as_bytes())?;
        Ok(())
    }

    /// All settings as `NAME=value` lines.
    #[must_use]
    pub fn shell_lines(&self) -> String {
        self.0.iter().fold(String::new(), |mut lines, (name, value)| {
            let _ = writeln!(lines, "{name}={value}");
            lines
        })
    }

    /// All settings, with `additions` of one process.
    #[must_use]
    pub fn with(&self, additions: &[(&str, String)]) -> BTreeMap<String, String> {
        let mut all = self.0.clone();
        all.extend(additions.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        all
    }
}

/// The environment file: `set -a; . .local/trueup.env` makes `trueup` work by hand.
///
/// # Errors
/// `.local` cannot be made.
pub fn path() -> Result<PathBuf> {
    Ok(paths::local()?.join("trueup.env"))
}

fn add_shared(all: &mut BTreeMap<String, String>, ports: &Ports) {
    let get = |all: &BTreeMap<String, String>, name: &str| all.get(name).cloned().unwrap_or_default();
    let log_key = get(all, "TRUEUP__KEYS__LOG_SIGNING");
    let admin = get(all, "TRUEUP__ADMIN__TOKEN");
    for service in ["COUPON_GATEWAY", "ISSUE_CONSUMER", "RECONCILER", "TRUEUP"] {
        let mut set = |name: &str, value: String| all.insert(format!("{service}__{name}"), value);
        set("KAFKA__BROKERS", format!("127.0.0.1:{}", ports.kafka));
        set("POSTGRES__URL", format!("postgres://trueup@127.0.0.1:{}/trueup", ports.postgres));
        set("REDIS__URL", format!("redis://127.0.0.1:{}/", ports.redis));
        set("KEYS__LOG_SIGNING", log_key.clone());
    }
    let gateways: Vec<String> = ports.gateways.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
    all.insert("TRUEUP__GATEWAYS".to_owned(), gateways.join(","));
    all.insert("COUPON_GATEWAY__IDENTITY__MODE".to_owned(), "none".to_owned());
    all.insert("TRUEUP__RECONCILERS".to_owned(), format!("http://127.0.0.1:{}", ports.reconciler));
    for service in ["COUPON_GATEWAY", "RECONCILER"] {
        all.insert(format!("{service}__ADMIN__TOKENS"), format!("local-operator:{admin}"));
    }
}

/// The payment reconciler with the simulator's three dialects as its gateways, and the simulator's callbacks to it.
fn add_payment_line(all: &mut BTreeMap<String, String>, ports: &Ports) {
    let get = |all: &BTreeMap<String, String>, name: &str| all.get(name).cloned().unwrap_or_default();
    let (key, secret) = (get(all, "PG_SIMULATOR__API_KEY"), get(all, "PG_SIMULATOR__CALLBACK_SECRET"));
    let admin = get(all, "TRUEUP__ADMIN__TOKEN");
    let simulator = format!("http://127.0.0.1:{}", ports.pg_simulator);
    let mut set = |name: &str, value: String| all.insert(format!("PAYMENT_RECONCILER__{name}"), value);
    set("KAFKA__BROKERS", format!("127.0.0.1:{}", ports.kafka));
    set("POSTGRES__URL", format!("postgres://trueup@127.0.0.1:{}/trueup", ports.postgres));
    set("ADMIN__TOKENS", format!("local-operator:{admin}"));
    set("LINE__RUN__STALE_AFTER_MS", STALE_AFTER_MS.to_string());
    set("LINE__RUN__INTERVAL_MS", RUN_INTERVAL_MS.to_string());
    for dialect in ["generic", "toss", "stripe"] {
        let account = format!("PROVIDERS__{}", dialect.to_uppercase());
        set(&format!("{account}__KIND"), dialect.to_owned());
        set(&format!("{account}__BASE_URL"), format!("{simulator}/{dialect}"));
        set(&format!("{account}__API_KEY"), key.clone());
        set(&format!("{account}__CALLBACK_SECRET"), secret.clone());
    }
    let callbacks = format!("http://127.0.0.1:{}/v1/payments/callbacks/{{dialect}}", ports.payment_reconciler);
    all.insert("PG_SIMULATOR__CALLBACK_URL".to_owned(), callbacks);
    all.insert("PG_SIMULATOR__CALLBACKS_LOST_PERCENT".to_owned(), CALLBACKS_LOST_PERCENT.to_string());
    all.insert("TRUEUP__SIMULATOR".to_owned(), simulator);
    all.insert("TRUEUP__PAYMENT_RECONCILERS".to_owned(), format!("http://127.0.0.1:{}", ports.payment_reconciler));
}

/// 256 random bits from the operating system, in hexadecimal.
fn secret() -> Result<String> {
    let mut bytes = [0u8; 32];
    fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("cannot read /dev/urandom")?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
