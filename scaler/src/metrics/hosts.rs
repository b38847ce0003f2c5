//! The metrics of single Service Bus namespaces. The hosts come from callers' connection strings, so their number is
//! capped; a host has its place until it is forgotten. If it comes back, it counts from 0, as after a restart.

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::{OnceLock, PoisonError, RwLock};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::OTHER;

/// Most namespaces with series of their own. Few teams have ten.
pub(super) const MAX_HOSTS: usize = 100;
/// DNS allows no longer names.
const MAX_HOST_BYTES: usize = 253;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HostLabel {
    servicebus_namespace: String,
}

/// The series by namespace.
#[derive(Debug)]
pub(super) struct Hosts {
    pub(super) throttled: Family<HostLabel, Counter>,
    pub(super) stretch: Family<HostLabel, Gauge<f64, AtomicU64>>,
    most: usize,
    known: RwLock<HashSet<String>>,
    beyond: OnceLock<Counter>,
}

impl Hosts {
    pub(super) fn new(most: usize) -> Self {
        Self {
            throttled: Family::default(),
            stretch: Family::default(),
            most,
            known: RwLock::default(),
            beyond: OnceLock::new(),
        }
    }

    /// Counts in `beyond` what is counted under `other`.
    pub(super) fn count_beyond(&self, beyond: Counter) {
        self.beyond.get_or_init(|| beyond);
    }

    pub(super) fn throttled(&self, host: &str) {
        self.throttled.get_or_create(&self.label(host)).inc();
    }

    pub(super) fn stretch(&self, host: &str, factor: f64) {
        self.stretch.get_or_create(&self.label(host)).set(factor);
    }

    /// Gives back the place of a host that nobody wants anything of any more. Of one that had none, nothing is stretched now; else
    /// `other` would say so for ever.
    pub(super) fn forget(&self, host: &str) {
        let host = host.to_ascii_lowercase();
        let had_place = self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&host);
        if had_place {
            let label = HostLabel { servicebus_namespace: host };
            self.throttled.remove(&label);
            self.stretch.remove(&label);
        } else if let Some(stretch) = self.stretch.get(&HostLabel { servicebus_namespace: OTHER.to_owned() }) {
            stretch.set(1.0);
        }
    }

    fn label(&self, host: &str) -> HostLabel {
        let host = host.to_ascii_lowercase();
        let servicebus_namespace = if self.has_place(&host) { host } else { OTHER.to_owned() };
        HostLabel { servicebus_namespace }
    }

    fn has_place(&self, host: &str) -> bool {
        if self.known.read().unwrap_or_else(PoisonError::into_inner).contains(host) {
            return true;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let has_place = host.len() <= MAX_HOST_BYTES && (known.len() < self.most || known.contains(host));
        if has_place {
            known.insert(host.to_owned());
        } else if let Some(beyond) = self.beyond.get() {
            beyond.inc();
        }
        has_place
    }
}
