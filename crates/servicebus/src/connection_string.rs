//! Connection strings: from `Endpoint=sb://…;SharedAccessKeyName=…` to a typed, checked value.
//!
//! Keys are matched without regard to case and each part is split at its first `=`, as the official SDKs do. Values never
//! appear in an error or in `Debug`: with a wrong separator a secret may stand inside any of them. Nothing is resolved or
//! connected here, and a credential is only kept, not checked against the service.

use std::fmt;
use std::str::FromStr;

use secrecy::SecretString;

use crate::credential::{SharedAccess, SharedAccessError};
use crate::endpoint::{self, EndpointError, Host};
use crate::namespace::Namespace;

/// AMQP port with `UseDevelopmentEmulator=true` when the endpoint names none.
const EMULATOR_AMQP_PORT: u16 = 5672;
/// Administration port with `UseDevelopmentEmulator=true` when the endpoint names none.
const EMULATOR_HTTP_PORT: u16 = 5300;
/// AMQP over TLS, when the endpoint names no port.
const AMQPS_PORT: u16 = 5671;

const ENDPOINT: &str = "Endpoint";
const KEY_NAME: &str = "SharedAccessKeyName";
const KEY: &str = "SharedAccessKey";
const SIGNATURE: &str = "SharedAccessSignature";
const ENTITY_PATH: &str = "EntityPath";
const EMULATOR: &str = "UseDevelopmentEmulator";
const KEYS: [&str; 6] = [ENDPOINT, KEY_NAME, KEY, SIGNATURE, ENTITY_PATH, EMULATOR];

/// Where a namespace is and how to be let in. `Debug` shows no secret; there is no `Display`, so that none is printed.
#[derive(Clone)]
pub struct ConnectionString {
    host: Host,
    port: Option<u16>,
    credential: SharedAccess,
    entity_path: Option<String>,
    development_emulator: bool,
}

/// A connection string that cannot be used. Names the key and what is allowed, never a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionStringError {
    /// Nothing in it.
    #[error(
        "the connection string is empty; expected Endpoint=sb://HOST[:PORT];SharedAccessKeyName=…;SharedAccessKey=…"
    )]
    Empty,
    /// A part without `=`; counted from 1, its text is not shown.
    #[error("part {position} of the connection string has no `=`; expected KEY=VALUE parts joined by `;`")]
    NotAPair {
        /// Which part, from 1.
        position: usize,
    },
    /// The same key twice.
    #[error("{key} stands twice in the connection string; each key may stand once")]
    Repeated {
        /// The key.
        key: &'static str,
    },
    /// A key without a value.
    #[error("{key} has no value in the connection string")]
    NoValue {
        /// The key.
        key: &'static str,
    },
    /// A key that is needed is not there.
    #[error("{key} is missing in the connection string; {allowed}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What would do.
        allowed: &'static str,
    },
    /// Two ways of being let in at once.
    #[error(
        "SharedAccessSignature excludes SharedAccessKeyName and SharedAccessKey in a connection string; give one of the two"
    )]
    TwoCredentials,
    /// A value of a form that is not allowed.
    #[error("{key} in the connection string must be {allowed}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
    /// `Endpoint` is no address of a namespace.
    #[error("Endpoint in the connection string must be sb://HOST or sb://HOST:PORT, but {0}")]
    Endpoint(EndpointError),
}

impl ConnectionString {
    /// Parses a connection string. Unknown keys are ignored, as the official SDKs do.
    pub fn parse(text: &str) -> Result<Self, ConnectionStringError> {
        let values = split(text)?;
        let [endpoint, key_name, key, signature, entity_path, emulator] = values;
        let endpoint = endpoint.ok_or(ConnectionStringError::Missing {
            key: ENDPOINT,
            allowed: "add Endpoint=sb://HOST or Endpoint=sb://HOST:PORT",
        })?;
        let (host, port) = endpoint::parse(endpoint).map_err(ConnectionStringError::Endpoint)?;
        let credential = credential(key_name, key, signature)?;
        let entity_path = match entity_path {
            None => None,
            Some(path) => Some(checked_entity_path(path)?),
        };
        let development_emulator = match emulator {
            None => false,
            Some(value) if value.eq_ignore_ascii_case("true") => true,
            Some(value) if value.eq_ignore_ascii_case("false") => false,
            Some(_) => return Err(ConnectionStringError::Invalid { key: EMULATOR, allowed: "true or false" }),
        };
        Ok(Self { host, port, credential, entity_path, development_emulator })
    }

