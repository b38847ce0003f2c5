//! Which entity is due next, over all of them.
//!
//! Each queue, subscription and topic knows the first of its own deadlines; this index spares asking all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{name::EntityName, timestamp::Timestamp};

/// The first deadline of every entity that has one.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    by_name: BTreeMap<EntityName, Timestamp>,
    by_time: BTreeSet<(Timestamp, EntityName)>,
}

impl Deadlines {
    /// Replaces an entity's deadline.
    pub(super) fn set(&mut self, name: &EntityName, deadline: Option<Timestamp>) {
        let previous = self.by_name.get(name).copied();
        if previous == deadline {
            return;
        }
        if let Some(previous) = previous {
            self.by_name.remove(name);
            self.by_time.remove(&(previous, name.clone()));
        }
        if let Some(deadline) = deadline {
            self.by_name.insert(name.clone(), deadline);
            self.by_time.insert((deadline, name.clone()));
        }
    }

    /// The earliest of all.
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(deadline, _)| *deadline)
    }

    /// The entities whose deadline has come, earliest first.
    pub(super) fn due(&self, now: Timestamp) -> Vec<EntityName> {
        self.by_time.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, name)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_a_new_deadline_replaces_the_old() {
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
