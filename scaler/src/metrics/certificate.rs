//! When the certificate that is served ends. Asked for at every scrape, so that it is always that of the certificate in
//! force; without TLS there is no series, and no alert on it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// Says when, in seconds since 1970.
type Expiry = Box<dyn Fn() -> Option<i64> + Send + Sync>;

/// The series, once there is something to ask.
#[derive(Clone, Default)]
pub(super) struct Certificate(Arc<OnceLock<Expiry>>);

impl Certificate {
    /// The first one that is given stays.
    pub(super) fn ask(&self, expiry: impl Fn() -> Option<i64> + Send + Sync + 'static) {
        self.0.get_or_init(|| Box::new(expiry));
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Certificate").finish_non_exhaustive()
    }
}

impl Collector for Certificate {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Some(seconds) = self.0.get().and_then(|expiry| expiry()) else { return Ok(()) };
        let help = "When the certificate of the gRPC port ends, in seconds since 1970; none without TLS.";
        let name = "tls_certificate_expiry_timestamp_seconds";
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(seconds).encode(metric)
    }
}
