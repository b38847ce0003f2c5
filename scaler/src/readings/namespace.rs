//! One Service Bus namespace, by its host: which operation begins next, within the budget of credits and what the namespace
//! bears, whoever wants it. The only place that starts reads.
//!
//! Owns budget, back-off, who waits and the count of what is under way.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use scaling::Moment;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::backoff::{Backoff, Gate};
use super::budget::{Budget, Stretch};
use super::catalogue::{Account, Asker, Next, Operation, Proposal};
use super::episodes::Episodes;
use super::rack::{Rack, kind};
use super::waiting::Waiting;
use crate::access::Access;
use crate::config::ConfigHandle;
use crate::entity::Listing;
use crate::keyed_hash::Digest;
use crate::metrics::{CREDITS_PER_OPERATION, Metrics, Outcome};
use crate::source::{ReadFailure, Source};

/// Most reads of a namespace under way at a time: enough that their latency never limits before the budget does, and few
/// enough to leave the namespace's connections to others.
const MAX_IN_FLIGHT: usize = 32;
/// When credits were not short for so long, nothing is stretched any more, even if nothing is read that would show it.
const CALM: Duration = Duration::from_mins(1);

/// The clock that readings are stamped with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Moment {
        Moment(self.0.elapsed())
    }

    fn instant(self, moment: Moment) -> Instant {
        self.0 + moment.0
    }
}

/// See the module.
pub(super) struct Namespace {
    pub(super) host: String,
    pub(super) clock: Clock,
    /// A read fails after this.
    pub(super) refresh_deadline: Duration,
    source: Arc<dyn Source>,
    config: ConfigHandle,
    metrics: Metrics,
    state: Mutex<State>,
    /// Rung when credits have become short.
    became_short: Notify,
    episodes: Mutex<Episodes>,
    /// What calls saved and pages may cost, for all listings together.
    pub(super) account: Account,
    racks: Mutex<HashMap<(Digest, Listing), Weak<Rack>>>,
}

struct State {
    budget: Budget,
    stretch: Stretch,
    backoff: Backoff,
    waiting: Waiting,
    in_flight: usize,
    /// Credits are short until then.
    short_until: Option<Moment>,
    short_at: Option<Moment>,
    /// When something wakes up to look again.
    alarm: Option<Moment>,
}

/// What became of a rack's turn.
enum Turn {
    Begun(Begun),
    /// There is nothing to do on it any more.
    Missed,
    /// Credits are short.
    TooEarly,
}

/// An operation that has begun.
struct Begun {
    rack: Arc<Rack>,
    operation: Operation,
    at: Moment,
}

