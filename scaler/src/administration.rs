//! Readings from the administration API: one GET of a description yields all five counts, the status and the settings;
//! one page of a listing yields them for up to 100 entities.
//!
//! Owns the administration clients, one for each namespace and credential; all share their connections and the TLS set-up.
//! Whether a credential may be sent to a host was checked before an access comes here.

use std::error::Error;
use std::time::Duration;

use futures_util::FutureExt as _;
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use scaling::{Counts, EntityStatus};
use servicebus::{
    AdministrationClient, AdministrationClients, AdministrationError, AdministrationOptions, EntityDescription,
};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::access::Access;
use crate::entity::{Entity, Listing};
use crate::keyed_hash::Digest;
use crate::source::{LockSettings, Observed, Page, Read, ReadFailure, Source};

/// Most clients kept at a time, and for how long without use. Losing one costs nothing but making it again.
const MAX_CLIENTS: u64 = 1_000;
const FORGET_AFTER: Duration = Duration::from_mins(10);
/// A little less than what `readings` waits for, so that who did not answer is known: the namespace, or the giver of tokens.
const TIMEOUT: Duration = Duration::from_millis(2_400);

/// Most reads under way at a time, whatever the namespaces: each has a connection of its own, and a process has a thousand
/// files.
const MAX_READS: usize = 256;

/// Reads through the administration API.
pub struct AdministrationSource {
    clients: Cache<Digest, AdministrationClient>,
    shared: AdministrationClients,
    reads: Semaphore,
}

impl AdministrationSource {
    /// Without any client yet.
    pub fn new() -> Self {
        Self::with(AdministrationOptions { timeout: TIMEOUT, ..AdministrationOptions::default() })
    }

    /// With deadlines and limits of the caller's choice.
    pub fn with(options: AdministrationOptions) -> Self {
        let clients = Cache::builder()
            .max_capacity(MAX_CLIENTS)
            .time_to_idle(FORGET_AFTER)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { clients, shared: AdministrationClients::new(options), reads: Semaphore::new(MAX_READS) }
    }

    /// Waits for its turn to read; the reader has a deadline.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.reads.acquire().await.ok()
    }

    async fn client(&self, access: &Access) -> Result<AdministrationClient, ReadFailure> {
        let connect = async { self.shared.connect(access.namespace().clone(), access.credential().clone()) };
        self.clients.try_get_with(access.digest(), connect).await.map_err(|error| failure(&error))
    }

    async fn observe(&self, access: &Access, entity: &Entity) -> Result<Observed, ReadFailure> {
        let _turn = self.turn().await;
        let client = self.client(access).await?;
        let description = match entity {
            Entity::Queue(name) => client.queue(name).await,
            Entity::Subscription { topic, subscription } => client.subscription(topic, subscription).await,
        };
        description.map(|description| observed(&description)).map_err(|error| failure(&error))
    }

    async fn list(&self, access: &Access, listing: &Listing, skip: usize) -> Result<Page, ReadFailure> {
        let _turn = self.turn().await;
        let client = self.client(access).await?;
        let pages = match listing {
            Listing::Queues => client.queues(),
            Listing::Subscriptions { topic } => client.subscriptions(topic),
        };
        let mut pages = pages.skipping(skip);
        let entities = pages.next().await.map_err(|error| failure(&error))?.unwrap_or_default();
        let entities = entities.into_iter().map(|entity| {
            let observed = observed(&entity);
            (entity.name, observed)
        });
        Ok(Page { entities: entities.collect(), has_more: !pages.is_finished() })
    }
}

impl Default for AdministrationSource {
    fn default() -> Self {
        Self::new()
    }
}

impl Source for AdministrationSource {
    fn read<'a>(&'a self, access: &'a Access, entity: &'a Entity) -> Read<'a, Observed> {
        self.observe(access, entity).boxed()
    }

    fn page<'a>(&'a self, access: &'a Access, listing: &'a Listing, skip: usize) -> Read<'a, Page> {
        self.list(access, listing, skip).boxed()
    }
}

