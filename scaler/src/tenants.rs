//! What each Kubernetes namespace has in use, against the operator's limits: distinct credentials, entities, patterns.
//!
//! Owns one bounded table. A newcomer beyond a limit is refused; what is in use already stays, so one namespace cannot push
//! out another's. What is not asked for during [`FORGET_AFTER`] is forgotten. Pure but for its lock: `now` is an argument.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Limits;
use crate::entity::Target;
use crate::keyed_hash::Digest;

/// How long something is remembered that nobody asks for.
pub(crate) const FORGET_AFTER: Duration = Duration::from_mins(30);
/// Most Kubernetes namespaces known at a time. Their names are the callers' claims, so there must be an end.
const MAX_NAMESPACES: usize = 10_000;
/// Forgetting walks through everything: now and then, and not at every refusal.
const SWEEP_EVERY: Duration = Duration::from_mins(1);
const SWEEP_WHEN_FULL_EVERY: Duration = Duration::from_secs(1);

/// A limit is reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitReached {
    /// One of a Kubernetes namespace.
    #[error(
        "Kubernetes namespace {namespace:?} has {limit} {what} in use, all that {key} in the scaler's config file allows; \
         what is not asked for during 30 minutes is forgotten"
    )]
    OfNamespace {
        /// The Kubernetes namespace.
        namespace: String,
        /// What there are too many of.
        what: &'static str,
        /// The key of the limit.
        key: &'static str,
        /// Its value.
        limit: usize,
    },
    /// One of all together.
    #[error(
        "this scaler has {limit} {what} in use, all that {key} allows; what is not asked for during 30 minutes is forgotten"
    )]
    OfAll {
        /// What there are too many of.
        what: &'static str,
        /// What sets the limit.
        key: &'static str,
        /// Its value.
        limit: usize,
    },
}

/// The table. Shared behind a reference.
#[derive(Default)]
pub(crate) struct Tenants {
    table: Mutex<Table>,
    hasher: RandomState,
}

#[derive(Default)]
struct Table {
    tenants: HashMap<Box<str>, Tenant>,
    /// Entities and patterns of all.
    targets: usize,
    swept_at: Option<Instant>,
}

#[derive(Default)]
struct Tenant {
    credentials: Uses,
    entities: Uses,
    patterns: Uses,
}

/// A target by an access, as far as the table needs it: keyed hashes, so that names and credentials are not kept.
#[derive(Clone, Copy)]
struct Use<'a> {
    namespace: &'a str,
    credential: u64,
    hash: u64,
    is_pattern: bool,
}

/// When each was asked for last.
#[derive(Default)]
struct Uses(HashMap<u64, Instant>);

impl Uses {
    /// Whether it is known; if so, it is in use now.
    fn touch(&mut self, key: u64, now: Instant) -> bool {
        self.0.get_mut(&key).map(|at| *at = now).is_some()
    }

    fn forget_idle(&mut self, now: Instant) {
        self.0.retain(|_, at| now.saturating_duration_since(*at) < FORGET_AFTER);
    }
}

impl Tenants {
    /// Notes that a Kubernetes namespace uses this target by this access, if the limits allow. A refusal notes nothing.
    pub(crate) fn admit(
        &self,
        now: Instant,
        limits: &Limits,
        namespace: &str,
        access: Digest,
        target: &Target,
    ) -> Result<(), LimitReached> {
        let wanted = Use {
            namespace,
            credential: self.hasher.hash_one(access),
            hash: self.hasher.hash_one((access, target)),
            is_pattern: matches!(target, Target::Matching(_)),
        };
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.sweep(now, SWEEP_EVERY);
        if let Err(reached) = table.room_for(wanted, limits, now) {
            if !table.sweep(now, SWEEP_WHEN_FULL_EVERY) {
                return Err(reached);
            }
            table.room_for(wanted, limits, now)?;
        }
        table.note(wanted, now);
        Ok(())
    }
}

