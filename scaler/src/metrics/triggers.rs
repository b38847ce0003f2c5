//! The series of single triggers: what each was told last. Their labels come from callers, so their number is capped, and
//! a trigger that nobody asks about any more gives its place back.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::time::Instant;

use super::OTHER;
use crate::trigger_id::TriggerId;

/// Most triggers with series of their own: twice what the largest clusters run, and a few megabytes.
pub const MAX_TRIGGERS: usize = 10_000;

/// The series by trigger.
#[derive(Debug)]
pub(super) struct Triggers {
    most: usize,
    origin: Instant,
    known: RwLock<HashMap<TriggerId, Arc<Told>>>,
    others: Told,
    beyond: OnceLock<Counter>,
}

/// What a trigger was told last.
#[derive(Debug, Default)]
struct Told {
    /// The bits of a float.
    value: AtomicU64,
    /// 0 is no target: nothing was told yet.
    target: AtomicU32,
    is_active: AtomicBool,
    /// In milliseconds since the origin.
    asked_at: AtomicU64,
}

impl Triggers {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            origin: Instant::now(),
            known: RwLock::default(),
            others: Told::default(),
            beyond: OnceLock::new(),
        }
    }

    /// Counts in `beyond` what is told to triggers without series of their own.
    pub(super) fn count_beyond(&self, beyond: Counter) {
        self.beyond.get_or_init(|| beyond);
    }

    pub(super) fn told(&self, id: &TriggerId, value: f64, target: u32, active: bool) {
        let now = self.now_ms();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = known.get(id) {
            return told.set(value, target, active, now);
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < self.most || known.contains_key(id) {
            known.entry(id.clone()).or_default().set(value, target, active, now);
        } else {
            drop(known);
            self.others.set(value, target, active, now);
            if let Some(beyond) = self.beyond.get() {
                beyond.inc();
            }
        }
    }

    pub(super) fn forget_idle(&self, idle: Duration) -> usize {
        let oldest = self.now_ms().saturating_sub(idle.as_millis() as u64);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.len();
        known.retain(|_, told| told.asked_at.load(Ordering::Relaxed) >= oldest);
        if known.len() < known.capacity() / 4 {
            known.shrink_to_fit();
        }
        if self.others.asked_at.load(Ordering::Relaxed) < oldest {
            self.others.target.store(0, Ordering::Relaxed);
        }
        before - known.len()
    }

    fn now_ms(&self) -> u64 {
        self.origin.elapsed().as_millis() as u64
    }
}

impl Told {
    fn set(&self, value: f64, target: u32, active: bool, now_ms: u64) {
        self.value.store(value.to_bits(), Ordering::Relaxed);
        self.target.store(target, Ordering::Relaxed);
        self.is_active.store(active, Ordering::Relaxed);
        self.asked_at.store(now_ms, Ordering::Relaxed);
    }

    fn value(&self) -> f64 {
        f64::from_bits(self.value.load(Ordering::Relaxed))
    }

    fn target(&self) -> f64 {
        f64::from(self.target.load(Ordering::Relaxed))
    }

    fn active(&self) -> f64 {
        f64::from(u8::from(self.is_active.load(Ordering::Relaxed)))
    }
}

impl Collector for Triggers {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        // Copied out, so that nobody who is answered waits for a scrape.
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = known.iter().map(|(id, told)| (id.clone(), Arc::clone(told))).collect();
        drop(known);
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        for (name, help, number) in [
            (
                "trigger_value",
                "The metric's value as told last: replicas wanted times target.",
                Told::value as fn(&Told) -> f64,
            ),
            ("trigger_target", "The metric's target per replica, as told last.", Told::target),
            ("trigger_active", "1 if the trigger was told to be active, else 0.", Told::active),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (id, told) in &all {
                let hash = id.hash();
                let labels = [("namespace", id.namespace()), ("name", id.name()), ("trigger", hash.as_str())];
                ConstGauge::new(number(told)).encode(family.encode_family(&labels)?)?;
            }
            if self.others.target.load(Ordering::Relaxed) > 0 {
                let labels = [("namespace", OTHER), ("name", OTHER), ("trigger", OTHER)];
                ConstGauge::new(number(&self.others)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
