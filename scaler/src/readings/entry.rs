//! One entity, or one pattern, that somebody asks for: its readings, who waits for the next, and how often it is asked
//! for. Kept by the cache of [`super::Readings`] and by push streams; its [`Rack`] only knows of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scaling::Moment;
use tokio::sync::{Notify, watch};

use super::backoff::RETRY_PAUSE;
use super::catalogue::Names;
use super::episodes::{Cause, Member};
use super::namespace::Namespace;
use super::rack::Rack;
use super::record::{Matched, Record};
use super::{Key, Seen};
use crate::entity::{Entity, Matching};
use crate::source::{Observed, ReadFailure};

/// A push stream's entity that is not there, or may not be read, is looked at again after so long: each look is an
/// operation for it alone, and somebody has to do something before it gives anything else.
const LOOK_AGAIN_PAUSE: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) what: What,
    pub(super) rack: Arc<Rack>,
    state: Mutex<State>,
    changed: Notify,
}

/// What an entry is about.
pub(super) enum What {
    /// One entity, as its first caller wrote it, and the name that its rack knows it by.
    Entity { entity: Entity, name: Arc<str> },
    /// All that match.
    Pattern(Matching),
}

#[derive(Default)]
struct State {
    record: Arc<Record>,
    episode: Option<Member>,
    /// Told of every try while push streams follow.
    followers: Option<watch::Sender<()>>,
    /// Of a pattern: which names match, as of this membership of the listing.
    matches: Option<(u64, Arc<[Arc<str>]>)>,
    /// Of a pattern: whether somebody waits for it.
    is_wanted: bool,
}

/// What a call has to do for its answer.
pub(super) enum Asked {
    /// Nothing: this is it.
    Known(Arc<Record>),
    /// Nothing can be done now, for this reason.
    Refused(Arc<ReadFailure>),
    /// Wait until the entry was tried more often than this.
    Wait(u64),
}

impl Entry {
    pub(super) fn new(key: Key, what: What, rack: Arc<Rack>, record: Record) -> Self {
        let state = State { record: Arc::new(record), ..State::default() };
        Self { key, what, rack, state: Mutex::new(state), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.state().record)
    }

    fn namespace(&self) -> &Arc<Namespace> {
        &self.rack.namespace
    }

    /// A call asks. Every call goes through here once, and no other reads do.
    pub(super) fn ask(self: &Arc<Self>, cache_ttl: Duration, now: Moment) -> Asked {
        let record = self.record();
        if !record.is_due(cache_ttl, RETRY_PAUSE, || self.namespace().recovered_at(), now) {
            self.rack.answered(&self.what, cache_ttl, now);
            return Asked::Known(record);
        }
        if let Some(refusal) = self.namespace().refusal(now) {
            self.rack.refused(&self.what, cache_ttl, now);
            self.fail_once(&record, &refusal, now);
            return Asked::Refused(refusal);
        }
        if let Some(record) = self.rack.call(self, cache_ttl, now) {
            return Asked::Known(record);
        }
        self.namespace().pump();
        Asked::Wait(record.tries)
    }

    /// Push streams want it read if it is older than that. Whoever calls this pumps the namespace afterwards.
    pub(super) fn look(self: &Arc<Self>, older_than: Duration, period: Duration, now: Moment) {
        let record = self.record();
        let is_lasting = matches!(
            record.failure.as_deref(),
            Some(ReadFailure::NotFound(_) | ReadFailure::Unauthorized(_) | ReadFailure::Unexpected(_))
        );
        let pause = if is_lasting { LOOK_AGAIN_PAUSE } else { RETRY_PAUSE };
        if !record.is_due(older_than, pause, || self.namespace().recovered_at(), now) {
            return;
        }
        // From when it is due, be it a little later than now, so that what the budget stretches is measured from there. Looks
        // come every period: what has been due for longer was not to be had for other reasons.
        let due = record.window.last().map_or(now, |newest| Moment(newest.at.0 + period));
        let since = due.max(Moment(now.0.saturating_sub(period)));
        match self.namespace().refusal(now) {
            Some(refusal) => self.fail_once(&record, &refusal, now),
            None => self.rack.look(self, older_than, period, since, now),
        }
    }