impl Namespace {
    pub(super) fn new(
        host: &str,
        clock: Clock,
        refresh_deadline: Duration,
        source: Arc<dyn Source>,
        config: ConfigHandle,
        metrics: Metrics,
    ) -> Self {
        let budget = Budget::new(config.snapshot().credits.per_second(host), clock.now());
        Self {
            host: host.to_owned(),
            clock,
            refresh_deadline,
            source,
            config,
            metrics,
            state: Mutex::new(State {
                budget,
                stretch: Stretch::default(),
                backoff: Backoff::default(),
                waiting: Waiting::default(),
                in_flight: 0,
                short_until: None,
                short_at: None,
                alarm: None,
            }),
            became_short: Notify::new(),
            episodes: Mutex::default(),
            account: Account::default(),
            racks: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn episodes(&self) -> MutexGuard<'_, Episodes> {
        self.episodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rack of this listing read with this credential.
    pub(super) fn rack(self: &Arc<Self>, access: &Access, listing: &Listing) -> Arc<Rack> {
        let mut racks = self.racks.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (access.digest(), listing.folded());
        if let Some(rack) = racks.get(&key).and_then(Weak::upgrade) {
            return rack;
        }
        // A new one is rare enough to look for dead ones each time.
        racks.retain(|_, rack| rack.strong_count() > 0);
        let rack = Arc::new(Rack::new(Arc::clone(self), access.clone(), listing.clone()));
        racks.insert(key, Arc::downgrade(&rack));
        rack
    }

    /// Why nothing can be read now, if the namespace is left alone.
    pub(super) fn refusal(&self, now: Moment) -> Option<Arc<ReadFailure>> {
        match self.state().backoff.gate(now) {
            Gate::Closed(failure) => Some(failure),
            Gate::Open | Gate::Probe | Gate::Probing => None,
        }
    }

    /// When the namespace answered again after its last trouble.
    pub(super) fn recovered_at(&self) -> Moment {
        self.state().backoff.recovered_at()
    }

    /// Why reads wait, if credits are short.
    pub(super) fn shortage(&self, now: Moment) -> Option<Arc<ReadFailure>> {
        let state = self.state();
        let is_short = state.short_until.is_some_and(|until| now < until);
        is_short.then(|| {
            let rate = state.budget.rate();
            Arc::new(ReadFailure::OverBudget(format!(
                "it waits for its turn: reading all that is wanted from {} takes more than {rate} credits a second \
                 (creditsPerSecond in the scaler's config file)",
                self.host
            )))
        })
    }

    /// Returns when credits have become short, after now.
    pub(super) fn becomes_short(&self) -> Notified<'_> {
        self.became_short.notified()
    }

    /// The failure of a read that took too long.
    pub(super) fn no_answer(&self) -> Arc<ReadFailure> {
        let seconds = self.refresh_deadline.as_secs_f64();
        Arc::new(ReadFailure::Unreachable(format!("no answer from the namespace within {seconds:.1} s")))
    }

    /// Somebody waits on this rack; [`Self::pump`] looks there.
    pub(super) fn wait_for(&self, rack: &Arc<Rack>) {
        self.state().waiting.join(rack);
    }

    /// Begins all that may begin now.
    pub(super) fn pump(self: &Arc<Self>) {
        let now = self.clock.now();
        loop {
            let mut state = self.state();
            self.calm_down(&mut state, now);
            if state.waiting.is_empty() || state.in_flight >= MAX_IN_FLIGHT {
                return;
            }
            match state.backoff.gate(now) {
                Gate::Open | Gate::Probe => {}
                // Its outcome comes back here.
                Gate::Probing => return,
                Gate::Closed(failure) => {
                    drop(state);
                    return self.give_up(&failure, now);
                }
            }
            if state.short_until.is_some_and(|until| now < until) {
                return;
            }
            state.short_until = None;
            let turn = match state.waiting.next(now) {
                Ok((rack, asker)) => self.begin(&mut state, rack, asker, now),
                Err(when) => {
                    if let Some(when) = when {
                        self.wake_at(&mut state, when);
                    }
                    return;
                }
            };
            drop(state);
            let begun = match turn {
                Turn::Begun(begun) => begun,
                Turn::Missed => continue,
                Turn::TooEarly => return,
            };
            let namespace = Arc::clone(self);
            tokio::spawn(async move { namespace.perform(begun).await });
        }
    }

    /// Begins what this rack proposes, if there are credits for it.
    fn begin(self: &Arc<Self>, state: &mut State, rack: Arc<Rack>, asker: Asker, now: Moment) -> Turn {
        let rate = self.config.snapshot().credits.per_second(&self.host);
        if (rate - state.budget.rate()).abs() > f64::EPSILON {
            state.budget.set_rate(rate, now);
        }
        let mut on_rack = rack.state();
        // Asked again, under the lock under which it begins: a call may have come or gone.
        let Next::Start(proposal) = on_rack.catalogue.propose(asker, now) else { return Turn::Missed };
        if let Err(when) = state.budget.spend(CREDITS_PER_OPERATION as f64, now) {
            (state.short_until, state.short_at) = (Some(when), Some(now));
            self.wake_at(state, when);
            self.became_short.notify_waiters();
            return Turn::TooEarly;
        }
        on_rack.catalogue.begin(&proposal);
        drop(on_rack);
        let Proposal { operation, since, period, .. } = proposal;
        let has_waited = state.short_at.is_some_and(|at| at >= since);
        let waited = if has_waited { now.0.saturating_sub(since.0) } else { Duration::ZERO };
        state.stretch = state.stretch.after(waited, period);
        self.metrics.budget_stretch(&self.host, state.stretch.factor());
        state.waiting.begun(&rack, asker);
        state.in_flight += 1;
        state.backoff.begin();
        Turn::Begun(Begun { rack, operation, at: now })
    }

    /// Says that nothing is stretched any more when credits were not short for a while; else a load that went away would
    /// be said to be too much for as long as its entities are remembered.
    fn calm_down(self: &Arc<Self>, state: &mut State, now: Moment) {
        let Some(short_at) = state.short_at else { return };
        let calm_at = Moment(short_at.0 + CALM);
        if now < calm_at {
            self.wake_at(state, calm_at);
            return;
        }
        (state.short_at, state.stretch) = (None, Stretch::default());
        self.metrics.budget_stretch(&self.host, state.stretch.factor());
    }

    async fn perform(self: Arc<Self>, begun: Begun) {
        let Begun { rack, operation, at } = &begun;
        let failed = match operation {
            Operation::Get(name) => {
                let entity = rack.entity(name);
                let result = self.in_time(self.source.read(&rack.access, &entity)).await;
                self.count(&begun, &result);
                let failed = self.note(&begun, result.as_ref().err());
                rack.got(name, &result, *at, self.clock.now());
                failed
            }
            Operation::Page { index, skip } => {
                let result = self.in_time(self.source.page(&rack.access, &rack.listing, *skip)).await;
                self.count(&begun, &result);
                let failed = self.note(&begun, result.as_ref().err());
                rack.got_page(*index, result, *at, self.clock.now());
                failed
            }
        };
        if let Some(failure) = failed {
            self.give_up(&failure, self.clock.now());
        }
        // Whoever could not be served by a page is back in a queue.
        self.wait_for(rack);
        self.pump();
    }

    async fn in_time<T>(&self, read: impl Future<Output = Result<T, ReadFailure>>) -> Result<T, Arc<ReadFailure>> {
        // A read that panics must not leave its entity waiting for ever.
        let read = AssertUnwindSafe(read).catch_unwind();
        match tokio::time::timeout(self.refresh_deadline, read).await {
            Ok(Ok(result)) => result.map_err(Arc::new),
            Ok(Err(_)) => Err(Arc::new(ReadFailure::Unexpected("the read was cut short".to_owned()))),
            Err(_) => Err(self.no_answer()),
        }
    }

    fn count<T>(&self, begun: &Begun, result: &Result<T, Arc<ReadFailure>>) {
        let outcome = match result.as_ref().err().map(|failure| &**failure) {
            None => Outcome::Ok,
            Some(ReadFailure::NotFound(_)) => Outcome::NotFound,
            Some(ReadFailure::Unauthorized(_)) => Outcome::Unauthorized,
            Some(ReadFailure::Throttled { .. }) => Outcome::Throttled,
            Some(ReadFailure::Unexpected(_)) => Outcome::Unexpected,
            Some(ReadFailure::OverBudget(_) | ReadFailure::Unreachable(_)) => Outcome::Unreachable,
            // The namespace was not asked, so there was no operation.
            Some(ReadFailure::NoToken(_)) => return,
        };
        self.metrics.operation(kind(&begun.rack.listing, &begun.operation), outcome);
        if outcome == Outcome::Throttled {
            self.metrics.throttled(&self.host);
        }
    }

    /// Takes note of how an operation ended. Gives the failure that all who wait should be told, if there is one.
    fn note(&self, begun: &Begun, failure: Option<&Arc<ReadFailure>>) -> Option<Arc<ReadFailure>> {
        let now = self.clock.now();
        let mut state = self.state();
        state.in_flight -= 1;
        let Some(failure) = failure else {
            state.backoff.answered(begun.at, now);
            return None;
        };
        match **failure {
            ReadFailure::Throttled { .. } | ReadFailure::Unreachable(_) => {
                let was_in_trouble = state.backoff.is_in_trouble();
                let jitter = rand::random_range(1.0..1.2);
                let gives_up = state.backoff.failed(failure, begun.at, now, jitter);
                if !was_in_trouble && state.backoff.is_in_trouble() {
                    self.episodes().all_fail(now);
                }
                return gives_up.then(|| Arc::clone(failure));
            }
            ReadFailure::NoToken(_) => {
                state.budget.give_back(CREDITS_PER_OPERATION as f64);
                state.short_until = None;
                state.backoff.not_asked();
            }
            ReadFailure::Unauthorized(_) => {
                state.backoff.answered(begun.at, now);
                // Who may read and not list is refused a listing now and then; that is no waste to be kept down.
                if matches!(begun.operation, Operation::Get(_)) {
                    state.waiting.refused(begun.rack.access.digest());
                }
            }
            ReadFailure::NotFound(_) | ReadFailure::Unexpected(_) | ReadFailure::OverBudget(_) => {
                state.backoff.answered(begun.at, now);
            }
        }
        None
    }

    /// Tells all who wait for an operation to begin that there will be none.
    fn give_up(&self, failure: &Arc<ReadFailure>, now: Moment) {
        self.state().waiting.clear();
        let racks: Vec<_> = {
            let racks = self.racks.lock().unwrap_or_else(PoisonError::into_inner);
            racks.values().filter_map(Weak::upgrade).collect()
        };
        for rack in racks {
            rack.give_up(failure, now);
        }
    }

    fn wake_at(self: &Arc<Self>, state: &mut State, when: Moment) {
        if state.alarm.is_some_and(|alarm| alarm <= when) {
            return;
        }
        state.alarm = Some(when);
        let namespace = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep_until(namespace.clock.instant(when)).await;
            {
                let mut state = namespace.state();
                if state.alarm == Some(when) {
                    state.alarm = None;
                }
            }
            namespace.pump();
        });
    }
}

impl Drop for Namespace {
    /// Nobody wants anything of it any more: names that callers make up must not keep their places among the series.
    fn drop(&mut self) {
        self.metrics.forget_host(&self.host);
    }
}
