//! Spans on their way to a collector: OTLP over gRPC, by OpenTelemetry's own exporter.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanProcessor as _};
use tonic::transport::ClientTlsConfig;
use url::Url;

/// How long the end waits for a collector that does not answer.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The endpoint is none.
    #[error("otlp_endpoint is {given}, which is no endpoint of a collector: {reason}; write it as http://host:4317, or https:// for TLS")]
    Endpoint {
        /// What was given; without what could be a password.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Sends spans in the background. A collector that is slow or away holds up nobody: of what waits, 2,048 spans are kept
/// (`OTEL_BSP_MAX_QUEUE_SIZE`), and what is dropped is logged.
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
    pub(super) fn end(&self) {
        if let Err(error) = self.0.shutdown_with_timeout(END_TIMEOUT) {
            tracing::warn!(%error, "the last spans may not have reached their collector");
        }
    }
}

/// Who makes the spans: `bowstring`, but for what `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say.
fn resource() -> Resource {
    let service = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "bowstring".to_owned());
    Resource::builder().with_service_name(service).with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build()
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
