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

/// One trigger's series, found once. Told into it is told at once while it has its place.
#[derive(Debug)]
pub struct TriggerSeries {
    id: TriggerId,
    triggers: Arc<Triggers>,
    told: Arc<Told>,
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
    /// Whether it is among those that are shown.
    has_place: AtomicBool,
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
        let told = self.place(id, Arc::default);
        if told.is_none()
            && let Some(beyond) = self.beyond.get()
        {
            beyond.inc();
        }
        told.as_deref().unwrap_or(&self.others).set(value, target, active, self.now_ms());
    }

    /// The place of this trigger; taken by what `new` gives if it has none and one is left.
    fn place(&self, id: &TriggerId, new: impl FnOnce() -> Arc<Told>) -> Option<Arc<Told>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = known.get(id) {
            return Some(Arc::clone(told));
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= self.most && !known.contains_key(id) {
            return None;
        }
        let told = known.entry(id.clone()).or_insert_with(new);
        told.has_place.store(true, Ordering::Relaxed);
        Some(Arc::clone(told))
    }

    pub(super) fn forget_idle(&self, idle: Duration) -> usize {
        let oldest = self.now_ms().saturating_sub(idle.as_millis() as u64);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.len();
        known.retain(|_, told| {
            let stays = told.asked_at.load(Ordering::Relaxed) >= oldest;
            told.has_place.store(stays, Ordering::Relaxed);
            stays
        });
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

impl TriggerSeries {
    pub(super) fn new(triggers: &Arc<Triggers>, id: &TriggerId) -> Self {
        Self { id: id.clone(), triggers: Arc::clone(triggers), told: Arc::default() }
    }

    /// The trigger was told this value, target and activity.
    pub fn told(&self, value: f64, target: u32, active: bool) {
        let Self { id, triggers, told } = self;
        let has_place = || told.has_place.load(Ordering::Relaxed);
        // Else it is new, it was let go of in the meantime, another series has its name, or there is no place.
        if has_place() || (triggers.place(id, || Arc::clone(told)).is_some() && has_place()) {
            told.set(value, target, active, triggers.now_ms());
        } else {
            triggers.told(id, value, target, active);
        }
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
