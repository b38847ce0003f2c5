//! One replica for every so many active messages: what KEDA's built-in trigger does.
//!
//! It needs no knowledge of processing times and reacts at once, and leaves the choice of the number to the user. The
//! value served for it is exactly the active count, so it also works with `metricType: Value`.

use super::{Base, Decision, Entry, Policy};
use crate::reading::{Moment, Window};

pub(super) const ENTRY: Entry = Entry {
    name: "messageCount",
    summary: "one replica for every `messageCount` active messages, as KEDA's built-in trigger",
    keys: &[],
    build: |base, _| Ok(Box::new(MessageCount { base })),
};

#[derive(Debug)]
struct MessageCount {
    base: Base,
}

impl Policy for MessageCount {
    fn decide(&self, window: &Window<'_>, _now: Moment) -> Decision {
        let active = window.newest().counts.active;
        let per_replica = self.base.message_count();
        let replicas = active as f64 / f64::from(per_replica);
        Decision {
            replicas,
            active: active > self.base.activation_message_count(),
            why: format!("{active} active messages / {per_replica} a replica = {} replicas", super::shown(replicas)),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::tests::{decide, reading};
    use crate::{Base, Counts, Settings, build_policy};

    #[test]
    fn counts_active_messages_alone() {
        let policy = build_policy("messageCount", Base::new(5, 0).unwrap(), &Settings::new()).unwrap();
        let counts = Counts { active: 12, dead_letter: 100, scheduled: 100, transfer: 9, transfer_dead_letter: 9 };
        let decision = decide(&*policy, reading(counts));
        assert!((decision.replicas - 2.4).abs() < 1e-12 && decision.active);
        assert_eq!(decision.why, "12 active messages / 5 a replica = 2.4 replicas");
    }

    #[test]
    fn is_active_strictly_above_the_activation_count() {
        let policy = build_policy("messageCount", Base::new(5, 3).unwrap(), &Settings::new()).unwrap();
        let active = |active| decide(&*policy, reading(Counts { active, ..Counts::default() })).active;
        assert_eq!([active(0), active(3), active(4)], [false, false, true]);
    }
}