impl Table {
    /// Whether it is in use already, or there is room for it.
    fn room_for(&mut self, wanted: Use<'_>, limits: &Limits, now: Instant) -> Result<(), LimitReached> {
        let Limits { credentials_per_namespace, entities_per_namespace, patterns_per_namespace, entities } = *limits;
        let Use { namespace, credential, hash, is_pattern } = wanted;
        let of_namespace =
            |what, key, limit| Err(LimitReached::OfNamespace { namespace: namespace.to_owned(), what, key, limit });
        let of_all = |what, key, limit| Err(LimitReached::OfAll { what, key, limit });
        let total = if self.targets < entities {
            Ok(())
        } else {
            of_all("entities and patterns", "limits.entities in the scaler's config file", entities)
        };
        let Some(tenant) = self.tenants.get_mut(namespace) else {
            if self.tenants.len() >= MAX_NAMESPACES {
                return of_all("Kubernetes namespaces", "this program", MAX_NAMESPACES);
            }
            return total;
        };
        if !tenant.credentials.touch(credential, now) && tenant.credentials.0.len() >= credentials_per_namespace {
            let key = "limits.credentialsPerNamespace";
            return of_namespace("distinct credentials", key, credentials_per_namespace);
        }
        let (what, key, limit) = if is_pattern {
            ("patterns", "limits.patternsPerNamespace", patterns_per_namespace)
        } else {
            ("entities", "limits.entitiesPerNamespace", entities_per_namespace)
        };
        let targets = tenant.targets(is_pattern);
        if targets.touch(hash, now) {
            Ok(())
        } else if targets.0.len() >= limit {
            of_namespace(what, key, limit)
        } else {
            total
        }
    }

    fn note(&mut self, wanted: Use<'_>, now: Instant) {
        let Use { namespace, credential, hash, is_pattern } = wanted;
        if !self.tenants.contains_key(namespace) {
            self.tenants.insert(namespace.into(), Tenant::default());
        }
        let Some(tenant) = self.tenants.get_mut(namespace) else { return };
        tenant.credentials.0.insert(credential, now);
        if tenant.targets(is_pattern).0.insert(hash, now).is_none() {
            self.targets += 1;
        }
    }

    /// Forgets what is idle, unless that was done within `at_most_every`. Whether it was done.
    fn sweep(&mut self, now: Instant, at_most_every: Duration) -> bool {
        match self.swept_at {
            Some(at) if now.saturating_duration_since(at) < at_most_every => return false,
            _ => self.swept_at = Some(now),
        }
        self.tenants.retain(|_, tenant| {
            let Tenant { credentials, entities, patterns } = tenant;
            for uses in [&mut *credentials, &mut *entities, &mut *patterns] {
                uses.forget_idle(now);
            }
            !credentials.0.is_empty()
        });
        self.targets = self.tenants.values().map(|tenant| tenant.entities.0.len() + tenant.patterns.0.len()).sum();
        true
    }
}

impl Tenant {
    fn targets(&mut self, is_pattern: bool) -> &mut Uses {
        if is_pattern { &mut self.patterns } else { &mut self.entities }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{Entity, Listing, Matching, NamePattern, Operation};
    use crate::keyed_hash::KeyedHash;

    const LIMITS: Limits =
        Limits { credentials_per_namespace: 2, entities_per_namespace: 3, patterns_per_namespace: 1, entities: 5 };

    struct Bench {
        tenants: Tenants,
        keys: KeyedHash,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self { tenants: Tenants::default(), keys: KeyedHash::random(), now: Instant::now() }
        }

        fn ask(&self, namespace: &str, credential: &str, target: &Target) -> Result<(), LimitReached> {
            let access = self.keys.of([credential.as_bytes()]);
            self.tenants.admit(self.now, &LIMITS, namespace, access, target)
        }

        fn refused(&self, namespace: &str, credential: &str, target: &Target) -> String {
            self.ask(namespace, credential, target).expect_err("beyond a limit").to_string()
        }
    }