fn observed(entity: &EntityDescription) -> Observed {
    let servicebus::EntityCounts { active, dead_letter, scheduled, transfer, transfer_dead_letter } = entity.counts;
    let status = match &entity.status {
        servicebus::EntityStatus::Active => EntityStatus::Active,
        servicebus::EntityStatus::Disabled => EntityStatus::Disabled,
        servicebus::EntityStatus::SendDisabled => EntityStatus::SendDisabled,
        servicebus::EntityStatus::ReceiveDisabled => EntityStatus::ReceiveDisabled,
        _ => EntityStatus::Other,
    };
    Observed {
        counts: Counts { active, dead_letter, scheduled, transfer, transfer_dead_letter },
        status,
        requires_session: entity.requires_session,
        locks: Some(LockSettings { duration: entity.lock_duration, max_delivery_count: entity.max_delivery_count }),
    }
}

fn failure(error: &AdministrationError) -> ReadFailure {
    let what = whole_chain(error);
    match error {
        AdministrationError::NotFound { .. } => ReadFailure::NotFound(what),
        AdministrationError::NoToken { source, .. } if source.is_transient() => ReadFailure::NoToken(what),
        // Somebody must change something: a secret that ended, an identity that is not trusted.
        AdministrationError::Unauthorized { .. } | AdministrationError::NoToken { .. } => {
            ReadFailure::Unauthorized(what)
        }
        AdministrationError::Throttled { retry_after, .. } => {
            ReadFailure::Throttled { what, retry_after: *retry_after }
        }
        AdministrationError::Timeout { .. }
        | AdministrationError::Unavailable { .. }
        | AdministrationError::Untrusted { .. }
        | AdministrationError::Tls(_) => ReadFailure::Unreachable(what),
        AdministrationError::Refused { status, .. } if is_the_namespaces_own(*status) => ReadFailure::Unreachable(what),
        _ => ReadFailure::Unexpected(what),
    }
}

/// Whether a status tells of trouble in the namespace rather than with what was asked for.
fn is_the_namespaces_own(status: u16) -> bool {
    status == 408 || status >= 500
}

/// The error and all it came from, in one line: it goes to a caller who has nothing else.
fn whole_chain(error: &dyn Error) -> String {
    std::iter::successors(Some(error), |error| (*error).source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use servicebus::ConnectionString;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::watch;

    use super::*;
    use crate::keyed_hash::KeyedHash;

    /// How many reads a namespace that answers each with 404 has under way, and the most that it had. It waits with its first
    /// answers until there are `enough`.
    async fn namespace(enough: usize) -> (ConnectionString, watch::Receiver<(usize, usize)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (under_way, seen) = watch::channel((0, 0));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let under_way = under_way.clone();
                under_way.send_modify(|(now, most)| (*now, *most) = (*now + 1, (*now + 1).max(*most)));
                tokio::spawn(async move {
                    let mut request = vec![0; 16 << 10];
                    let _: std::io::Result<usize> = stream.read(&mut request).await;
                    let _: Result<_, _> = under_way.subscribe().wait_for(|(_, most)| *most >= enough).await;
                    under_way.send_modify(|(now, _)| *now -= 1);
                    let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                    let _: std::io::Result<()> = stream.write_all(answer).await;
                });
            }
        });
        let text =
            format!("Endpoint=sb://{address};SharedAccessKeyName=n;SharedAccessKey=k;UseDevelopmentEmulator=true");
        (ConnectionString::parse(&text).expect("a connection string"), seen)
    }

    #[tokio::test]
    async fn reads_under_way_have_a_limit_whatever_their_credentials() {
        const LIMIT: usize = 3;
        let patient = AdministrationOptions { timeout: Duration::from_mins(1), ..AdministrationOptions::default() };
        let source = AdministrationSource { reads: Semaphore::new(LIMIT), ..AdministrationSource::with(patient) };
        let (source, keys) = (Arc::new(source), KeyedHash::random());
        let (connection, seen) = namespace(LIMIT).await;
        let reads: Vec<_> = (0_u8..20)
            .map(|number| {
                let digest = keys.of([[number].as_slice()]);
                let access = Access::checked(connection.namespace(), (&connection).into(), digest);
                let source = Arc::clone(&source);
                tokio::spawn(async move { source.read(&access, &Entity::Queue("orders".to_owned())).await.map(drop) })
            })
            .collect();
        for read in reads {
            let answer = read.await.expect("no panic");
            assert!(matches!(answer, Err(ReadFailure::NotFound(_))), "{answer:?}");
        }
        assert_eq!(*seen.borrow(), (0, LIMIT));
    }
}
