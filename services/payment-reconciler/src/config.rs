//! Settings: defaults, then a file, then the environment (`PAYMENT_RECONCILER__LINE__RUN__INTERVAL_MS=…`).

use std::collections::BTreeMap;

use domain::payment::ProviderName;
use kafka_io::{KafkaSettings, ProducerSettings};
use payment_providers::ProviderSettings;
use postgres_io::PostgresSettings;
use serde::{Deserialize, Serialize};
use service_kit::{
    lifecycle::ShutdownSettings,
    settings::{Fault, Validate, no_address, switched_off},
    telemetry::TelemetrySettings,
};

pub use self::line::{AskSettings, BreakerSettings, LineSettings, RefundSettings, RunSettings};
use crate::{
    admin::AdminSettings, audit::AuditSettings, callbacks::CallbackSettings, intake::IntakeSettings, outbox::OutboxSettings,
};

mod line;
mod policy;

/// Prefix of the environment variables.
pub const PREFIX: &str = "PAYMENT_RECONCILER";

/// Everything that can be set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Health, metrics and the HTTP interface.
    pub http: HttpSettings,
    /// Kafka, as all services reach it.
    pub kafka: KafkaSettings,
    /// The producer of outcomes and dead letters.
    pub producer: ProducerSettings,
    /// Orders from Kafka.
    pub intake: IntakeSettings,
    /// The operators' interface.
    pub admin: AdminSettings,
    /// Audits of the gateways' lists.
    pub audit: AuditSettings,
    /// Callbacks of gateways.
    pub callbacks: CallbackSettings,
    /// Outcomes to Kafka.
    pub outbox: OutboxSettings,
    /// Merchant accounts at payment gateways, by the names that payments carry.
    pub providers: BTreeMap<String, ProviderSettings>,
    /// PostgreSQL.
    pub postgres: PostgresSettings,
    /// The run, the asking, the refunds.
    pub line: LineSettings,
    /// Logs and traces.
    pub telemetry: TelemetrySettings,
    /// The end of the process.
    pub shutdown: ShutdownSettings,
}

/// Health, metrics and the HTTP interface.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Address and port to listen on.
    pub listen: String,
    /// Threads that answer.
    pub workers: usize,
    /// Connections at a time; more wait in the backlog of the system.
    pub connections_max: usize,
    /// How long a client may take to send the head of a request, in milliseconds.
    pub client_timeout_ms: u64,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8097".to_owned(), workers: 1, connections_max: 512, client_timeout_ms: 5_000 }
    }
}

impl Validate for Settings {
    fn faults(&self) -> Vec<Fault> {
        let mut faults: Vec<Fault> = no_address("http.listen", &self.http.listen, 8097).into_iter().collect();
        if self.shutdown.grace_ms < 100 {
            faults.push(Fault::new("shutdown.grace_ms", "is too short", "give at least 100"));
        }
        faults.extend(self.admin.faults());
        faults.extend(self.audit.faults());
        faults.extend(self.callbacks.faults());
        faults.extend(self.line.faults());
        faults.extend(self.intake.faults());
        faults.extend(self.outbox.faults());
        faults.extend(switched_off("kafka", &self.kafka.bounds()));
        faults.extend(switched_off("intake.consumer", &self.intake.consumer.bounds()));
        faults.extend(switched_off("producer", &self.producer.bounds()));
        faults.extend(switched_off("postgres", &self.postgres.bounds()));
        faults.extend(self.telemetry.faults());
        faults.extend(provider_faults(&self.providers));
        faults
    }
}

fn provider_faults(providers: &BTreeMap<String, ProviderSettings>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, settings) in providers {
        for problem in settings.problems() {
            faults.push(Fault::new(format!("providers.{name}.{}", problem.field), problem.problem, problem.fix));
        }
        if ProviderName::new(name).is_err() {
            let fix = "give 1 to 64 small letters, digits, - and _";
            faults.push(Fault::new(format!("providers.{name}"), "is no name that a payment could carry", fix));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use payment_providers::ProviderKind;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, service_kit::settings::SettingsError> {
        let pairs = pairs.iter().map(|(name, value)| (format!("{PREFIX}__PROVIDERS__{name}"), (*value).to_owned()));
        service_kit::settings::read(PREFIX, None, pairs.collect())
    }

    #[test]
    fn accounts_are_named_by_their_variables() {
        let settings = read(&[
            ("TOSS__KIND", "toss"),
            ("TOSS__API_KEY", "sk"),
            ("STRIPE-KR__KIND", "stripe"),
            ("STRIPE-KR__API_KEY", "0123"),
        ]);
        let providers = settings.unwrap().providers;
        assert_eq!(providers.keys().map(String::as_str).collect::<Vec<_>>(), ["stripe-kr", "toss"]);
        assert_eq!(providers["toss"].kind, ProviderKind::Toss);
        assert_eq!(providers["stripe-kr"].api_key.expose(), "0123");
    }

    #[test]
    fn an_account_without_a_key_or_address_is_refused_by_name() {
        let error = read(&[("PG__KIND", "generic")]).unwrap_err().to_string();
        assert!(error.contains("PROVIDERS__PG__BASE_URL") && error.contains("PROVIDERS__PG__API_KEY"), "{error}");
    }
}
