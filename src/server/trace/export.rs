//! Spans on their way to a collector: OTLP over gRPC, by OpenTelemetry's own exporter.

use std::time::Duration;

use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanProcessor as _};
use tonic::transport::ClientTlsConfig;
use url::Url;

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The endpoint is none, or the environment says of it what cannot be.
    #[error("otlp_endpoint {given} cannot be used: {reason}; write it as http://host:4317, or https:// for TLS")]
    Endpoint {
        /// What was given; without what could be a password.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Sends spans in the background. A collector that is slow or away holds up nobody: what it does not take after three tries is dropped, and what
/// comes beyond 2,048 spans that wait (`OTEL_BSP_MAX_QUEUE_SIZE`). The log says so.
#[derive(Debug)]
pub(super) struct Exporter(BatchSpanProcessor);

impl Exporter {
    pub(super) fn open(endpoint: &str) -> Result<Self, TraceError> {
        let url = Url::parse(endpoint).map_err(|error| refused("not shown here", &error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(refused(&shown(&url), "its scheme is neither http nor https, or it names no host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused(&shown(&url), "a password has no place in it; give OTEL_EXPORTER_OTLP_HEADERS in the environment"));
        }
        let builder = SpanExporter::builder().with_tonic().with_endpoint(endpoint);
        let builder = if url.scheme() == "https" { builder.with_tls_config(ClientTlsConfig::new().with_native_roots()) } else { builder };
        let exporter = builder.build().map_err(|error| refused(&shown(&url), &error.to_string()))?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        processor.set_resource(&resource());
        Ok(Self(processor))
    }

    pub(super) fn send(&self, span: SpanData) {
        self.0.on_end(span);
    }

    /// Sends what waits, and ends. Blocks.
    pub(super) fn end(&self, timeout: Duration) {
        if let Err(error) = self.0.shutdown_with_timeout(timeout) {
            tracing::warn!(%error, "the last spans may not have reached their collector");
        }
    }
}

/// Who makes the spans: `bowstring`, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` say otherwise.
fn resource() -> Resource {
    let of_environment = Resource::builder().build();
    let is_said = |key: &'static str| {
        let value = of_environment.get(&Key::new(key)).map(|value| value.to_string());
        // What the specification takes for a name that nobody gives.
        value.is_some_and(|value| !value.starts_with("unknown_service"))
    };
    let ours = [("service.name", "bowstring"), ("service.version", env!("CARGO_PKG_VERSION"))];
    let ours = ours.into_iter().filter(|(key, _)| !is_said(key)).map(|(key, value)| KeyValue::new(key, value));
    Resource::builder().with_attributes(ours).build()
}

fn refused(given: &str, reason: &str) -> TraceError {
    TraceError::Endpoint { given: given.to_owned(), reason: reason.to_owned() }
}

/// Without user and password.
fn shown(url: &Url) -> String {
    match url.host_str() {
        Some(host) => format!("{}://{host}", url.scheme()),
        None => format!("{}:", url.scheme()),
    }
}
