//! Who asks: what the administration client may be given to be let in.
//!
//! A secret is wrapped from where it is read until it is sent, overwritten when dropped, and in no `Debug`. Which host it may
//! be sent to is its owner's business; the client sends it to the one [`Namespace`](crate::Namespace) that it was made for.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

use crate::{ConnectionString, Entra};

/// A way to be let in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Credential {
    /// A key or a token of the namespace's own.
    SharedAccess(SharedAccess),
    /// An identity in Entra ID.
    Entra(Entra),
}

/// A key or a token of the namespace's own ("Shared Access Signatures").
#[derive(Clone)]
pub enum SharedAccess {
    /// A named key, from which tokens are signed.
    #[non_exhaustive]
    Key {
        /// `SharedAccessKeyName`.
        name: String,
        /// `SharedAccessKey`: its text is the HMAC key, not base64 of it.
        key: SecretString,
    },
    /// A token signed by somebody else, used as it is.
    #[non_exhaustive]
    Signature {
        /// `SharedAccessSignature sr=…`, whole.
        token: SecretString,
    },
}

/// A part of a [`SharedAccess`] has a form that is not allowed. The value is not shown: with a separator lost, a secret may
/// stand in any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part} must be {allowed}")]
pub struct SharedAccessError {
    /// Which part, as connection strings call it.
    pub part: &'static str,
    /// What is allowed.
    pub allowed: &'static str,
}

impl SharedAccess {
    /// A named key.
    pub fn key(name: &str, key: SecretString) -> Result<Self, SharedAccessError> {
        // An `=` in a name means a lost separator, and then the name is shown with a secret in it.
        if name.is_empty() || name.contains('=') || name.chars().any(char::is_control) {
            let allowed = "the name of an access policy, without `=`";
            return Err(SharedAccessError { part: "SharedAccessKeyName", allowed });
        }
        if key.expose_secret().is_empty() {
            return Err(SharedAccessError { part: "SharedAccessKey", allowed: "the key of an access policy" });
        }
        Ok(Self::Key { name: name.to_owned(), key })
    }

    /// A ready token.
    pub fn signature(token: SecretString) -> Result<Self, SharedAccessError> {
        const START: &str = "SharedAccessSignature ";
        let text = token.expose_secret();
        let starts = text.get(..START.len()).is_some_and(|start| start.eq_ignore_ascii_case(START));
        if !starts || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            let allowed = "a whole token: `SharedAccessSignature sr=…&sig=…&se=…&skn=…`, printable ASCII";
            return Err(SharedAccessError { part: "SharedAccessSignature", allowed });
        }
        Ok(Self::Signature { token })
    }
}

impl fmt::Debug for SharedAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { name, .. } => write!(f, "Key({name:?}, [redacted])"),
            Self::Signature { .. } => f.write_str("Signature([redacted])"),
        }
    }
}

impl From<SharedAccess> for Credential {
    fn from(access: SharedAccess) -> Self {
        Self::SharedAccess(access)
    }
}

impl From<Entra> for Credential {
    fn from(identity: Entra) -> Self {
        Self::Entra(identity)
    }
}

impl From<&ConnectionString> for Credential {
    fn from(connection: &ConnectionString) -> Self {
        Self::SharedAccess(connection.credential().clone())
    }
}
