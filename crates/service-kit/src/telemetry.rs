//! Structured logs, and traces by OTLP where an endpoint is set. Without one, no span is made and nothing is sent.

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    settings::{Fault, Validate},
    trace,
};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// A JSON object a line.
    #[default]
    Json,
    /// Lines for people.
    Text,
}

/// Logs and traces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged, such as `info,issue_consumer=debug`.
    pub log_filter: String,
    /// Where traces go by OTLP over HTTP, such as `http://collector:4318/v1/traces`; none: nowhere.
    pub otlp_endpoint: Option<String>,
    /// The share of traces that begin here and are kept, from 0 to 1. A caller's decision is respected.
    pub sample_ratio: f64,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { log_format: LogFormat::Json, log_filter: "info".to_owned(), otlp_endpoint: None, sample_ratio: 0.01 }
    }
}

impl Validate for TelemetrySettings {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Err(error) = EnvFilter::try_new(&self.log_filter) {
            faults.push(Fault::new("telemetry.log_filter", error.to_string(), "give one such as info"));
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            faults.push(Fault::new("telemetry.sample_ratio", format!("is {}", self.sample_ratio), "give 0 to 1"));
        }
        if self.otlp_endpoint.as_ref().is_some_and(|url| !url.is_empty() && !url.starts_with("http")) {
            faults.push(Fault::new(
                "telemetry.otlp_endpoint",
                "is not an HTTP address",
                "give one such as http://collector:4318/v1/traces",
            ));
        }
        faults
    }
}

/// Why logs and traces could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("telemetry could not be set up: {0}")]
pub struct TelemetryError(String);

/// Keeps the exporter; end it by [`Telemetry::shutdown`], so that the last spans are sent.
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Sets logs up and, where an endpoint is set, traces. Once a process.
///
/// # Errors
/// A filter that cannot be read, an endpoint that is no address, or a second call.
pub fn init(service: &'static str, settings: &TelemetrySettings) -> Result<Telemetry, TelemetryError> {
    let failed = |error: &dyn std::fmt::Display| TelemetryError(error.to_string());
    let filter = EnvFilter::try_new(&settings.log_filter).map_err(|error| failed(&error))?;
    let lines = match settings.log_format {
        LogFormat::Json => {
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
        LogFormat::Text => tracing_subscriber::fmt::layer().boxed(),
    };
    let provider = provider(service, settings)?;
    // The log's filter must not stop spans: a quiet log and full traces are a usual pair.
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(service))
            .with_filter(tracing_subscriber::filter::filter_fn(|metadata| metadata.is_span()))
    });
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).try_init().map_err(|error| failed(&error))?;
    trace::set_enabled(provider.is_some());
    Ok(Telemetry { provider })
}

fn provider(service: &'static str, settings: &TelemetrySettings) -> Result<Option<SdkTracerProvider>, TelemetryError> {
    let Some(endpoint) = settings.otlp_endpoint.as_ref().filter(|endpoint| !endpoint.is_empty()) else { return Ok(None) };
    crate::install_crypto_provider();
    let exporter =
        SpanExporter::builder().with_http().with_endpoint(endpoint).build().map_err(|error| TelemetryError(error.to_string()))?;
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio)));
    let resource = Resource::builder().with_service_name(service).build();
    Ok(Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_sampler(sampler).with_resource(resource).build()))
}

impl Telemetry {
    /// Sends the last spans. Blocks for as long as the exporter allows itself; call it at the very end.
    pub fn shutdown(self) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last spans may not have been sent");
        }
    }
}
