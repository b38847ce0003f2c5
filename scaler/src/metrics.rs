//! What the scaler tells Prometheus: every metric's name, labels and meaning, and the handles that count.
//!
//! [`Metrics`] needs no server and no global: clones share one registry, and tests make their own. Label values are ours or
//! few (methods, codes, kinds), or capped: triggers in `triggers`, namespaces of Service Bus in `hosts`; what is beyond a
//! cap is counted under `other`. Nothing here decides anything, and no label ever holds a secret.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tonic::Code;

use crate::trigger_id::TriggerId;

mod certificate;
mod hosts;
mod triggers;

use certificate::Certificate;
use hosts::Hosts;
use triggers::Triggers;
pub use triggers::{MAX_TRIGGERS, TriggerSeries};

/// The content type of [`Metrics::exposition`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The label value that stands for everything beyond a cap.
pub const OTHER: &str = "other";
/// What one management operation costs, in credits, whatever its answer (Microsoft: "Service Bus throttling").
pub const CREDITS_PER_OPERATION: u64 = 10;

/// In front of every name that is ours.
const PREFIX: &str = "servicebus_scaler";
/// The unary calls, which have a latency. A stream is open for hours; its length says nothing.
const UNARY: [Method; 3] = [Method::GetMetricSpec, Method::GetMetrics, Method::IsActive];
const METHODS: usize = 5;
/// gRPC has the codes 0 to 16.
const CODES: usize = 17;
/// From a cached answer (a fraction of a millisecond) to the longest that a call may take (3 s).
const CALL_SECONDS: [f64; 12] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0];
/// From "read for this call" through `cacheTtl` (5 s) to `maxStaleness` (60 s) and what an operator may allow beyond.
const AGE_SECONDS: [f64; 12] = [0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 6.0, 10.0, 30.0, 60.0, 300.0, 1_200.0];

/// What was asked of Service Bus's administration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// The description of one queue.
    GetQueue,
    /// The description of one subscription.
    GetSubscription,
    /// One page of the queues.
    ListQueues,
    /// One page of a topic's subscriptions.
    ListSubscriptions,
}

/// How a management operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With what was asked for.
    Ok,
    /// There is no such entity.
    NotFound,
    /// The credential was refused.
    Unauthorized,
    /// The namespace asked to slow down.
    Throttled,
    /// The namespace answered, and not with counts.
    Unexpected,
    /// No answer.
    Unreachable,
}

/// How the cache answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheAnswer {
    /// With a reading young enough.
    Hit,
    /// Service Bus had to be asked, by this caller or by one that it joined.
    Miss,
}

/// A call of KEDA's contract. The unary ones come first, as in `UNARY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The name and target of a trigger's metric.
    GetMetricSpec,
    /// Its value.
    GetMetrics,
    /// Whether its target should run at all.
    IsActive,
    /// The same, pushed.
    StreamIsActive,
    /// Name and target, pushed.
    StreamMetricSpec,
}

/// Counts one thing that is in use, such as an open stream, for as long as it lives.
#[derive(Debug)]
pub struct InUse(Gauge);

