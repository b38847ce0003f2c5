//! Which entities are in demand: asked for within the last `cacheTtl`, each counted once.
//!
//! Pure, and cheap where it matters: a call that is answered from the cache costs one look-up in a map.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use scaling::Moment;

/// The names in demand.
#[derive(Debug, Default)]
pub(super) struct Demand {
    until: HashMap<Arc<str>, Moment>,
    /// Each name of `until` once, at a moment that is not later than there.
    by_end: BTreeSet<(Moment, Arc<str>)>,
}

impl Demand {
    /// Asked for now; in demand until then. Says whether it was not before.
    pub(super) fn ask(&mut self, name: &Arc<str>, until: Moment, now: Moment) -> bool {
        if let Some(known) = self.until.get_mut(name) {
            let was_over = *known <= now;
            *known = until.max(*known);
            was_over
        } else {
            self.until.insert(Arc::clone(name), until);
            self.by_end.insert((until, Arc::clone(name)));
            true
        }
    }

    /// Forgets those whose time is over.
    pub(super) fn prune(&mut self, now: Moment) {
        while self.by_end.first().is_some_and(|(end, _)| *end <= now) {
            let Some((_, name)) = self.by_end.pop_first() else { return };
            match self.until.get(&name) {
                Some(until) if *until > now => {
                    self.by_end.insert((*until, name));
                }
                _ => {
                    self.until.remove(&name);
                }
            }
        }
    }

    /// Whether it is in demand now.
    pub(super) fn contains(&self, name: &str, now: Moment) -> bool {
        self.until.get(name).is_some_and(|until| *until > now)
    }

    /// How many are in demand, as of the last [`Self::prune`].
    pub(super) fn len(&self) -> usize {
        self.until.len()
    }

    /// Those in demand, as of the last [`Self::prune`].
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> + Clone {
        self.until.keys()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_name_counts_once_and_until_its_last_end() {
        let at = |seconds| Moment(Duration::from_secs(seconds));
        let (orders, refunds): (Arc<str>, Arc<str>) = ("orders".into(), "refunds".into());
        let mut demand = Demand::default();
        assert!(demand.ask(&orders, at(5), at(0)));
        assert!(demand.ask(&refunds, at(6), at(1)));
        assert!(!demand.ask(&orders, at(9), at(4)), "it still was");
        demand.prune(at(5));
        assert_eq!(demand.len(), 2, "orders was asked for again");
        demand.prune(at(6));
        assert_eq!(demand.names().map(AsRef::as_ref).collect::<Vec<&str>>(), ["orders"]);
        assert!(demand.contains("orders", at(8)) && !demand.contains("orders", at(9)));
        assert!(demand.ask(&orders, at(9), at(9)), "it was over");
        demand.prune(at(9));
        assert_eq!((demand.len(), demand.by_end.len()), (0, 0));
    }
}
