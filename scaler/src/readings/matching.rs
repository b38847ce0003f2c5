//! Several entities as one: what the built-in trigger's `performOperation` does (KEDA,
//! `pkg/scalers/azure_servicebus_scaler.go`), for all five counts alike.
//!
//! Nothing that matches is zero, not an error. The mean is rounded down. Wanted difference: an entity that gives out no
//! messages is left out, since its backlog would start workers for nothing.

use scaling::{Counts, EntityStatus};

use super::record::Matched;
use crate::entity::Operation;
use crate::source::Observed;

/// Takes entities together.
pub(super) fn combined(entities: impl IntoIterator<Item = Observed>, operation: Operation) -> (Observed, Matched) {
    let mut counts = Counts::default();
    let mut matched = Matched::default();
    let mut requires_session = false;
    for entity in entities {
        if !entity.status.is_receivable() {
            matched.disabled += 1;
            continue;
        }
        matched.counted += 1;
        requires_session |= entity.requires_session;
        let of_two = |one: u64, other: u64| match operation {
            Operation::Sum | Operation::Average => one.saturating_add(other),
            Operation::Max => one.max(other),
        };
        counts = of_each(counts, entity.counts, of_two);
    }
    if operation == Operation::Average && matched.counted > 0 {
        counts = of_each(counts, counts, |sum, _| sum / matched.counted as u64);
    }
    (Observed { counts, status: EntityStatus::Active, requires_session, locks: None }, matched)
}

fn of_each(one: Counts, other: Counts, of_two: impl Fn(u64, u64) -> u64) -> Counts {
    Counts {
        active: of_two(one.active, other.active),
        dead_letter: of_two(one.dead_letter, other.dead_letter),
        scheduled: of_two(one.scheduled, other.scheduled),
        transfer: of_two(one.transfer, other.transfer),
        transfer_dead_letter: of_two(one.transfer_dead_letter, other.transfer_dead_letter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(active: u64, scheduled: u64, status: EntityStatus) -> Observed {
        Observed { counts: Counts { active, scheduled, ..Counts::default() }, status, ..Observed::of_test(0) }
    }

    #[test]
    fn sum_max_and_average_as_the_built_in_has_them() {
        let entities = [
            entity(7, 1, EntityStatus::Active),
            entity(100, 100, EntityStatus::Disabled),
            entity(2, 4, EntityStatus::SendDisabled),
            entity(100, 100, EntityStatus::ReceiveDisabled),
            entity(1, 0, EntityStatus::Other),
        ];
        let result = |operation| {
            let (observed, matched) = combined(entities, operation);
            assert_eq!(matched, Matched { counted: 3, disabled: 2 });
            (observed.counts.active, observed.counts.scheduled)
        };
        assert_eq!(result(Operation::Sum), (10, 5));
        assert_eq!(result(Operation::Max), (7, 4));
        assert_eq!(result(Operation::Average), (3, 1), "rounded down");
    }

    #[test]
    fn nothing_that_matches_is_zero() {
        for operation in [Operation::Sum, Operation::Max, Operation::Average] {
            let (observed, matched) = combined([], operation);
            assert_eq!((observed.counts, matched), (Counts::default(), Matched::default()));
        }
    }

    #[test]
    fn counts_beyond_all_bounds_do_not_wrap() {
        let huge = entity(u64::MAX, 0, EntityStatus::Active);
        assert_eq!(combined([huge, huge], Operation::Sum).0.counts.active, u64::MAX);
    }
}