impl InUse {
    fn of(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// All metrics of one scaler. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    calls: Family<CallLabels, Counter>,
    /// Handles of [`Self::calls`], so that a call costs one atomic increment rather than a look-up under a lock.
    held_calls: [[OnceLock<Counter>; CODES]; METHODS],
    call_seconds: [Histogram; UNARY.len()],
    calls_in_flight: Gauge,
    operations: Family<OperationLabels, Counter>,
    credits: Family<OperationLabels, Counter>,
    cache_hits: Counter,
    cache_misses: Counter,
    cache_entries: Gauge,
    reading_age: Histogram,
    hosts: Arc<Hosts>,
    activity_streams: Gauge,
    specification_streams: Gauge,
    connections: Gauge,
    handshakes_failed: Counter,
    certificate: Certificate,
    triggers: Arc<Triggers>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    method: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CapLabel {
    label: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// All at zero, with the caps of the product.
    pub fn new() -> Self {
        Self::capped(triggers::MAX_TRIGGERS, hosts::MAX_HOSTS)
    }

    fn capped(most_triggers: usize, most_hosts: usize) -> Self {
        let mut root = Registry::default();
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        root.register(
            "process_start_time_seconds",
            "When this process started, in seconds since 1970",
            ConstGauge::new(started.as_secs_f64()),
        );
        let registry = root.sub_registry_with_prefix(PREFIX);
        registry.register("build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));

        let calls = Family::<CallLabels, Counter>::default();
        registry.register("grpc_requests", "Calls of KEDA's contract that ended, by gRPC code", calls.clone());
        let call_seconds =
            Family::<MethodLabel, Histogram, fn() -> Histogram>::new_with_constructor(|| Histogram::new(CALL_SECONDS));
        registry.register(
            "grpc_request_duration_seconds",
            "How long unary calls took to answer, streams left out",
            call_seconds.clone(),
        );
        let calls_in_flight = Gauge::default();
        registry.register("grpc_requests_in_flight", "Unary calls that are not answered yet", calls_in_flight.clone());
        let operations = Family::<OperationLabels, Counter>::default();
        registry.register(
            "management_operations",
            "Reads of Service Bus: one entity, or one page of a listing",
            operations.clone(),
        );
        let credits = Family::<OperationLabels, Counter>::default();
        registry.register("management_credits", "What those reads cost the namespace, in credits", credits.clone());
        let (cache_hits, cache_misses, cache_entries) = (Counter::default(), Counter::default(), Gauge::default());
        registry.register("cache_hits", "Readings answered from the cache", cache_hits.clone());
        registry.register("cache_misses", "Readings that Service Bus had to be asked for", cache_misses.clone());
        registry.register("cache_entries", "Entities and listings that the cache holds", cache_entries.clone());
        let reading_age = Histogram::new(AGE_SECONDS);
        registry.register(
            "reading_age_seconds",
            "How old a reading was when a decision was made of it",
            reading_age.clone(),
        );
        let hosts = Arc::new(Hosts::new(most_hosts));
        registry.register("throttled", "Answers by which a namespace asked to slow down", hosts.throttled.clone());
        registry.register(
            "budget_stretch_ratio",
            "By how much the credit budget stretches the periods wished for, 1 when it does not",
            hosts.stretch.clone(),
        );
        let streams = Family::<StreamLabel, Gauge>::default();
        registry.register("streams_open", "Push streams that are open", streams.clone());
        let connections = Gauge::default();
        registry.register("connections_open", "gRPC connections that are open", connections.clone());
        let handshakes_failed = Counter::default();
        registry.register(
            "tls_handshakes_failed",
            "Connections closed because TLS was not agreed on: no or a wrong client certificate, no TLS at all, too slow",
            handshakes_failed.clone(),
        );
        let certificate = Certificate::default();
        registry.register_collector(Box::new(certificate.clone()));
        let triggers = Arc::new(Triggers::new(most_triggers));
        let beyond_cap = Family::<CapLabel, Counter>::default();
        registry.register(
            "label_cap_hits",
            "How often something was counted under the label value other because the cap on label values is reached",
            beyond_cap.clone(),
        );
        hosts.count_beyond(beyond_cap.get_or_create_owned(&CapLabel { label: "servicebus_namespace" }));
        triggers.count_beyond(beyond_cap.get_or_create_owned(&CapLabel { label: "trigger" }));
        registry.register_collector(Box::new(Arc::clone(&triggers)));

        let stream = |kind| streams.get_or_create_owned(&StreamLabel { kind });
        Self(Arc::new(Inner {
            calls,
            held_calls: std::array::from_fn(|_| std::array::from_fn(|_| OnceLock::new())),
            call_seconds: UNARY.map(|method| call_seconds.get_or_create_owned(&MethodLabel { method: method.name() })),
            calls_in_flight,
            operations,
            credits,
            cache_hits,
            cache_misses,
            cache_entries,
            reading_age,
            hosts,
            activity_streams: stream("activity"),
            specification_streams: stream("specification"),
            connections,
            handshakes_failed,
            certificate,
            triggers,
            registry: root,
        }))
    }

    /// A call arrived, or a stream opened. It counts as in flight or as open until what this returns is dropped.
    #[must_use = "it counts for as long as this lives"]
    pub fn call_in_use(&self, method: Method) -> InUse {
        let Inner { calls_in_flight, activity_streams, specification_streams, .. } = &*self.0;
        InUse::of(match method {
            Method::GetMetricSpec | Method::GetMetrics | Method::IsActive => calls_in_flight,
            Method::StreamIsActive => activity_streams,
            Method::StreamMetricSpec => specification_streams,
        })
    }

    /// A call ended. For a stream, `took` is not used.
    pub fn call_ended(&self, method: Method, code: Code, took: Duration) {
        let Inner { calls, held_calls, call_seconds, .. } = &*self.0;
        let held = &held_calls[method as usize][code as usize];
        held.get_or_init(|| calls.get_or_create_owned(&CallLabels { method: method.name(), code: code_name(code) }))
            .inc();
        // The unary ones come first.
        if let Some(seconds) = call_seconds.get(method as usize) {
            seconds.observe(took.as_secs_f64());
        }
    }

    /// A management operation ended, and cost its credits.
    pub fn operation(&self, kind: OperationKind, outcome: Outcome) {
        let labels = OperationLabels { kind: kind.label(), outcome: outcome.label() };
        self.0.operations.get_or_create(&labels).inc();
        self.0.credits.get_or_create(&labels).inc_by(CREDITS_PER_OPERATION);
    }

    /// A reading was asked of the cache.
    pub fn cache(&self, answer: CacheAnswer) {
        match answer {
            CacheAnswer::Hit => self.0.cache_hits.inc(),
            CacheAnswer::Miss => self.0.cache_misses.inc(),
        };
    }

    /// So many entities and listings are in the cache.
    pub fn cache_entries(&self, count: u64) {
        self.0.cache_entries.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A decision was made of a reading that was so old.
    pub fn reading_age(&self, age: Duration) {
        self.0.reading_age.observe(age.as_secs_f64());
    }

    /// The budget of this namespace makes its periods `factor` times as long as wished; 1 is as wished.
    pub fn budget_stretch(&self, namespace_host: &str, factor: f64) {
        self.0.hosts.stretch(namespace_host, factor);
    }

    /// This namespace asked to slow down.
    pub fn throttled(&self, namespace_host: &str) {
        self.0.hosts.throttled(namespace_host);
    }

    /// Nobody wants anything of this namespace any more: its series go, and their place is another's.
    pub fn forget_host(&self, namespace_host: &str) {
        self.0.hosts.forget(namespace_host);
    }

    /// A connection was accepted. It counts as open until what this returns is dropped.
    #[must_use = "the connection counts as open for as long as this lives"]
    pub fn connection_opened(&self) -> InUse {
        InUse::of(&self.0.connections)
    }

    /// A connection was closed because no TLS session came about.
    pub fn handshake_failed(&self) {
        self.0.handshakes_failed.inc();
    }

    /// The certificate that is served ends when this says, in seconds since 1970; asked at every scrape.
    pub fn certificate_expiry(&self, expiry: impl Fn() -> Option<i64> + Send + Sync + 'static) {
        self.0.certificate.ask(expiry);
    }

    /// The series of this trigger. Beyond [`MAX_TRIGGERS`] triggers, new ones share the series whose labels are all `other`,
    /// which shows what the last of them was told.
    pub fn trigger_series(&self, id: &TriggerId) -> TriggerSeries {
        TriggerSeries::new(&self.0.triggers, id)
    }

    /// Lets go of the series of triggers that nobody asked about for `idle`. Whoever runs the server calls this now and
    /// then. Says how many went.
    pub fn forget_idle(&self, idle: Duration) -> usize {
        self.0.triggers.forget_idle(idle)
    }

    /// Everything, in the `OpenMetrics` text format; see [`CONTENT_TYPE`].
    pub fn exposition(&self) -> String {
        let mut exposition = String::new();
        text::encode(&mut exposition, &self.0.registry).expect("a String takes whatever is written to it");
        exposition
    }
}

impl Method {
    /// Its name in the contract.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GetMetricSpec => "GetMetricSpec",
            Self::GetMetrics => "GetMetrics",
            Self::IsActive => "IsActive",
            Self::StreamIsActive => "StreamIsActive",
            Self::StreamMetricSpec => "StreamMetricSpec",
        }
    }
}

impl OperationKind {
    fn label(self) -> &'static str {
        match self {
            Self::GetQueue => "get_queue",
            Self::GetSubscription => "get_subscription",
            Self::ListQueues => "list_queues",
            Self::ListSubscriptions => "list_subscriptions",
        }
    }
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotFound => "not_found",
            Self::Unauthorized => "unauthorized",
            Self::Throttled => "throttled",
            Self::Unexpected => "unexpected",
            Self::Unreachable => "unreachable",
        }
    }
}

/// As the widespread gRPC metrics write codes (go-grpc-middleware's `grpc_code`).
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests;