    fn queue(name: &str) -> Target {
        Target::Entity(Entity::Queue(name.to_owned()))
    }

    fn pattern(text: &str) -> Target {
        let pattern = NamePattern::new(text).expect("a pattern");
        Target::Matching(Matching { listing: Listing::Queues, pattern, operation: Operation::Sum })
    }

    #[test]
    fn a_namespace_at_its_limit_keeps_what_it_has_and_disturbs_nobody() {
        let bench = Bench::new();
        assert_eq!(bench.ask("shop", "a", &queue("1")), Ok(()));
        assert_eq!(bench.ask("shop", "b", &queue("1")), Ok(()));
        let refused = bench.refused("shop", "c", &queue("1"));
        for word in ["\"shop\"", "2 distinct credentials", "limits.credentialsPerNamespace", "30 minutes"] {
            assert!(refused.contains(word), "{word:?} is missing in {refused:?}");
        }
        assert_eq!(bench.ask("shop", "a", &queue("2")), Ok(()));
        assert!(bench.refused("shop", "a", &queue("3")).contains("3 entities"));
        assert_eq!(bench.ask("shop", "b", &queue("1")), Ok(()), "what it has stays");
        assert_eq!(bench.ask("shop", "a", &pattern("x")), Ok(()), "patterns have a limit of their own");
        assert!(bench.refused("shop", "a", &pattern("y")).contains("1 patterns in use, all that limits.patterns"));
        assert_eq!(bench.ask("billing", "c", &queue("1")), Ok(()), "others have their own");
    }

    #[test]
    fn all_together_have_a_limit_and_newcomers_push_nobody_out() {
        let bench = Bench::new();
        for name in ["1", "2", "3"] {
            assert_eq!(bench.ask("shop", "a", &queue(name)), Ok(()));
        }
        assert_eq!(bench.ask("billing", "a", &queue("1")), Ok(()));
        assert_eq!(bench.ask("billing", "a", &queue("2")), Ok(()));
        for namespace in ["billing", "another"] {
            assert!(
                bench
                    .refused(namespace, "a", &queue("3"))
                    .contains("5 entities and patterns in use, all that limits.entities ")
            );
        }
        assert_eq!(bench.ask("shop", "a", &queue("3")), Ok(()));
    }

    #[test]
    fn what_is_not_asked_for_is_forgotten() {
        let mut bench = Bench::new();
        assert_eq!(bench.ask("shop", "a", &queue("1")), Ok(()));
        bench.now += FORGET_AFTER / 2;
        assert_eq!(bench.ask("shop", "b", &queue("2")), Ok(()));
        assert!(bench.refused("shop", "c", &queue("2")).contains("credentials"));
        bench.now += FORGET_AFTER / 2;
        assert_eq!(bench.ask("shop", "c", &queue("2")), Ok(()), "a is forgotten");
        bench.now += FORGET_AFTER;
        assert_eq!(bench.ask("billing", "a", &queue("1")), Ok(()));
        let table = bench.tenants.table.lock().expect("no panic before");
        assert_eq!((table.tenants.len(), table.targets), (1, 1), "nothing of shop is left");
    }

    #[test]
    fn names_that_callers_make_up_have_an_end() {
        let bench = Bench::new();
        let limits = Limits { entities: usize::MAX, ..LIMITS };
        let access = bench.keys.of([b"a".as_slice()]);
        let ask = |namespace: &str| bench.tenants.admit(bench.now, &limits, namespace, access, &queue("1"));
        for number in 0..MAX_NAMESPACES {
            assert_eq!(ask(&number.to_string()), Ok(()));
        }
        assert!(ask("one-more").expect_err("too many").to_string().contains("10000 Kubernetes namespaces"));
        assert_eq!(ask("17"), Ok(()), "known ones are served");
    }
}
