//! Faults on demand: which there are, and what they make of a connection, a request or a settlement.
//!
//! Whoever is about to answer asks here first and does what the [`Verdict`] says, so a fault applies to everything that
//! comes after it was added. Randomness is drawn from each fault's own seed. A fault that is used up or over stays
//! listed, with what it did, until it is removed; their number is bounded.

mod connection;
mod fault;
mod text;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use connection::{conduct, let_pass};
pub(crate) use fault::Asked;
pub use fault::{Fault, FaultKind, Plane};
pub use text::FaultError;

/// More faults than anybody overlooks.
const MAX_FAULTS: usize = 1_000;
/// Detaches that a connection may be behind with; each is handled as soon as it runs.
const DETACHES: usize = 64;

/// Names a fault for as long as the broker runs; the first is 1.
pub type FaultId = u64;

/// There are too many faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {MAX_FAULTS} faults already; remove those that are over")]
pub struct TooManyFaults;

/// A fault that was added, and what it has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultReport {
    /// Its id.
    pub id: FaultId,
    /// Its text.
    pub fault: String,
    /// Whether it can still happen: not used up, not over.
    pub active: bool,
    /// How many times it has happened.
    pub hits: u64,
}

/// The faults of a broker. Clones are the same faults.
#[derive(Clone, Debug)]
pub struct Faults {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    added: Mutex<Added>,
    /// Rings when faults come or go.
    changes: watch::Sender<Drops>,
    detaches: broadcast::Sender<Detach>,
}

#[derive(Debug, Default)]
struct Added {
    last_id: FaultId,
    faults: Vec<Active>,
}

impl Added {
    fn add(&mut self, fault: Fault) -> Result<FaultId, TooManyFaults> {
        if self.faults.len() >= MAX_FAULTS {
            return Err(TooManyFaults);
        }
        self.last_id += 1;
        let id = self.last_id;
        tracing::warn!(id, %fault, "fault added");
        let mut active = Active {
            id,
            ends: fault.lasts.and_then(|lasts| Instant::now().checked_add(lasts)),
            hits: 0,
            randomness: StdRng::seed_from_u64(fault.seed),
            removed: CancellationToken::new(),
            fault,
        };
        if active.fault.kind.is_instant() {
            active.hits = 1;
            active.fault.next = Some(1);
        }
        self.faults.push(active);
        Ok(id)
    }
}

/// How many times connections were told to drop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Drops {
    administration: u64,
    amqp: u64,
}

/// What links are told.
#[derive(Clone, Debug)]
pub(crate) struct Detach {
    pub(crate) condition: String,
    /// Links below it only.
    pub(crate) entity: Option<String>,
}

/// What faults make of something that is about to be answered.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// How long to wait before answering.
    pub(crate) latency: Duration,
    /// What to do instead of answering.
    pub(crate) denial: Option<Denial>,
}

/// What to do instead of answering.
#[derive(Clone, Debug)]
pub(crate) enum Denial {
    Throttle { retry_after_seconds: u64 },
    Busy { sub_code: u32 },
    Status { status: u16, location: Option<String> },
    WrongKey,
    Reset,
    Stall(Stall),
}

impl Denial {
    /// A wrong key only shows where a token is checked.
    fn fits(&self, asked: &Asked<'_>) -> bool {
        asked.is_token_checked || !matches!(self, Self::WrongKey)
    }
}

/// What becomes of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It is neither done nor answered.
    Settlement,
    /// It is done and not answered.
    Answer,
}

/// How long something stands still.
#[derive(Clone, Debug)]
pub(crate) struct Stall {
    removed: CancellationToken,
    ends: Option<Instant>,
}

