//! Which queue is due next, over all queues.
//!
//! Each queue knows the first of its own deadlines; this index spares asking all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{name::EntityName, timestamp::Timestamp};

/// The first deadline of every queue that has one.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    by_queue: BTreeMap<EntityName, Timestamp>,
    by_time: BTreeSet<(Timestamp, EntityName)>,
}

impl Deadlines {
    /// Replaces a queue's deadline.
    pub(super) fn set(&mut self, queue: &EntityName, deadline: Option<Timestamp>) {
        let previous = self.by_queue.get(queue).copied();
        if previous == deadline {
            return;
        }
        if let Some(previous) = previous {
            self.by_queue.remove(queue);
            self.by_time.remove(&(previous, queue.clone()));
        }
        if let Some(deadline) = deadline {
            self.by_queue.insert(queue.clone(), deadline);
            self.by_time.insert((deadline, queue.clone()));
        }
    }

    /// The earliest of all.
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(deadline, _)| *deadline)
    }

    /// The queues whose deadline has come, earliest first.
    pub(super) fn due(&self, now: Timestamp) -> Vec<EntityName> {
        self.by_time.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, queue)| queue.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_queue_comes_first_and_a_new_deadline_replaces_the_old() {
        let [a, b] = ["a", "b"].map(|name| EntityName::new(name).unwrap());
        let at = Timestamp::from_millis;
        let mut deadlines = Deadlines::default();
        deadlines.set(&a, Some(at(20)));
        deadlines.set(&b, Some(at(10)));
        assert_eq!((deadlines.first(), deadlines.due(at(9))), (Some(at(10)), vec![]));
        assert_eq!(deadlines.due(at(20)), [b.clone(), a.clone()]);
        deadlines.set(&b, Some(at(30)));
        assert_eq!((deadlines.first(), deadlines.due(at(20))), (Some(at(20)), vec![a.clone()]));
        deadlines.set(&a, None);
        deadlines.set(&b, None);
        assert_eq!((deadlines.first(), deadlines.due(Timestamp::MAX)), (None, vec![]));
    }
}
