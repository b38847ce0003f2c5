//! The metadata keys, each with what it means and what it may be: one table for the parser, its errors, `scaler check` and
//! the reference in `docs/scaler.md`.
//!
//! Also tells which known key a misspelled one was probably meant to be. Values are read in [`super::value`].

use scaling::Key;

pub(super) const QUEUE_NAME: Key = Key {
    name: "queueName",
    doc: "the queue; with `useRegex` a pattern of queue names. Or `topicName` and `subscriptionName`",
    allowed: "the name of a queue: 1 to 260 letters, digits, periods, hyphens, underscores and inner slashes",
    default: "",
};
pub(super) const TOPIC_NAME: Key = Key {
    name: "topicName",
    doc: "the topic whose subscription is counted",
    allowed: "the name of a topic: 1 to 260 letters, digits, periods, hyphens, underscores and inner slashes",
    default: "",
};
pub(super) const SUBSCRIPTION_NAME: Key = Key {
    name: "subscriptionName",
    doc: "the subscription; with `useRegex` a pattern of the topic's subscriptions",
    allowed: "the name of a subscription: 1 to 50 letters, digits, periods, hyphens and underscores",
    default: "",
};
pub(super) const USE_REGEX: Key = Key {
    name: "useRegex",
    doc: "count all entities whose whole name matches `queueName` or `subscriptionName`",
    allowed: "true or false",
    default: "false",
};
pub(super) const OPERATION: Key = Key {
    name: "operation",
    doc: "with `useRegex`: how the counts of all matches become one; `avg` rounds down",
    allowed: "sum, max or avg",
    default: "sum",
};
pub(super) const MESSAGE_COUNT: Key = Key {
    name: "messageCount",
    doc: "messages per replica; the target that the HPA gets",
    allowed: "a whole number from 1 to 1000000",
    default: "5",
};
pub(super) const ACTIVATION_MESSAGE_COUNT: Key = Key {
    name: "activationMessageCount",
    doc: "active only with strictly more messages than this",
    allowed: "a whole number from 0",
    default: "0",
};
pub(super) const CONNECTION_FROM_ENV: Key = Key {
    name: "connectionFromEnv",
    doc: "where the connection string is; KEDA puts the variable's value here. Or `connectionRef`",
    allowed: "the name of an environment variable of the scale target's container",
    default: "",
};
pub(super) const CONNECTION_REF: Key = Key {
    name: "connectionRef",
    doc: "a connection that the scaler's config file offers to this Kubernetes namespace",
    allowed: "a name in the scaler's config file: 1 to 253 letters, digits, periods, hyphens and underscores",
    default: "",
};
pub(super) const NAMESPACE: Key = Key {
    name: "namespace",
    doc: "with `connectionRef`: the Service Bus namespace, where the connection leaves the choice",
    allowed: "the name of a Service Bus namespace without a suffix: at most 50 letters, digits and inner hyphens, a letter first",
    default: "",
};
pub(super) const CLOUD: Key = Key {
    name: "cloud",
    doc: "with `connectionRef` and `namespace`: whose name space it is in; letter case does not matter, and AzureCloud and AzureUSGovernment are known, too",
    allowed: "AzurePublicCloud, AzureUSGovernmentCloud, AzureChinaCloud, AzureGermanCloud or Private",
    default: "",
};
pub(super) const ENDPOINT_SUFFIX: Key = Key {
    name: "endpointSuffix",
    doc: "with `cloud: Private`, and required there: what follows the namespace's name",
    allowed: "a DNS suffix of two labels or more, such as servicebus.region.stack.example; cloud Private needs one",
    default: "",
};
pub(super) const CACHE_TTL: Key = Key {
    name: "cacheTtl",
    doc: "a reading younger than this is used again; within the operator's bounds",
    allowed: "a duration from 0s to 5m, such as 500ms, 5s or 1m; a plain number is seconds",
    default: "",
};
pub(super) const MAX_STALENESS: Key = Key {
    name: "maxStaleness",
    doc: "while Service Bus cannot be read, the last reading is used up to this age; within the operator's bounds",
    allowed: "a duration from 0s to 20m, such as 30s or 2m; a plain number is seconds",
    default: "",
};
pub(super) const POLICY: Key = Key {
    name: "policy",
    doc: "how many replicas the readings call for",
    allowed: "the name of a policy",
    default: scaling::DEFAULT_POLICY,
};
pub(super) const POLICY_PROFILE: Key = Key {
    name: "policyProfile",
    doc: "a policy by name, instead of `policy`",
    allowed: "a name in the scaler's config file",
    default: "",
};