    /// The answer to a call that has to wait: the next try's; or, where credits are short, an older reading at once.
    pub(super) async fn settled(&self, tries: u64, max_staleness: Duration) -> Result<Seen, Arc<ReadFailure>> {
        let namespace = self.namespace();
        let deadline = tokio::time::Instant::now() + namespace.refresh_deadline;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let mut short = std::pin::pin!(namespace.becomes_short());
            short.as_mut().enable();
            let (record, now) = (self.record(), namespace.clock.now());
            if record.tries != tries {
                return record.answer(max_staleness, None, now);
            }
            let over_budget = || namespace.shortage(now).filter(|_| self.rack.is_waiting(&self.what));
            if record.can_stand_in(max_staleness, now)
                && let Some(shortage) = over_budget()
            {
                return record.answer(max_staleness, Some(shortage), now);
            }
            tokio::select! {
                () = changed => {}
                // Who has something older need not wait any longer.
                () = short, if record.can_stand_in(max_staleness, now) => {}
                () = tokio::time::sleep_until(deadline) => {
                    let (record, now) = (self.record(), namespace.clock.now());
                    if record.tries != tries {
                        return record.answer(max_staleness, None, now);
                    }
                    let problem = namespace.shortage(now).filter(|_| self.rack.is_waiting(&self.what));
                    return record.answer(max_staleness, Some(problem.unwrap_or_else(|| namespace.no_answer())), now);
                }
            }
        }
    }

    /// It was read, as it was at that moment.
    pub(super) fn succeed(
        &self,
        observed: &Observed,
        matched: Option<Matched>,
        at: Moment,
        now: Moment,
    ) -> Arc<Record> {
        let mut state = self.state();
        let record = Arc::new(state.record.after_reading(observed, matched, at, now));
        state.record = Arc::clone(&record);
        state.is_wanted = false;
        if let Some(member) = state.episode.take() {
            self.namespace().episodes().leave(&self.namespace().host, member, now);
        }
        self.publish(state);
        record
    }

    /// It could not be read.
    pub(super) fn fail(&self, failure: &Arc<ReadFailure>, now: Moment) {
        let mut state = self.state();
        state.record = Arc::new(state.record.after_failure(Arc::clone(failure), now));
        state.is_wanted = false;
        if state.episode.is_none()
            && let Some(cause) = Cause::of(failure, self.key.access)
        {
            let mut episodes = self.namespace().episodes();
            let what = self.key.target.to_string();
            state.episode = Some(episodes.join(&self.namespace().host, &what, cause, failure, now));
        }
        self.publish(state);
    }

    /// While the namespace is left alone, every call is told the same failure: nothing new about this entity.
    fn fail_once(&self, known: &Record, failure: &Arc<ReadFailure>, now: Moment) {
        if !known.failure.as_ref().is_some_and(|known| Arc::ptr_eq(known, failure)) {
            self.fail(failure, now);
        }
    }

    fn publish(&self, mut state: MutexGuard<'_, State>) {
        if let Some(followers) = &state.followers
            && followers.send(()).is_err()
        {
            state.followers = None;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Tells of every try from now on.
    pub(super) fn follow(&self) -> watch::Receiver<()> {
        self.state().followers.get_or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// Whether a push stream follows.
    pub(super) fn is_followed(&self) -> bool {
        self.state().followers.as_ref().is_some_and(|followers| followers.receiver_count() > 0)
    }

    /// Somebody waits for this pattern.
    pub(super) fn set_wanted(&self) {
        self.state().is_wanted = true;
    }

    /// Whether somebody waits for this pattern.
    pub(super) fn is_wanted(&self) -> bool {
        self.state().is_wanted
    }

    /// The names that match, of a listing that has these.
    pub(super) fn matches(&self, pattern: &Matching, names: &Names) -> Arc<[Arc<str>]> {
        if let Some((membership, matching)) = &self.state().matches
            && *membership == names.membership
        {
            return Arc::clone(matching);
        }
        let matching = names.matching(pattern.pattern.matcher());
        self.state().matches = Some((names.membership, Arc::clone(&matching)));
        matching
    }
}
