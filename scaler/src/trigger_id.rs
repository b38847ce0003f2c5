//! How metrics, explain and history name one trigger among all: the `ScaledObject`'s namespace and name, and a short hash
//! of its non-secret metadata, since one `ScaledObject` may hold several triggers and the reference carries no index.
//!
//! The hash is the same in every process, so that a restart does not begin new series. What KEDA put in from a Secret is
//! not part of it, nor what only KEDA reads; so neither a new key nor another address of the scaler makes another trigger.

use std::fmt;
use std::sync::Arc;

use externalscaler::ScaledObjectRef;
use sha2::{Digest as _, Sha256};

use crate::trigger::KEDA_KEYS;

/// The longest name that Kubernetes has, in bytes. Longer ones are cut, since whoever calls chooses them.
const MAX_NAME_BYTES: usize = 253;

/// Names a trigger. Cheap to clone. Ordered by namespace, name, hash.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TriggerId(Arc<Parts>);

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Parts {
    namespace: Box<str>,
    name: Box<str>,
    hash: [u8; 4],
}

impl TriggerId {
    /// Of a reference as KEDA sends it.
    pub fn of(scaled_object: &ScaledObjectRef) -> Self {
        let ScaledObjectRef { name, namespace, scaler_metadata } = scaled_object;
        let is_part = |key: &str| !key.ends_with("FromEnv") && !KEDA_KEYS.contains(&key);
        let mut metadata: Vec<_> = scaler_metadata.iter().filter(|(key, _)| is_part(key)).collect();
        metadata.sort_unstable();
        let mut hash = Sha256::new();
        for part in metadata.into_iter().flat_map(|(key, value)| [key, value]) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let [first, second, third, fourth, ..] = digest[..] else { unreachable!("SHA-256 has 32 bytes") };
        let hash = [first, second, third, fourth];
        Self(Arc::new(Parts { namespace: cut(namespace).into(), name: cut(name).into(), hash }))
    }

    /// The `ScaledObject`'s namespace, as the caller says.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// The `ScaledObject`'s name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether it is a trigger of this `ScaledObject`.
    pub fn is_of(&self, namespace: &str, name: &str) -> bool {
        self.namespace() == namespace && self.name() == name
    }

    /// Eight hexadecimal digits that tell the triggers of one `ScaledObject` apart.
    pub fn hash(&self) -> String {
        format!("{:08x}", u32::from_be_bytes(self.0.hash))
    }
}

impl fmt::Display for TriggerId {
    /// `namespace/name/hash`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.namespace(), self.name(), self.hash())
    }
}

impl fmt::Debug for TriggerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str, metadata: &[(&str, &str)]) -> TriggerId {
        let scaler_metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        TriggerId::of(&ScaledObjectRef { name: name.to_owned(), namespace: "demo".to_owned(), scaler_metadata })
    }

    #[test]
    fn triggers_of_one_scaled_object_differ_and_each_stays_itself() {
        let orders = id("receiver", &[("queueName", "orders"), ("messageCount", "5")]);
        assert_eq!(orders, id("receiver", &[("messageCount", "5"), ("queueName", "orders")]));
        assert_ne!(orders, id("receiver", &[("queueName", "orders"), ("messageCount", "6")]));
        assert_ne!(orders, id("other", &[("queueName", "orders"), ("messageCount", "5")]));
        // Known from outside: dashboards and alerts may name it, so it must not change from version to version.
        assert_eq!(orders.to_string(), "demo/receiver/7e62e7c5");
    }

    #[test]
    fn neither_secrets_nor_what_only_keda_reads_is_part_of_it() {
        let orders = id("receiver", &[("queueName", "orders")]);
        for (key, value) in [("connectionFromEnv", "Endpoint=sb://…"), ("scalerAddress", "b:1"), ("tlsClientKey", "k")]
        {
            assert_eq!(orders, id("receiver", &[("queueName", "orders"), (key, value)]), "{key}");
        }
    }

    #[test]
    fn names_that_kubernetes_would_not_have_are_cut() {
        let endless = id(&"ä".repeat(100_000), &[]);
        assert_eq!(endless.name(), "ä".repeat(126));
    }
}
