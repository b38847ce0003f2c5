//! Traces over OTLP: spans go to a collector in batches, beside the log lines and never in their place.
//!
//! Owns the tracer provider for the life of the process. An unreachable collector costs spans, nothing else.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// A batch that the collector does not take within this is lost.
const EXPORT_DEADLINE: Duration = Duration::from_secs(5);
/// At the end of the process, what is left gets so long.
const LAST_EXPORT: Duration = Duration::from_secs(2);
/// The crates that send spans: were theirs sent too, every batch would bring about the next.
const SENDERS: [&str; 5] = ["h2", "hyper", "tonic", "tower", "opentelemetry"];

/// Sends what is left when it is dropped.
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// Sends to `endpoint` in the name of `service`. Needs to be called within a tokio runtime, which does the sending.
    pub(crate) fn to(endpoint: &str, service: &'static str) -> anyhow::Result<Self> {
        ensure!(
            endpoint.starts_with("http://"),
            "--otlp-endpoint {endpoint:?} is not the http:// URL of an OTLP collector that speaks gRPC"
        );
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_DEADLINE)
            .build()
            .with_context(|| format!("failed to use --otlp-endpoint {endpoint}"))?;
        let resource = Resource::builder().with_service_name(service).build();
        Ok(Self(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
    }

    /// What turns spans into traces.
    pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let is_ours = filter_fn(|metadata| {
            let name = metadata.target().split("::").next().unwrap_or_default();
            !SENDERS.iter().any(|sender| name.starts_with(sender))
        });
        tracing_opentelemetry::layer().with_tracer(self.0.tracer("servicebus-scaler")).with_filter(is_ours)
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(problem) = self.0.shutdown_with_timeout(LAST_EXPORT) {
            tracing::debug!(%problem, "the last traces were not sent");
        }
    }
}
