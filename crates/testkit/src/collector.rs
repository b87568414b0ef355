//! A collector of traces, as services send them by OTLP over HTTP.

use std::sync::{Arc, Mutex, PoisonError};

use actix_web::{App, HttpResponse, HttpServer, web};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;

/// Keeps every span that is sent, with the service that sent it.
#[derive(Debug, Clone, Default)]
pub struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

impl Collector {
    /// Listens for as long as the test's runtime lives; gives the endpoint that exporters are set to.
    ///
    /// # Panics
    /// No port is free.
    #[must_use]
    pub fn listen(&self) -> String {
        let kept = self.clone();
        let server = HttpServer::new(move || {
            let kept = kept.clone();
            let take = move |body: web::Bytes| {
                kept.take(&body);
                async { HttpResponse::Ok().content_type("application/x-protobuf").finish() }
            };
            App::new().route("/v1/traces", web::post().to(take))
        });
        let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).expect("a port");
        let address = server.addrs().first().copied().expect("an address");
        tokio::spawn(server.run());
        format!("http://{address}/v1/traces")
    }

    fn take(&self, body: &[u8]) {
        let sent = ExportTraceServiceRequest::decode(body).expect("spans");
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in sent.resource_spans {
            let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let service = text(&attributes, "service.name").expect("a service");
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            kept.extend(spans.map(|span| (service.clone(), span)));
        }
    }

    /// The spans of that name from that service.
    #[must_use]
    pub fn spans(&self, service: &str, name: &str) -> Vec<Span> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().filter(|(from, span)| from == service && span.name == name).map(|(_, span)| span.clone()).collect()
    }

    /// All spans, of whatever service.
    #[must_use]
    pub fn all(&self) -> Vec<Span> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(_, span)| span.clone()).collect()
    }
}

/// The text of one of a span's attributes.
#[must_use]
pub fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match &found.value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => Some(text.clone()),
        _ => None,
    }
}
