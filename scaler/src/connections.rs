//! From what a trigger says about its connection to an [`Access`]: the one place where a credential is chosen and its
//! destination checked.

use std::sync::Arc;

use crate::access::Access;
use crate::endpoints::{AllowedEndpoints, Destination, EndpointRefused};
use crate::keyed_hash::KeyedHash;
use crate::trigger::{ConnectionProblem, Trigger};

/// Why a trigger gets no access.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessRefused {
    /// There is no connection string.
    #[error(transparent)]
    Connection(#[from] ConnectionProblem),
    /// The credential may not be sent there.
    #[error(transparent)]
    Endpoint(#[from] EndpointRefused),
}

/// Chooses and checks. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Connections {
    allowed: Arc<AllowedEndpoints>,
    keys: KeyedHash,
}

impl Connections {
    /// Lets credentials go to these endpoints.
    pub fn new(allowed: AllowedEndpoints) -> Self {
        Self { allowed: Arc::new(allowed), keys: KeyedHash::random() }
    }

    /// The access of a trigger in a `ScaledObject` of this Kubernetes namespace (which is the caller's claim).
    pub fn resolve(&self, _kubernetes_namespace: &str, trigger: &Trigger) -> Result<Access, AccessRefused> {
        let connection = trigger.connection()?;
        self.allowed.check(Destination {
            host: connection.host(),
            port: connection.administration_port(),
            plain: connection.is_development_emulator(),
        })?;
        let digest = self.keys.of_connection(connection, "");
        Ok(Access::checked(connection.namespace(), connection.into(), digest))
    }
}
