//! From what a trigger says about its connection to an [`Access`]: the one place where a credential is chosen, its use by
//! this Kubernetes namespace allowed, and its destination checked. Default deny.
//!
//! A connection string in the metadata is the trigger's own and needs no permission. A name stands for a credential of the
//! operator's, and so does every identity that this process has: it works only for the Kubernetes namespaces, and towards
//! the Service Bus namespaces, that the config file names. Who may not use a name hears the same as if there were none.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use servicebus::{Cloud, ConnectionString, Credential, Namespace};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::config::connections::{Reach, RegisteredConnection, is_kubernetes_name};
use crate::config::{Config, ConfigHandle};
use crate::credentials::{Credentials, Loaded};
use crate::endpoints::{AllowedEndpoints, Destination, EndpointRefused};
use crate::keyed_hash::{Digest, KeyedHash};
use crate::tenants::{LimitReached, Tenants};
use crate::trigger::{Connection, ConnectionProblem, Trigger, shown};

/// Why a trigger gets no access.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AccessRefused {
    /// There is no connection string.
    #[error(transparent)]
    Connection(#[from] ConnectionProblem),
    /// The credential may not be sent there.
    #[error(transparent)]
    Endpoint(#[from] EndpointRefused),
    /// The `ScaledObject`'s namespace is none that Kubernetes could have.
    #[error(
        "namespace: {0:?} is not the name of a Kubernetes namespace: 1 to 63 lower-case letters, digits and hyphens"
    )]
    KubernetesNamespace(String),
    /// There is no connection of this name for this Kubernetes namespace: not at all, or not for it.
    #[error(
        "metadata connectionRef: {connection:?} is not a connection that Kubernetes namespace {kubernetes_namespace:?} may \
         use; the scaler's config file lists them under connections, each with allowedNamespaces"
    )]
    NotAllowed {
        /// The name asked for.
        connection: String,
        /// Who asked.
        kubernetes_namespace: String,
    },
    /// The connection's secret could never be read, or its identity not be set up.
    #[error(
        "metadata connectionRef: the credential of connection {connection:?} is not usable now; the scaler's log says why"
    )]
    NoCredential {
        /// The connection.
        connection: String,
    },
    /// An identity without a destination.
    #[error(
        "metadata namespace is missing: connection {connection:?} is an identity for more than one Service Bus namespace; \
         say which, without suffix"
    )]
    NamespaceMissing {
        /// The connection.
        connection: String,
    },
    /// The connection is for other Service Bus namespaces.
    #[error(
        "metadata namespace, cloud: connection {connection:?} may not be used for {host}; the scaler's config file says for what"
    )]
    OtherNamespace {
        /// The connection.
        connection: String,
        /// Where its credential would have gone.
        host: String,
    },
    /// The Kubernetes namespace, or all together, use as much as they may.
    #[error(transparent)]
    Limit(#[from] LimitReached),
}

/// Chooses and checks. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Connections(Arc<Inner>);

struct Inner {
    allowed: AllowedEndpoints,
    config: ConfigHandle,
    credentials: Credentials,
    tenants: Tenants,
    keys: KeyedHash,
}

impl Connections {
    /// Lets credentials go to these endpoints, and knows this configuration's connections once they are [loaded](Self::load).
    pub(crate) fn new(allowed: AllowedEndpoints, config: ConfigHandle) -> Self {
        let keys = KeyedHash::random();
        let credentials = Credentials::new(keys.clone());
        Self(Arc::new(Inner { allowed, config, credentials, tenants: Tenants::default(), keys }))
    }

    /// Reads the secret files that the configuration names, once.
    pub(crate) async fn load(&self) {
        self.0.credentials.look(&self.0.config.snapshot(), Duration::ZERO).await;
    }

    /// Keeps credentials in step with their files and the configuration until `shutdown`, looking every `interval`.
    pub(crate) async fn follow(self, interval: Duration, shutdown: CancellationToken) {
        let (credentials, config) = (self.0.credentials.clone(), self.0.config.clone());
        credentials.follow(config, interval, shutdown).await;
    }