    /// The host alone, lower-case; an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        self.host.as_str()
    }

    /// The entity that the string is limited to, if it names one.
    pub fn entity_path(&self) -> Option<&str> {
        self.entity_path.as_deref()
    }

    /// Whether it asks for an emulator: plain AMQP and plain HTTP.
    pub fn is_development_emulator(&self) -> bool {
        self.development_emulator
    }

    /// The AMQP port: the one given, else 5672 for an emulator and 5671 (TLS) otherwise.
    pub fn amqp_port(&self) -> u16 {
        self.port.unwrap_or(if self.development_emulator { EMULATOR_AMQP_PORT } else { AMQPS_PORT })
    }

    /// The administration port: the one given, else 5300 for an emulator and 443 (HTTPS) otherwise.
    pub fn administration_port(&self) -> u16 {
        self.namespace().administration_port()
    }

    /// The address of the administration API without a path, such as `https://ns.servicebus.windows.net:443`.
    pub fn administration_url(&self) -> String {
        self.namespace().administration_url()
    }

    /// Where the administration API is.
    pub fn namespace(&self) -> Namespace {
        let port = self.port.or(self.development_emulator.then_some(EMULATOR_HTTP_PORT));
        Namespace::new(self.host.clone(), port, self.development_emulator)
    }

    /// `SharedAccessKeyName`, where tokens are signed from a key.
    pub fn key_name(&self) -> Option<&str> {
        match &self.credential {
            SharedAccess::Key { name, .. } => Some(name),
            SharedAccess::Signature { .. } => None,
        }
    }

    /// `SharedAccessKey`, for an adapter that signs by itself.
    pub fn key(&self) -> Option<&SecretString> {
        match &self.credential {
            SharedAccess::Key { key, .. } => Some(key),
            SharedAccess::Signature { .. } => None,
        }
    }

    /// `SharedAccessSignature`, where the string brings a ready token.
    pub fn signature(&self) -> Option<&SecretString> {
        match &self.credential {
            SharedAccess::Signature { token } => Some(token),
            SharedAccess::Key { .. } => None,
        }
    }

    /// The name of a resource below this namespace as claims use it: `sb://host/entity`.
    pub(crate) fn audience(&self, entity: &str) -> String {
        format!("sb://{}/{entity}", self.host.in_url())
    }

    /// What it says about being let in.
    pub fn credential(&self) -> &SharedAccess {
        &self.credential
    }
}

impl FromStr for ConnectionString {
    type Err = ConnectionStringError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionString")
            .field("host", &self.host.as_str())
            .field("port", &self.port)
            .field("credential", &self.credential)
            .field("entity_path", &self.entity_path)
            .field("development_emulator", &self.development_emulator)
            .finish()
    }
}

/// The values of the known keys, in the order of [`KEYS`].
fn split(text: &str) -> Result<[Option<&str>; KEYS.len()], ConnectionStringError> {
    if text.trim().is_empty() {
        return Err(ConnectionStringError::Empty);
    }
    let mut values = [None; KEYS.len()];
    for (index, part) in text.split(';').enumerate() {
        if part.trim().is_empty() {
            continue;
        }
        let (key, value) = part.split_once('=').ok_or(ConnectionStringError::NotAPair { position: index + 1 })?;
        let Some(known) = KEYS.iter().position(|known| known.eq_ignore_ascii_case(key.trim())) else { continue };
        if values[known].is_some() {
            return Err(ConnectionStringError::Repeated { key: KEYS[known] });
        }
        let value = value.trim();
        if value.is_empty() {
            return Err(ConnectionStringError::NoValue { key: KEYS[known] });
        }
        values[known] = Some(value);
    }
    Ok(values)
}

fn credential(
    name: Option<&str>,
    key: Option<&str>,
    signature: Option<&str>,
) -> Result<SharedAccess, ConnectionStringError> {
    const BOTH: &str = "add SharedAccessKeyName and SharedAccessKey, or SharedAccessSignature";
    let invalid = |SharedAccessError { part, allowed }| ConnectionStringError::Invalid { key: part, allowed };
    match (name, key, signature) {
        (None, None, Some(token)) => SharedAccess::signature(token.into()).map_err(invalid),
        (_, _, Some(_)) => Err(ConnectionStringError::TwoCredentials),
        (Some(name), Some(key), None) => SharedAccess::key(name, key.into()).map_err(invalid),
        (None, Some(_), None) => Err(ConnectionStringError::Missing { key: KEY_NAME, allowed: BOTH }),
        (Some(_) | None, None, None) => Err(ConnectionStringError::Missing { key: KEY, allowed: BOTH }),
    }
}

fn checked_entity_path(path: &str) -> Result<String, ConnectionStringError> {
    let path = path.trim_matches('/');
    let refused = |c: char| c.is_control() || c.is_whitespace() || c == '=';
    if path.is_empty() || path.len() > 260 || path.contains(refused) {
        return Err(ConnectionStringError::Invalid {
            key: ENTITY_PATH,
            allowed: "the path of an entity: 1 to 260 characters without spaces and `=`",
        });
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests;
