//! One log line when something begins to go wrong and one when it is over, however many entities it concerns and however
//! often they are asked for between.
//!
//! An episode is one namespace's throttling or silence, or one credential's refusal. It begins with the first entity that
//! can no longer be read and ends with the first of those that can be again. Owned by a namespace.

use std::collections::HashMap;
use std::time::Duration;

use scaling::Moment;

use crate::keyed_hash::Digest;
use crate::source::ReadFailure;

/// A trouble that comes back sooner is the one that was told of already.
const QUIET: Duration = Duration::from_mins(1);
/// Credentials whose episodes are remembered at a time.
const MAX_CAUSES: usize = 1_000;

/// What the entities of an episode have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cause {
    /// The namespace throttles or does not answer.
    Namespace,
    /// This credential is refused.
    Credential(Digest),
}

impl Cause {
    /// Of a failed read with this credential; none where the failure is about one entity, whose caller is told.
    pub(super) fn of(failure: &ReadFailure, credential: Digest) -> Option<Self> {
        match failure {
            ReadFailure::Throttled { .. } | ReadFailure::Unreachable(_) => Some(Self::Namespace),
            ReadFailure::Unauthorized(_) | ReadFailure::NoToken(_) => Some(Self::Credential(credential)),
            ReadFailure::NotFound(_) | ReadFailure::Unexpected(_) | ReadFailure::OverBudget(_) => None,
        }
    }
}

/// The episode that an entity is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    cause: Cause,
    number: u64,
}

/// The episodes of one namespace.
#[derive(Debug, Default)]
pub(super) struct Episodes {
    by_cause: HashMap<Cause, Episode>,
    count: u64,
}

#[derive(Debug)]
struct Episode {
    number: u64,
    began_at: Moment,
    entities: usize,
    is_open: bool,
    is_told: bool,
    told_at: Option<Moment>,
}

impl Episodes {
    /// An entity cannot be read any more. `host` and `what` are for the line, if there is one.
    pub(super) fn join(&mut self, host: &str, what: &str, cause: Cause, failure: &ReadFailure, now: Moment) -> Member {
        if !self.by_cause.contains_key(&cause) && self.by_cause.len() >= MAX_CAUSES {
            self.make_room();
        }
        if let Some(episode) = self.by_cause.get_mut(&cause).filter(|episode| episode.is_open) {
            episode.entities += 1;
            return Member { cause, number: episode.number };
        }
        let told_at = self.by_cause.get(&cause).and_then(|previous| previous.told_at);
        let is_told = told_at.is_none_or(|at| now.0.saturating_sub(at.0) >= QUIET);
        if is_told {
            let problem = failure.to_string();
            tracing::warn!(host, first = what, problem, "reads fail; older readings stand in where there are any");
        }
        self.count += 1;
        let told_at = if is_told { Some(now) } else { told_at };
        let episode = Episode { number: self.count, began_at: now, entities: 1, is_open: true, is_told, told_at };
        self.by_cause.insert(cause, episode);
        Member { cause, number: self.count }
    }

    /// From now on the whole namespace is left alone. If a single entity that never came back is all that its episode
    /// was told of, and long ago, what begins now is another.
    pub(super) fn all_fail(&mut self, now: Moment) {
        if let Some(episode) = self.by_cause.get_mut(&Cause::Namespace)
            && episode.told_at.is_none_or(|at| now.0.saturating_sub(at.0) >= QUIET)
        {
            episode.is_open = false;
        }
    }

    /// Forgets what is over, and the oldest if nothing is: a credential that never works again has no end.
    fn make_room(&mut self) {
        self.by_cause.retain(|_, episode| episode.is_open);
        if self.by_cause.len() >= MAX_CAUSES {
            let oldest = self.by_cause.iter().min_by_key(|(_, episode)| episode.number).map(|(cause, _)| *cause);
            oldest.map(|oldest| self.by_cause.remove(&oldest));
        }
    }

    /// An entity can be read again.
    pub(super) fn leave(&mut self, host: &str, member: Member, now: Moment) {
        let Member { cause, number } = member;
        let Some(episode) = self.by_cause.get_mut(&cause).filter(|episode| episode.number == number) else { return };
        if !std::mem::replace(&mut episode.is_open, false) {
            return;
        }
        if episode.is_told {
            let (entities, seconds) = (episode.entities, now.0.saturating_sub(episode.began_at.0).as_secs_f64());
            tracing::info!(host, entities, seconds, "reads succeed again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyed_hash::KeyedHash;

    #[test]
    fn credentials_that_never_work_are_remembered_up_to_a_bound_and_the_latest_longest() {
        let (keys, refused) = (KeyedHash::random(), ReadFailure::Unauthorized("no".to_owned()));
        let cause = |number: u64| Cause::Credential(keys.of([number.to_be_bytes().as_slice()]));
        let mut episodes = Episodes::default();
        let most = MAX_CAUSES as u64;
        for number in 0..3 * most {
            episodes.join("host", "queue orders", cause(number), &refused, Moment(Duration::from_secs(number)));
            assert!(episodes.by_cause.len() <= MAX_CAUSES, "after {number}");
        }
        for number in 2 * most + 1..3 * most {
            assert!(episodes.by_cause.contains_key(&cause(number)), "{number} is not long ago");
        }
    }

    #[test]
    fn an_entity_that_stays_broken_does_not_hide_what_begins_later() {
        let mut episodes = Episodes::default();
        let gone = ReadFailure::Unreachable("HTTP 500".to_owned());
        let at = |seconds| Moment(Duration::from_secs(seconds));
        let join = |episodes: &mut Episodes, seconds| {
            episodes.join("host", "queue orders", Cause::Namespace, &gone, at(seconds)).number
        };
        let first = join(&mut episodes, 0);
        // An outage is told of at its first failure, and is known to be one a little later.
        episodes.all_fail(at(2));
        assert_eq!(join(&mut episodes, 3), first);
        episodes.all_fail(at(3_600));
        assert_ne!(join(&mut episodes, 3_601), first, "it is told of, though the first never recovered");
        assert_eq!(episodes.by_cause[&Cause::Namespace].told_at, Some(at(3_601)));
    }
}