impl Stall {
    /// Returns when the fault is removed or over; never if there is none.
    pub(crate) async fn lifted(stall: Option<&Self>) {
        let Some(Self { removed, ends }) = stall else { return std::future::pending().await };
        let over = async {
            match ends {
                Some(ends) => tokio::time::sleep_until((*ends).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = removed.cancelled() => {}
            () = over => {}
        }
    }
}

#[derive(Debug)]
struct Active {
    id: FaultId,
    fault: Fault,
    ends: Option<Instant>,
    hits: u64,
    randomness: StdRng,
    /// Cancelled when it is removed.
    removed: CancellationToken,
}

impl Active {
    fn is_active(&self, now: Instant) -> bool {
        self.ends.is_none_or(|ends| now < ends) && self.fault.next.is_none_or(|next| self.hits < next)
    }

    /// Draws whether it happens now, and counts it.
    fn happens(&mut self, now: Instant) -> bool {
        let happens = self.is_active(now)
            && (self.fault.probability >= 1.0 || self.randomness.random_bool(self.fault.probability.max(0.0)));
        self.hits += u64::from(happens);
        happens
    }

    /// What it does instead of answering, if it does that.
    fn denial(&self) -> Option<Denial> {
        Some(match &self.fault.kind {
            FaultKind::Throttle { retry_after_seconds } => {
                Denial::Throttle { retry_after_seconds: *retry_after_seconds }
            }
            FaultKind::Busy { sub_code } => Denial::Busy { sub_code: *sub_code },
            FaultKind::Status { status, location } => Denial::Status { status: *status, location: location.clone() },
            FaultKind::WrongKey => Denial::WrongKey,
            FaultKind::Reset => Denial::Reset,
            FaultKind::Stall => Denial::Stall(self.stall()),
            FaultKind::Latency { .. }
            | FaultKind::Drop
            | FaultKind::Detach { .. }
            | FaultKind::LoseSettlement
            | FaultKind::LoseAnswer => return None,
        })
    }

    fn stall(&self) -> Stall {
        Stall { removed: self.removed.clone(), ends: self.ends }
    }

    fn latency(&mut self, from: Duration, to: Duration) -> Duration {
        if from >= to { from } else { self.randomness.random_range(from..=to) }
    }

    fn report(&self, now: Instant) -> FaultReport {
        let Self { id, fault, hits, .. } = self;
        FaultReport { id: *id, fault: fault.to_string(), active: self.is_active(now), hits: *hits }
    }
}

impl Default for Faults {
    fn default() -> Self {
        let shared = Shared {
            added: Mutex::default(),
            changes: watch::Sender::default(),
            detaches: broadcast::Sender::new(DETACHES),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Faults {
    /// Adds a fault; it applies from now on. One that happens once has happened when this returns, as far as it
    /// concerns the broker; its connections follow.
    pub fn add(&self, fault: Fault) -> Result<FaultId, TooManyFaults> {
        let id = self.lock().add(fault.clone())?;
        self.carry_out(fault);
        Ok(id)
    }

    /// Adds several, all of them or none.
    pub(crate) fn add_all(&self, faults: Vec<Fault>) -> Result<Vec<FaultId>, TooManyFaults> {
        let mut added = self.lock();
        if faults.len() > MAX_FAULTS - added.faults.len() {
            return Err(TooManyFaults);
        }
        let ids = faults.iter().cloned().map(|fault| added.add(fault)).collect();
        drop(added);
        for fault in faults {
            self.carry_out(fault);
        }
        ids
    }

    /// Tells connections and links of a fault that was added.
    fn carry_out(&self, fault: Fault) {
        let is_drop = fault.kind == FaultKind::Drop;
        self.shared.changes.send_modify(|drops| {
            drops.administration += u64::from(is_drop && fault.is_on(Plane::Administration));
            drops.amqp += u64::from(is_drop && fault.is_on(Plane::Amqp));
        });
        if let FaultKind::Detach { condition } = fault.kind {
            // An error means that no connection is there.
            let _ = self.shared.detaches.send(Detach { condition, entity: fault.entity });
        }
    }

    /// Removes a fault; what stands still because of it goes on. Whether there was one.
    pub fn remove(&self, id: FaultId) -> bool {
        self.remove_where(|active| active.id == id) > 0
    }

    /// Removes all of them; how many there were.
    pub fn clear(&self) -> usize {
        self.remove_where(|_| true)
    }

    /// All that were added and not removed, oldest first.
    pub fn list(&self) -> Vec<FaultReport> {
        let now = Instant::now();
        self.lock().faults.iter().map(|active| active.report(now)).collect()
    }

    /// One of them.
    pub fn get(&self, id: FaultId) -> Option<FaultReport> {
        let now = Instant::now();
        self.lock().faults.iter().find(|active| active.id == id).map(|active| active.report(now))
    }

    /// What becomes of something that is about to be answered. Latencies add up, wherever they are; the first that denies
    /// it decides, and later ones have not happened.
    pub(crate) fn judge(&self, asked: &Asked<'_>) -> Verdict {
        let now = Instant::now();
        let mut verdict = Verdict::default();
        for active in &mut self.lock().faults {
            if !active.fault.concerns(asked) {
                continue;
            }
            if let FaultKind::Latency { from, to } = active.fault.kind {
                if active.happens(now) {
                    verdict.latency += active.latency(from, to);
                }
            } else if verdict.denial.is_none()
                && let Some(denial) = active.denial().filter(|denial| denial.fits(asked))
                && active.happens(now)
            {
                verdict.denial = Some(denial);
            }
        }
        verdict
    }

    /// What becomes of a connection on this side; `None` while it is not known which that is.
    pub(crate) fn judge_connection(&self, plane: Option<Plane>) -> Option<Denial> {
        let now = Instant::now();
        for active in &mut self.lock().faults {
            let is_meant = active.fault.concerns_connections() && active.fault.plane == plane;
            if is_meant
                && let Some(denial @ (Denial::Reset | Denial::Stall(_))) = active.denial()
                && active.happens(now)
            {
                return Some(denial);
            }
        }
        None
    }

    /// What becomes of a settlement of one of this entity's messages.
    pub(crate) fn judge_settlement(&self, entity: &str) -> Option<Loss> {
        let now = Instant::now();
        let asked = Asked { plane: Plane::Amqp, operation: None, entity: Some(entity), is_token_checked: false };
        for active in &mut self.lock().faults {
            let loss = match active.fault.kind {
                FaultKind::LoseSettlement => Loss::Settlement,
                FaultKind::LoseAnswer => Loss::Answer,
                _ => continue,
            };
            if active.fault.concerns(&asked) && active.happens(now) {
                return Some(loss);
            }
        }
        None
    }

    /// The fault, if there is one, by which all connections on this side stand still, those that are open included.
    fn standstill(&self, plane: Plane) -> Option<Stall> {
        let now = Instant::now();
        let added = self.lock();
        let active = added.faults.iter().find(|active| {
            let Fault { kind, next, probability, .. } = &active.fault;
            let is_everybodys = next.is_none() && *probability >= 1.0 && active.fault.concerns_connections();
            *kind == FaultKind::Stall && is_everybodys && active.fault.is_on(plane) && active.is_active(now)
        })?;
        Some(active.stall())
    }

    /// What links are told to detach, from now on.
    pub(crate) fn detaches(&self) -> broadcast::Receiver<Detach> {
        self.shared.detaches.subscribe()
    }

    fn remove_where(&self, is_meant: impl Fn(&Active) -> bool) -> usize {
        let mut added = self.lock();
        let removed: Vec<Active> = added.faults.extract_if(.., |active| is_meant(active)).collect();
        drop(added);
        for active in &removed {
            tracing::warn!(id = active.id, fault = %active.fault, hits = active.hits, "fault removed");
            active.removed.cancel();
        }
        self.shared.changes.send_modify(|_| {});
        removed.len()
    }

    fn lock(&self) -> MutexGuard<'_, Added> {
        // Nothing leaves the list half-changed.
        self.shared.added.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
