//! Where everything is: defaults, then a file, then the environment (`TRUEUP__…`), then flags.

use anyhow::Context;
use contracts::{LogKey, LogKeySettings};
use domain::secret::Secret;
use kafka_io::{KafkaSettings, LogClient};
use postgres_io::{Db, PostgresSettings};
use redis_io::RedisSettings;
use serde::{Deserialize, Serialize};

use crate::cli::Cli;

/// Settings of the operator's command.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The gateways' addresses, separated by commas.
    pub gateways: String,
    /// The reconcilers' addresses, separated by commas.
    pub reconcilers: String,
    /// The address of the payment gateways' simulator, for drills.
    pub simulator: String,
    /// The payment reconcilers' addresses, separated by commas.
    pub payment_reconcilers: String,
    /// Who the operator is.
    pub admin: AdminSettings,
    /// Keys shared with the services.
    pub keys: LogKeySettings,
    /// Kafka.
    pub kafka: KafkaSettings,
    /// PostgreSQL.
    pub postgres: PostgresSettings,
    /// Redis.
    pub redis: RedisSettings,
}

/// Who the operator is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminSettings {
    /// The bearer token for the admin APIs of gateways and payment reconcilers.
    pub token: Secret,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            gateways: "http://127.0.0.1:8081,http://127.0.0.1:8082".to_owned(),
            reconcilers: "http://127.0.0.1:8095".to_owned(),
            simulator: "http://127.0.0.1:8099".to_owned(),
            payment_reconcilers: "http://127.0.0.1:8097".to_owned(),
            admin: AdminSettings::default(),
            keys: LogKeySettings::default(),
            kafka: KafkaSettings::default(),
            postgres: PostgresSettings::default(),
            redis: RedisSettings::default(),
        }
    }
}

fn urls(list: &str) -> Vec<String> {
    let urls = list.split(',').map(|url| url.trim().trim_end_matches('/'));
    urls.filter(|url| !url.is_empty()).map(str::to_owned).collect()
}

impl Settings {
    /// Puts the flags before everything else.
    pub fn apply(&mut self, cli: &Cli) {
        if let Some(brokers) = &cli.brokers {
            self.kafka.brokers.clone_from(brokers);
        }
        if let Some(url) = &cli.postgres_url {
            self.postgres.url = Secret::new(url.clone());
        }
        if let Some(url) = &cli.redis_url {
            self.redis.url = Secret::new(url.clone());
        }
        if let Some(gateways) = &cli.gateways {
            self.gateways.clone_from(gateways);
        }
    }

    /// The gateways' addresses, without a slash at the end.
    #[must_use]
    pub fn gateway_urls(&self) -> Vec<String> {
        urls(&self.gateways)
    }

    /// The reconcilers' addresses, without a slash at the end.
    #[must_use]
    pub fn reconciler_urls(&self) -> Vec<String> {
        urls(&self.reconcilers)
    }

    /// The payment reconcilers' addresses, without a slash at the end.
    #[must_use]
    pub fn payment_reconciler_urls(&self) -> Vec<String> {
        urls(&self.payment_reconcilers)
    }

    /// The key that verifies signatures in the log.
    ///
    /// # Errors
    /// It is missing or too short; the message says what to set.
    pub fn log_key(&self) -> anyhow::Result<LogKey> {
        let hint = "without the key that signs the log, admitted requests and commands cannot be told from forged ones; set TRUEUP__KEYS__LOG_SIGNING to \
                    the services' …__KEYS__LOG_SIGNING";
        self.keys.log_key().context(hint)
    }

    /// A client that asks about the log.
    ///
    /// # Errors
    /// The settings are refused by the client.
    pub fn log_client(&self) -> anyhow::Result<LogClient> {
        LogClient::new(&self.kafka).with_context(|| self.kafka_hint())
    }

    /// A pool of database connections.
    ///
    /// # Errors
    /// The database cannot be reached; the message says what to set.
    pub async fn database(&self) -> anyhow::Result<Db> {
        Db::connect(&self.postgres).await.with_context(|| self.postgres_hint())
    }

    /// What to look at when Kafka does not answer.
    #[must_use]
    pub fn kafka_hint(&self) -> String {
        format!("Kafka at {} (TRUEUP__KAFKA__BROKERS or --brokers)", self.kafka.brokers)
    }

    /// What to look at when PostgreSQL does not answer. Neither user nor password is shown.
    #[must_use]
    pub fn postgres_hint(&self) -> String {
        format!("PostgreSQL at {} (TRUEUP__POSTGRES__URL or --postgres-url)", host_of(self.postgres.url.expose()))
    }

    /// What to look at when Redis does not answer.
    #[must_use]
    pub fn redis_hint(&self) -> String {
        format!("Redis at {} (TRUEUP__REDIS__URL or --redis-url)", host_of(self.redis.url.expose()))
    }
}

impl service_kit::settings::Validate for Settings {
    fn faults(&self) -> Vec<service_kit::settings::Fault> {
        // What a command does not need may be missing; what it needs is named when it is missing.
        Vec::new()
    }
}

/// Reads the settings for this command line; [`Settings::apply`] puts its flags on top.
///
/// # Errors
/// The file cannot be read, or a value is of the wrong kind; the message names the variable.
pub fn load(cli: &Cli) -> anyhow::Result<Settings> {
    let file = cli.config.as_ref().map(|path| path.to_str().context("the path of --config is no text")).transpose()?;
    // PostgreSQL clients and the like may have variables of the same prefix; only ours hold the double underscore.
    let variables = std::env::vars().collect();
    Ok(service_kit::settings::read(PREFIX, file, variables)?)
}

/// The prefix of the environment variables.
const PREFIX: &str = "TRUEUP";

/// Host, port and path of a URL, without user and password.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    rest.split_once('?').map_or(rest, |(rest, _)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_show_the_address_and_no_password() {
        let mut settings = Settings::default();
        settings.postgres.url = Secret::new("postgres://user:p@ss@db.example:5432/trueup?sslmode=require");
        let hint = settings.postgres_hint();
        assert!(hint.contains("db.example:5432/trueup") && hint.contains("TRUEUP__POSTGRES__URL"), "{hint}");
        assert!(!hint.contains("p@ss") && !hint.contains("user"), "{hint}");
        assert!(settings.log_key().is_err_and(|error| error.to_string().contains("TRUEUP__KEYS__LOG_SIGNING")));
    }

    #[test]
    fn gateways_are_a_list() {
        let settings = Settings { gateways: "http://a:1/ , http://b:2,".to_owned(), ..Settings::default() };
        assert_eq!(settings.gateway_urls(), ["http://a:1", "http://b:2"]);
    }
}