/// The keys that every trigger may have; an empty default means that there is none. A policy's own keys come on top.
pub const KEYS: [Key; 16] = [
    QUEUE_NAME,
    TOPIC_NAME,
    SUBSCRIPTION_NAME,
    USE_REGEX,
    OPERATION,
    MESSAGE_COUNT,
    ACTIVATION_MESSAGE_COUNT,
    CONNECTION_FROM_ENV,
    CONNECTION_REF,
    NAMESPACE,
    CLOUD,
    ENDPOINT_SUFFIX,
    CACHE_TTL,
    MAX_STALENESS,
    POLICY,
    POLICY_PROFILE,
];

/// Keys that KEDA reads itself and forwards all the same (`pkg/scalers/external_scaler.go`).
pub(crate) const KEDA_KEYS: [&str; 7] =
    ["scalerAddress", "enableTLS", "unsafeSsl", "caCert", "tlsClientCert", "tlsClientKey", "tlsCertFile"];

/// Keys that other external scalers have as well, so that they do not tell whose a trigger is.
const SHARED_KEYS: [Key; 6] = [CONNECTION_FROM_ENV, NAMESPACE, CLOUD, ENDPOINT_SUFFIX, OPERATION, POLICY];

/// Whether an external trigger with these keys is for this scaler: one of them is ours alone, or something like one that
/// is.
pub(crate) fn are_ours<'a>(keys: impl Iterator<Item = &'a str>) -> bool {
    let is_telling =
        |key: &'static str| !KEDA_KEYS.contains(&key) && !SHARED_KEYS.iter().any(|shared| shared.name == key);
    let mut keys = keys.filter(|key| !KEDA_KEYS.contains(key)).peekable();
    // One that says nothing at all is more likely unfinished than somebody else's.
    keys.peek().is_none() || keys.any(|key| likely_meant(key).is_some_and(is_telling))
}

/// The known key that this unknown one was probably meant to be.
pub fn likely_meant(unknown: &str) -> Option<&'static str> {
    // Far beyond any key, and comparing takes time that grows with the square of it.
    if unknown.len() > 64 {
        return None;
    }
    let bare = bare(unknown);
    let policies = scaling::POLICIES.iter().flat_map(|policy| policy.keys);
    let known = KEYS.iter().chain(policies).map(|key| key.name).chain(KEDA_KEYS);
    let distance = |key: &'static str| strsim::osa_distance(&bare, &self::bare(key));
    let (nearest, distance) = known.map(|key| (key, distance(key))).min_by_key(|(_, distance)| *distance)?;
    // One slip in a short key, two in a long one: `queue` is no misspelled `queueName`.
    let slips = if nearest.len() < 7 { 1 } else { 2 };
    (distance <= slips).then_some(nearest)
}

/// A key without what people write differently: letter case, underscores, hyphens, periods, blanks.
pub(super) fn bare(key: &str) -> String {
    key.chars().filter(|character| character.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_that_was_meant_is_found() {
        for (written, meant) in [
            ("messagecount", "messageCount"),
            ("queue_name", "queueName"),
            ("queue-name", "queueName"),
            ("quueeName", "queueName"),
            ("messageCounts", "messageCount"),
            ("activationMesageCount", "activationMessageCount"),
            ("ConnectionFromENV", "connectionFromEnv"),
            ("connection_ref", "connectionRef"),
            ("subscripionName", "subscriptionName"),
            ("wieghts", "weights"),
            ("polcy", "policy"),
            ("cacheTTL", "cacheTtl"),
        ] {
            assert_eq!(likely_meant(written), Some(meant), "{written}");
        }
    }

    #[test]
    fn a_trigger_is_known_by_a_key_that_nobody_else_has() {
        for ours in [
            &[][..],
            &["scalerAddress", "enableTLS"],
            &["queueName"],
            &["topic_name", "namespace"],
            &["connectionRef"],
            &["policyprofile"],
            &["messageCount"],
            &["weights"],
        ] {
            assert!(are_ours(ours.iter().copied()), "{ours:?}");
        }
        for others in [
            // KEDA's scaler for Azure Cosmos DB.
            &["scalerAddress", "connectionFromEnv", "databaseId", "containerId", "leaseConnectionFromEnv"][..],
            &["namespace", "cloud", "policy"],
            &["Operation", "endpointsuffix"],
            &["connection"],
            &["scalerAdress", "profile"],
        ] {
            assert!(!are_ours(others.iter().copied()), "{others:?}");
        }
    }

    #[test]
    fn a_key_like_no_other_stays_unexplained() {
        for written in ["", "queue", "topic", "metricName", "ü", "queueLength", &"q".repeat(100_000)] {
            assert_eq!(likely_meant(written), None, "{written}");
        }
    }
}
