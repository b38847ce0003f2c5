//! Which client is behind the port, and the one door through which callers get it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::{BadEntityName, ConnectionString, EntityName, ExtraRoots, QueueClient};

/// An implementation of [`QueueClient`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Adapter {
    /// Ours, on the workspace's own AMQP engine.
    #[default]
    Ours,
    /// The crate `azservicebus`; there only when built with the cargo feature of that name.
    Azservicebus,
}

impl Adapter {
    /// Every adapter there is a name for, built or not.
    pub const ALL: [Self; 2] = [Self::Ours, Self::Azservicebus];

    /// Its name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Azservicebus => "azservicebus",
        }
    }

    /// Whether this build has it.
    pub fn is_built(self) -> bool {
        match self {
            Self::Ours => true,
            Self::Azservicebus => cfg!(feature = "azservicebus"),
        }
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No adapter has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no client; allowed: ours, azservicebus")]
pub struct UnknownAdapter {
    /// The name asked for.
    pub name: String,
}

impl FromStr for Adapter {
    type Err = UnknownAdapter;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|adapter| adapter.name() == name)
            .ok_or_else(|| UnknownAdapter { name: name.to_owned() })
    }
}

/// No client can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The adapter is not part of this build.
    #[error("this build has no client {0}; build with `--features {0}`")]
    NotBuilt(Adapter),
    /// The connection string is for one entity, and the queue is another.
    #[error("the connection string is limited to EntityPath={entity_path}, which does not reach {entity}")]
    OtherEntity {
        /// The entity in the string.
        entity_path: String,
        /// The entity asked for.
        entity: EntityName,
    },
    /// No entity can have this name.
    #[error(transparent)]
    InvalidName(#[from] BadEntityName),
    /// The adapter cannot use this connection string.
    #[error("client {adapter} cannot use this connection string: {why}")]
    Unsupported {
        /// The adapter.
        adapter: Adapter,
        /// What it cannot do.
        why: String,
    },
}

/// How our adapter behaves. The other one has deadlines of its own, and trusts the authorities that are
/// compiled into it, neither the system's nor others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// How long a call may take. Receiving has the caller's own wait; this bounds the time until the wait can begin.
    pub call_timeout: Duration,
    /// How long connecting may take, from dialling until the credential is accepted.
    pub connect_timeout: Duration,
    /// Certificate authorities trusted beside the system's.
    pub extra_roots: ExtraRoots,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            call_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(10),
            extra_roots: ExtraRoots::default(),
        }
    }
}

/// Makes the client of one entity: a queue (or `QUEUE/$DeadLetterQueue`), a subscription, or a topic, which is for sending
/// alone. Nothing is dialled yet: the first call connects, so whether the entity exists and the credential is good shows
/// there.
pub fn connect(
    connection: &ConnectionString,
    entity: impl Into<EntityName>,
    adapter: Adapter,
) -> Result<Arc<dyn QueueClient>, ConnectError> {
    connect_with(connection, entity, adapter, &ClientOptions::default())
}

/// As [`connect`], with deadlines of the caller's choice.
pub fn connect_with(
    connection: &ConnectionString,
    entity: impl Into<EntityName>,
    adapter: Adapter,
    options: &ClientOptions,
) -> Result<Arc<dyn QueueClient>, ConnectError> {
    let entity = entity.into();
    entity.check_address()?;
    if let Some(entity_path) = connection.entity_path()
        && !reaches(entity_path, &entity.path())
    {
        return Err(ConnectError::OtherEntity { entity_path: entity_path.to_owned(), entity });
    }
    match adapter {
        Adapter::Ours => Ok(crate::ours::connect(connection, entity, options)),
        #[cfg(feature = "azservicebus")]
        Adapter::Azservicebus if !options.extra_roots.is_empty() => Err(ConnectError::Unsupported {
            adapter,
            why: "it trusts the certificate authorities compiled into it alone; use client ours".to_owned(),
        }),
        #[cfg(feature = "azservicebus")]
        Adapter::Azservicebus => crate::azservicebus::connect(connection, &entity.path()),
        #[cfg(not(feature = "azservicebus"))]
        Adapter::Azservicebus => Err(ConnectError::NotBuilt(adapter)),
    }
}

/// Whether a path is the entity of the string or below it (its dead-letter sub-queue, a subscription).
fn reaches(entity_path: &str, path: &str) -> bool {
    let (entity_path, path) = (entity_path.to_lowercase(), path.to_lowercase());
    path.strip_prefix(&entity_path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(more: &str) -> ConnectionString {
        ConnectionString::parse(&format!("Endpoint=sb://h;SharedAccessKeyName=n;SharedAccessKey=k;{more}"))
            .expect("well formed")
    }

    #[test]
    fn adapters_have_names_for_command_lines() {
        for adapter in Adapter::ALL {
            assert_eq!(adapter.to_string().parse(), Ok(adapter));
        }
        let error = "Ours".parse::<Adapter>().expect_err("names are exact");
        assert_eq!(error.to_string(), "\"Ours\" is no client; allowed: ours, azservicebus");
    }

    #[test]
    fn an_entity_path_limits_the_queue() {
        for queue in ["orders", "Orders", "orders/$DeadLetterQueue", "orders/Subscriptions/audit"] {
            assert!(connect(&string("EntityPath=orders"), queue, Adapter::Ours).is_ok(), "{queue}");
        }
        for queue in ["orders2", "other"] {
            let error = connect(&string("EntityPath=orders"), queue, Adapter::Ours).err().expect("another entity");
            assert!(matches!(error, ConnectError::OtherEntity { .. }), "{error}");
        }
    }

    #[test]
    fn names_are_checked() {
        let long = "q".repeat(261);
        for name in ["", "/q", "q/", "q\n", &long] {
            for entity in [EntityName::queue(name), EntityName::topic(name), EntityName::subscription("t", name)] {
                let error = connect(&string(""), entity, Adapter::Ours).err().expect("no name");
                assert!(matches!(error, ConnectError::InvalidName(_)), "{error}");
            }
        }
        let error = connect(&string(""), EntityName::topic("/t"), Adapter::Ours).err().expect("no name");
        assert_eq!(
            error.to_string(),
            "topic name \"/t\" is not allowed: 1 to 260 characters, no control characters, no `/` at its ends"
        );
    }

    #[cfg(not(feature = "azservicebus"))]
    #[test]
    fn an_adapter_that_is_not_built_says_how_to_build_it() {
        let error = connect(&string(""), "q", Adapter::Azservicebus).err().expect("not built");
        assert_eq!(error.to_string(), "this build has no client azservicebus; build with `--features azservicebus`");
    }
}
