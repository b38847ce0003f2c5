//! A namespace with the credential for it, after every check: whoever holds one may read there.
//!
//! Made by `connections` alone, so that no credential can reach a host that nobody allowed.

use std::fmt;
use std::sync::Arc;

use servicebus::{Credential, Namespace};

use crate::keyed_hash::Digest;

/// A namespace and the credential for it. Cheap to clone.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    namespace: Namespace,
    credential: Credential,
    digest: Digest,
}

impl Access {
    /// Of a namespace that the credential may be sent to. `digest` tells the two from every other two.
    pub(crate) fn checked(namespace: Namespace, credential: Credential, digest: Digest) -> Self {
        Self(Arc::new(Inner { namespace, credential, digest }))
    }

    /// Where.
    pub fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    /// As whom.
    pub fn credential(&self) -> &Credential {
        &self.0.credential
    }

    /// The namespace's host.
    pub fn host(&self) -> &str {
        self.0.namespace.host()
    }

    /// Equal for the same namespace with the same credential, and only then: when a secret changes, so does this. Says
    /// nothing about either.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Access").field("host", &self.host()).finish_non_exhaustive()
    }
}
