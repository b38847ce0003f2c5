//! The name of a trigger's one metric: what the built-in trigger calls it where that is sound and tells entities apart, and
//! with a hash where it does not.
//!
//! Known from outside, in the HPA and on dashboards: the same in every version and process.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::entity::{Entity, Listing, Target};

const PREFIX: &str = "azure-servicebus-";
/// What the built-in trigger calls patterns of queue names.
const QUEUE_REGEX: &str = "queue-regex";
/// The same of subscription names.
const TOPIC_REGEX: &str = "topic-regex";
/// The longest name, in bytes. The HPA takes any length (its names are path segments: Kubernetes'
/// `ValidatePathSegmentName`); with KEDA's `s{index}-` before it this stays within the 253 that objects may have.
const MAX_BYTES: usize = 240;
/// A hyphen and eight hexadecimal digits.
const HASH_BYTES: usize = 9;

/// Lower case, of letters, digits, `-` and `_` alone: KEDA does not correct names of external scalers (keda#1168,
/// keda#4954). Names that differ in letter case alone are one entity to Service Bus, and have one metric name.
pub(super) fn metric_name(target: &Target) -> String {
    let (kind, parts) = match target {
        Target::Matching(matching) => {
            let kind = match matching.listing {
                Listing::Queues => QUEUE_REGEX,
                Listing::Subscriptions { .. } => TOPIC_REGEX,
            };
            return format!("{PREFIX}{kind}");
        }
        Target::Entity(Entity::Queue(queue)) => ("queue", [queue.as_str(), ""]),
        Target::Entity(Entity::Subscription { topic, subscription }) => {
            ("subscription", [topic.as_str(), subscription.as_str()])
        }
    };
    let mut name = String::with_capacity(PREFIX.len() + parts[0].len() + parts[1].len() + 1 + HASH_BYTES);
    name.push_str(PREFIX);
    let mut changed = false;
    for (index, part) in parts.into_iter().enumerate().filter(|(_, part)| !part.is_empty()) {
        if index > 0 {
            name.push('-');
        }
        for character in part.chars() {
            let lower = character.to_ascii_lowercase();
            let is_plain = lower.is_ascii_lowercase() || lower.is_ascii_digit() || matches!(lower, '-' | '_');
            changed |= !is_plain;
            name.push(if is_plain { lower } else { '-' });
        }
    }
    let own = &name[PREFIX.len()..];
    let is_queues_alone =
        kind == "queue" && !changed && !matches!(own, QUEUE_REGEX | TOPIC_REGEX) && !ends_in_hash(own);
    if is_queues_alone && name.len() <= MAX_BYTES {
        return name;
    }
    // All that is in it is ASCII by now.
    name.truncate(MAX_BYTES - HASH_BYTES);
    write!(name, "-{:08x}", hash(kind, parts)).expect("writing to a String does not fail");
    name
}

/// What the built-in trigger calls the same, without KEDA's `s{index}-` (`azure_servicebus_scaler.go`, and
/// `NormalizeString` of `pkg/util/normalize_string.go`).
pub(super) fn built_in_metric_name(target: &Target) -> String {
    let name = match target {
        Target::Matching(_) => return metric_name(target),
        Target::Entity(Entity::Queue(queue)) => queue,
        Target::Entity(Entity::Subscription { topic, .. }) => topic,
    };
    format!("{PREFIX}{}", name.replace(['/', '.', ':', '%', '(', ')'], "-"))
}

/// Whether it could be taken for a name that got a hash.
fn ends_in_hash(name: &str) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    let end = name.as_bytes().last_chunk::<HASH_BYTES>();
    end.is_some_and(|[hyphen, digits @ ..]| *hyphen == b'-' && digits.iter().all(is_digit))
}