    /// Rings when what [`Self::resolve`] says may have changed: a secret, a rule, a connection that came or went. Who holds
    /// an access for longer than a call resolves it again then.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.credentials.changes()
    }

    /// The access of a trigger in a `ScaledObject` of this Kubernetes namespace (which is the caller's claim).
    pub(crate) fn resolve(&self, kubernetes_namespace: &str, trigger: &Trigger) -> Result<Access, AccessRefused> {
        self.resolve_again(kubernetes_namespace, trigger, &OnceLock::new())
    }

    /// As [`Self::resolve`], for a trigger that is asked about often. `own` is that trigger's and this scaler's: a connection
    /// string of its own leads to the same access each time, since where credentials may go is fixed at the start.
    pub(crate) fn resolve_again(
        &self,
        kubernetes_namespace: &str,
        trigger: &Trigger,
        own: &OnceLock<Access>,
    ) -> Result<Access, AccessRefused> {
        // Called by hand, there may be none.
        if !kubernetes_namespace.is_empty() && !is_kubernetes_name(kubernetes_namespace) {
            return Err(AccessRefused::KubernetesNamespace(shown(kubernetes_namespace)));
        }
        let access = match &trigger.connection {
            Connection::FromEnvironment(connection) => {
                if let Some(access) = own.get() {
                    access.clone()
                } else {
                    let access = self.of_connection_string(connection.as_ref().map_err(Clone::clone)?)?;
                    own.get_or_init(|| access).clone()
                }
            }
            Connection::Reference { name, namespace, endpoint_suffix } => {
                self.of_reference(kubernetes_namespace, name, namespace.as_deref(), endpoint_suffix.as_deref())?
            }
        };
        let limits = self.0.config.snapshot().limits;
        self.0.tenants.admit(Instant::now(), &limits, kubernetes_namespace, access.digest(), &trigger.target)?;
        Ok(access)
    }

    fn of_connection_string(&self, connection: &ConnectionString) -> Result<Access, AccessRefused> {
        let digest = self.0.keys.of_connection(connection);
        self.checked(connection.namespace(), connection.into(), digest)
    }

    /// The access of a connection in the config file. `namespace` and `endpoint_suffix` are the trigger's, where it says
    /// them.
    fn of_reference(
        &self,
        kubernetes_namespace: &str,
        name: &str,
        namespace: Option<&str>,
        endpoint_suffix: Option<&str>,
    ) -> Result<Access, AccessRefused> {
        let (config, looked) = (self.0.config.snapshot(), self.0.credentials.looked());
        let connection = || shown(name);
        // What a new configuration takes away counts at once. A source that it brings counts when its file was looked at, and
        // what the connection was before works until then.
        let in_force = allowed(&config, name, kubernetes_namespace).and_then(|registered| {
            let is_looked_at = looked.knows(&registered.source);
            if is_looked_at { Some(registered) } else { allowed(looked.config(), name, kubernetes_namespace) }
        });
        let Some(registered) = in_force else {
            let is_known = config.connections.contains_key(name);
            tracing::debug!(connection = connection(), kubernetes_namespace, is_known, "a connection was refused");
            return Err(AccessRefused::NotAllowed {
                connection: connection(),
                kubernetes_namespace: kubernetes_namespace.to_owned(),
            });
        };
        let no_credential = || AccessRefused::NoCredential { connection: connection() };
        let loaded = looked.credential(&registered.source).ok_or_else(no_credential)?;
        match (loaded, &registered.reach) {
            (Loaded::ConnectionString(own), _) => {
                if let Some(namespace) = namespace {
                    let suffix = endpoint_suffix.unwrap_or(Cloud::default().endpoint_suffix());
                    let host = format!("{namespace}.{suffix}").to_ascii_lowercase();
                    if host != own.host() {
                        return Err(AccessRefused::OtherNamespace { connection: connection(), host });
                    }
                }
                self.of_connection_string(&own)
            }
            (Loaded::Identity { credential, digest }, Some(reach)) => {
                let namespace =
                    namespace.map(str::to_ascii_lowercase).or_else(|| reach.namespaces.only().map(str::to_owned));
                let missing = || AccessRefused::NamespaceMissing { connection: connection() };
                let host = within(reach, &namespace.ok_or_else(missing)?, endpoint_suffix)
                    .map_err(|host| AccessRefused::OtherNamespace { connection: connection(), host })?;
                let namespace = Namespace::parse(&host).map_err(|_| EndpointRefused { endpoint: shown(&host) })?;
                let url = namespace.administration_url();
                let digest = self.0.keys.of([digest.as_bytes(), url.as_bytes()]);
                self.checked(namespace, credential, digest)
            }
            // An identity has a reach as soon as it is parsed.
            (Loaded::Identity { .. }, None) => Err(no_credential()),
        }
    }

    fn checked(&self, namespace: Namespace, credential: Credential, digest: Digest) -> Result<Access, AccessRefused> {
        self.0.allowed.check(Destination {
            host: namespace.host(),
            port: namespace.administration_port(),
            plain: namespace.is_plain(),
        })?;
        Ok(Access::checked(namespace, credential, digest))
    }
}

/// A connection of this configuration, if this Kubernetes namespace may use it.
fn allowed<'a>(config: &'a Config, name: &str, kubernetes_namespace: &str) -> Option<&'a RegisteredConnection> {
    let registered = config.connections.get(name)?;
    registered.allowed_namespaces.contains(kubernetes_namespace).then_some(registered)
}

/// The host, if a token may go there; else the host that was asked for.
fn within(reach: &Reach, namespace: &str, endpoint_suffix: Option<&str>) -> Result<String, String> {
    let suffix = endpoint_suffix.unwrap_or(&reach.endpoint_suffix);
    let host = format!("{}.{}", shown(namespace), suffix.to_ascii_lowercase());
    let is_within = reach.namespaces.contains(namespace) && suffix.eq_ignore_ascii_case(&reach.endpoint_suffix);
    if is_within { Ok(host) } else { Err(host) }
}

#[cfg(test)]
mod tests;
