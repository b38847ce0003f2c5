//! A namespace with the credential for it, after every check: whoever holds one may read there.
//!
//! Made by [`crate::connections`] alone, so that no credential can reach a host that nobody allowed.

use std::fmt;

use servicebus::ConnectionString;

use crate::keyed_hash::Digest;

/// A namespace and the credential for it. Cheap enough to clone for every refresh.
#[derive(Clone)]
pub struct Access {
    connection: ConnectionString,
    digest: Digest,
}

impl Access {
    /// Of a connection string whose endpoint is allowed. `digest` tells it from every other.
    pub(crate) fn checked(connection: ConnectionString, digest: Digest) -> Self {
        Self { connection, digest }
    }

    /// Where and as whom.
    pub fn connection(&self) -> &ConnectionString {
        &self.connection
    }

    /// The namespace's host.
    pub fn host(&self) -> &str {
        self.connection.host()
    }

    /// Equal for the same namespace with the same credential, and only then. Says nothing about either.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Access").field("host", &self.host()).finish_non_exhaustive()
    }
}