fn hash(kind: &str, parts: [&str; 2]) -> u32 {
    let mut hash = Sha256::new();
    for part in [kind, parts[0], parts[1]] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.to_ascii_lowercase());
    }
    let digest = hash.finalize();
    let [first, second, third, fourth, ..] = digest[..] else { unreachable!("SHA-256 has 32 bytes") };
    u32::from_be_bytes([first, second, third, fourth])
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::entity::{Matching, NamePattern, Operation};

    fn queue(name: &str) -> Target {
        Target::Entity(Entity::Queue(name.to_owned()))
    }

    fn subscription(topic: &str, subscription: &str) -> Target {
        Target::Entity(Entity::Subscription { topic: topic.to_owned(), subscription: subscription.to_owned() })
    }

    fn matching(listing: Listing) -> Target {
        let pattern = NamePattern::new("orders-.*").expect("a sound pattern");
        Target::Matching(Matching { listing, pattern, operation: Operation::Sum })
    }

    #[test]
    fn names_are_the_built_ins_wherever_those_are_sound_and_distinct() {
        assert_eq!(metric_name(&queue("orders")), "azure-servicebus-orders");
        assert_eq!(metric_name(&queue("Orders_v2-new")), "azure-servicebus-orders_v2-new");
        assert_eq!(metric_name(&matching(Listing::Queues)), "azure-servicebus-queue-regex");
        let topic = "events".to_owned();
        assert_eq!(metric_name(&matching(Listing::Subscriptions { topic })), "azure-servicebus-topic-regex");
    }

    #[test]
    fn the_built_in_trigger_replaces_less_and_leaves_the_subscription_out() {
        assert_eq!(built_in_metric_name(&queue("Team.A/orders")), "azure-servicebus-Team-A-orders");
        assert_eq!(built_in_metric_name(&subscription("events", "billing")), "azure-servicebus-events");
        assert_eq!(built_in_metric_name(&matching(Listing::Queues)), "azure-servicebus-queue-regex");
    }

    /// Written down: whoever upgrades must find the same names.
    #[test]
    fn hashes_never_change() {
        assert_eq!(metric_name(&queue("a.b")), "azure-servicebus-a-b-3876e25d");
        assert_eq!(metric_name(&queue("Team.A/Orders_v2")), "azure-servicebus-team-a-orders_v2-2c125844");
        assert_eq!(metric_name(&queue("ordené")), "azure-servicebus-orden--60f8398b");
        assert_eq!(metric_name(&queue("queue-regex")), "azure-servicebus-queue-regex-ab6c393b");
        assert_eq!(metric_name(&subscription("events", "billing")), "azure-servicebus-events-billing-4f862251");
    }

    #[test]
    fn one_entity_has_one_name_however_its_letters_are_cased() {
        assert_eq!(metric_name(&queue("Team.Orders")), metric_name(&queue("team.orders")));
        assert_eq!(metric_name(&subscription("Events", "Billing")), metric_name(&subscription("events", "billing")));
    }

    #[test]
    fn entities_whose_plain_names_would_be_one_have_two() {
        let alike = [
            queue("a-b"),
            queue("a.b"),
            queue("a/b"),
            subscription("a", "b"),
            queue(metric_name(&queue("a.b")).strip_prefix(PREFIX).expect("the prefix")),
            subscription("a-b", "c"),
            subscription("a", "b-c"),
            subscription("a.b", "c"),
            queue("queue-regex"),
            matching(Listing::Queues),
            queue("topic-regex"),
            matching(Listing::Subscriptions { topic: "topic".to_owned() }),
            queue(&"x".repeat(250)),
            queue(&"x".repeat(251)),
        ];
        let names: HashMap<String, &Target> = alike.iter().map(|target| (metric_name(target), target)).collect();
        assert_eq!(names.len(), alike.len(), "{names:?}");
    }

    fn path() -> impl Strategy<Value = String> {
        // Few characters, so that names nearly meet; and some that meet the rules at their edges.
        prop_oneof!["[ab./_-]{1,6}", "[a-zA-Z0-9é./_-]{1,260}", "[ab]{1,3}-[0-9a-f]{8}"]
    }

    fn target() -> impl Strategy<Value = Target> {
        let subscription_name = prop_oneof!["[ab._-]{1,6}", "[a-zA-Z0-9._-]{1,50}"];
        prop_oneof![
            path().prop_map(|name| queue(&name)),
            (path(), subscription_name).prop_map(|(topic, name)| subscription(&topic, &name)),
        ]
    }

    proptest! {
        #[test]
        fn names_are_what_kubernetes_takes(target in target()) {
            let name = metric_name(&target);
            prop_assert!(name.len() <= MAX_BYTES);
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
            prop_assert!(name.starts_with(PREFIX) && name.bytes().all(is_plain), "{}", name);
        }

        #[test]
        fn two_entities_have_two_names(one in target(), other in target()) {
            let same = match (&one, &other) {
                (Target::Entity(one), Target::Entity(other)) => one.folded() == other.folded(),
                _ => unreachable!("no pattern is drawn"),
            };
            prop_assert_eq!(metric_name(&one) == metric_name(&other), same, "{:?} {:?}", one, other);
        }
    }
}
