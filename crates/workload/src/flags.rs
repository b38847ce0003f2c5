//! The flags that name an entity and how to reach it, under the names of the article that the product follows.
//!
//! Receivers have a source, senders a destination; the way to the namespace is the same. An empty variable is one that is not
//! set, as manifests often have it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use servicebus::{
    Adapter, ClientError, ConnectError, ConnectionString, ConnectionStringError, EntityName, FailureKind, QueueClient,
};

/// Larger files are no connection strings, and are not read into memory.
const MAX_FILE_BYTES: u64 = 16 * 1024;

/// Which namespace, by which client.
#[derive(clap::Args, Clone, Debug)]
pub struct NamespaceFlags {
    /// Connection string of the namespace; visible to everybody who can list processes, so prefer the variable or a file
    #[arg(long, env = "SERVICEBUS_CONNECTION_STR", hide_env_values = true, value_name = "STRING")]
    pub connection_string: Option<SecretString>,
    /// File with the connection string, such as a mounted secret; goes before --connection-string
    #[arg(long, env = "SERVICEBUS_CONNECTION_STR_FILE", value_name = "FILE")]
    pub connection_string_file: Option<PathBuf>,
    /// Client to use: `ours`, or `azservicebus` where it is built in
    #[arg(long, value_name = "CLIENT", default_value_t)]
    pub client: Adapter,
}

/// What to receive from: a queue, or a subscription of a topic.
#[derive(clap::Args, Clone, Debug)]
pub struct SourceFlags {
    /// Which namespace.
    #[command(flatten)]
    pub namespace: NamespaceFlags,
    /// Name of the queue; may be left out where the connection string names one itself
    #[arg(long, env = "SERVICEBUS_QUEUE_NAME", value_name = "NAME")]
    pub queue: Option<String>,
    /// Name of the topic, to receive from a subscription instead of a queue; may be left out where the connection string
    /// names it
    #[arg(long, env = "SERVICEBUS_TOPIC_NAME", value_name = "NAME")]
    pub topic: Option<String>,
    /// Name of the topic's subscription
    #[arg(long, env = "SERVICEBUS_SUBSCRIPTION_NAME", value_name = "NAME")]
    pub subscription: Option<String>,
}

/// Where to send to: a queue or a topic.
#[derive(clap::Args, Clone, Debug)]
pub struct DestinationFlags {
    /// Which namespace.
    #[command(flatten)]
    pub namespace: NamespaceFlags,
    /// Name of the queue; may be left out where the connection string names one itself
    #[arg(long, env = "SERVICEBUS_QUEUE_NAME", value_name = "NAME")]
    pub queue: Option<String>,
    /// Name of the topic, to send to it instead of a queue
    #[arg(long, env = "SERVICEBUS_TOPIC_NAME", value_name = "NAME")]
    pub topic: Option<String>,
}

/// The flags do not lead to an entity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlagsError {
    /// No connection string at all.
    #[error(
        "no connection string: set SERVICEBUS_CONNECTION_STR, or give --connection-string-file FILE (or \
         SERVICEBUS_CONNECTION_STR_FILE)"
    )]
    NoConnectionString,
    /// The file cannot be read.
    #[error("failed to read --connection-string-file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The connection string is wrong.
    #[error("failed to use {origin}")]
    ConnectionString {
        /// Where it came from.
        origin: String,
        /// What is wrong with it.
        source: ConnectionStringError,
    },
    /// Nothing to receive from.
    #[error(
        "no queue: give --queue NAME or set SERVICEBUS_QUEUE_NAME; for a subscription --topic NAME and --subscription NAME \
         (SERVICEBUS_TOPIC_NAME, SERVICEBUS_SUBSCRIPTION_NAME)"
    )]
    NoSource,
    /// Nothing to send to.
    #[error(
        "no queue: give --queue NAME or set SERVICEBUS_QUEUE_NAME; for a topic --topic NAME (SERVICEBUS_TOPIC_NAME)"
    )]
    NoDestination,
    /// More than one entity.
    #[error(
        "both queue {queue:?} and {other} {name:?} are given (by flags or SERVICEBUS_… variables); give one of them"
    )]
    TwoEntities {
        /// The queue.
        queue: String,
        /// What else: a topic or a subscription.
        other: &'static str,
        /// Its name.
        name: String,
    },
    /// A topic alone gives no messages.
    #[error(
        "topic {topic:?} needs a subscription to receive from: give --subscription NAME or set \
         SERVICEBUS_SUBSCRIPTION_NAME"
    )]
    NoSubscription {
        /// The topic.
        topic: String,
    },
    /// A subscription alone is none.
    #[error("subscription {subscription:?} needs its topic: give --topic NAME or set SERVICEBUS_TOPIC_NAME")]
    NoTopic {
        /// The subscription.
        subscription: String,
    },
    /// No client for it.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// An entity that the flags lead to.
#[derive(Clone)]
pub struct Entity {
    /// Reaches it; nothing is dialled before the first call.
    pub client: Arc<dyn QueueClient>,
    /// Which one.
    pub name: EntityName,
    /// Host and AMQP port of its namespace.
    pub namespace: String,
}

impl Entity {
    /// Says what an error of this entity's client means for the one who set the flags.
    pub fn explain(&self, error: &ClientError) -> String {
        let Self { name, namespace, .. } = self;
        match error.kind {
            FailureKind::NotFound => {
                let flags = match name {
                    EntityName::Queue(_) => "--queue",
                    EntityName::Topic(_) => "--topic",
                    EntityName::Subscription { .. } => "--topic or --subscription",
                };
                format!("{name} does not exist at {namespace}; create it, or correct {flags}")
            }
            FailureKind::Unauthorized => {
                format!("{namespace} refuses the credential for {name}; check the key and its claims")
            }
            _ => format!("{name} at {namespace} cannot be used"),
        }
    }
}

impl SourceFlags {
    /// Checks the flags and makes the client. Reads the file, if one is named; dials nothing.
    pub fn open(&self) -> Result<Entity, FlagsError> {
        let Self { namespace, queue, topic, subscription } = self;
        let connection = namespace.connection()?;
        let entity = match (given(queue.as_ref()), given(topic.as_ref()), given(subscription.as_ref())) {
            (Some(queue), Some(topic), _) => return Err(two_entities(queue, "topic", topic)),
            (Some(queue), None, Some(subscription)) => return Err(two_entities(queue, "subscription", subscription)),
            (Some(queue), None, None) => queue.into(),
            (None, Some(topic), Some(subscription)) => EntityName::subscription(topic, subscription),
            (None, Some(topic), None) => return Err(FlagsError::NoSubscription { topic: topic.to_owned() }),
            (None, None, Some(subscription)) => {
                let no_topic = || FlagsError::NoTopic { subscription: subscription.to_owned() };
                EntityName::subscription(connection.entity_path().ok_or_else(no_topic)?, subscription)
            }
            (None, None, None) => connection.entity_path().ok_or(FlagsError::NoSource)?.into(),
        };
        namespace.open(&connection, entity)
    }
}

impl DestinationFlags {
    /// Checks the flags and makes the client. Reads the file, if one is named; dials nothing.
    pub fn open(&self) -> Result<Entity, FlagsError> {
        let Self { namespace, queue, topic } = self;
        let connection = namespace.connection()?;
        let entity = match (given(queue.as_ref()), given(topic.as_ref())) {
            (Some(queue), Some(topic)) => return Err(two_entities(queue, "topic", topic)),
            (Some(queue), None) => EntityName::queue(queue),
            (None, Some(topic)) => EntityName::topic(topic),
            (None, None) => EntityName::queue(connection.entity_path().ok_or(FlagsError::NoDestination)?),
        };
        namespace.open(&connection, entity)
    }
}

impl NamespaceFlags {
    fn connection(&self) -> Result<ConnectionString, FlagsError> {
        let Self { connection_string, connection_string_file, client: _ } = self;
        let (text, origin) = match (connection_string_file, connection_string) {
            (Some(path), _) => {
                let text =
                    read_connection_string(path).map_err(|source| FlagsError::File { path: path.clone(), source })?;
                (text, format!("the connection string in {}", path.display()))
            }
            (None, Some(text)) => (text.clone(), "the connection string".to_owned()),
            (None, None) => return Err(FlagsError::NoConnectionString),
        };
        ConnectionString::parse(text.expose_secret().trim())
            .map_err(|source| FlagsError::ConnectionString { origin, source })
    }

    fn open(&self, connection: &ConnectionString, name: EntityName) -> Result<Entity, FlagsError> {
        let client = servicebus::connect(connection, &name, self.client)?;
        Ok(Entity { client, name, namespace: format!("{}:{}", connection.host(), connection.amqp_port()) })
    }
}

fn given(flag: Option<&String>) -> Option<&str> {
    flag.map(|name| name.trim()).filter(|name| !name.is_empty())
}

fn two_entities(queue: &str, other: &'static str, name: &str) -> FlagsError {
    FlagsError::TwoEntities { queue: queue.to_owned(), other, name: name.to_owned() }
}

/// Reads a file that holds a connection string, such as a mounted secret: without the newline that it may end with.
pub fn read_connection_string(file: &Path) -> std::io::Result<SecretString> {
    use std::io::{Error, ErrorKind, Read as _};
    let mut text = String::new();
    let read = std::fs::File::open(file)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(Error::new(ErrorKind::FileTooLarge, "larger than 16 KiB, so no connection string"));
    }
    Ok(text.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRING: &str =
        "Endpoint=sb://127.0.0.1:4711;SharedAccessKeyName=n;SharedAccessKey=PLANTED;UseDevelopmentEmulator=true";

    fn flags(string: Option<&str>, file: Option<PathBuf>, queue: Option<&str>) -> SourceFlags {
        let namespace = NamespaceFlags {
            connection_string: string.map(Into::into),
            connection_string_file: file,
            client: Adapter::Ours,
        };
        SourceFlags { namespace, queue: queue.map(str::to_owned), topic: None, subscription: None }
    }

    fn source(string: &str, queue: &str, topic: &str, subscription: &str) -> Result<EntityName, String> {
        let mut flags = flags(Some(string), None, Some(queue));
        (flags.topic, flags.subscription) = (Some(topic.to_owned()), Some(subscription.to_owned()));
        flags.open().map(|entity| entity.name).map_err(|error| error.to_string())
    }

    fn destination(string: &str, queue: &str, topic: &str) -> Result<EntityName, String> {
        let SourceFlags { namespace, queue, .. } = flags(Some(string), None, Some(queue));
        let flags = DestinationFlags { namespace, queue, topic: Some(topic.to_owned()) };
        flags.open().map(|entity| entity.name).map_err(|error| error.to_string())
    }

    fn error(flags: &SourceFlags) -> String {
        use std::error::Error as _;
        let error = flags.open().err().expect("must be refused");
        match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }
    }

    #[test]
    fn a_string_and_a_name_make_a_queue() {
        let queue = flags(Some(STRING), None, Some(" orders ")).open().expect("good flags");
        assert_eq!((&queue.name, queue.namespace.as_str()), (&EntityName::queue("orders"), "127.0.0.1:4711"));
        let limited = format!("{STRING};EntityPath=orders");
        assert_eq!(flags(Some(&limited), None, None).open().expect("good flags").name, EntityName::queue("orders"));
    }

    #[test]
    fn a_file_goes_before_a_string_and_may_end_with_a_newline() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), format!("{STRING}\n")).expect("written");
        let queue = flags(Some("nonsense"), Some(file.path().to_owned()), Some("orders")).open().expect("good flags");
        assert_eq!(queue.namespace, "127.0.0.1:4711");
    }

    #[test]
    fn bad_flags_are_named_and_secrets_are_not() {
        assert_eq!(
            error(&flags(None, None, Some("q"))),
            "no connection string: set SERVICEBUS_CONNECTION_STR, or give --connection-string-file FILE (or \
             SERVICEBUS_CONNECTION_STR_FILE)"
        );
        let text = error(&flags(Some(STRING), None, None));
        assert!(
            text.starts_with("no queue: give --queue NAME or set SERVICEBUS_QUEUE_NAME; for a subscription"),
            "{text}"
        );
        assert_eq!(
            error(&flags(None, Some("/nonexistent/secret".into()), Some("q"))),
            "failed to read --connection-string-file /nonexistent/secret: No such file or directory (os error 2)"
        );
        let text = error(&flags(Some("Endpoint=sb://h;SharedAccessKey=PLANTED"), None, Some("q")));
        assert!(text.starts_with("failed to use the connection string: SharedAccessKeyName is missing"), "{text}");
        assert!(!format!("{text}{:?}", flags(Some(STRING), None, None)).contains("PLANTED"));
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "x".repeat(20_000)).expect("written");
        let text = error(&flags(None, Some(file.path().to_owned()), Some("q")));
        assert!(text.ends_with("larger than 16 KiB, so no connection string"), "{text}");
    }

    #[test]
    fn a_source_is_a_queue_or_a_subscription_and_never_both() {
        let limited = format!("{STRING};EntityPath=events");
        assert_eq!(source(STRING, "orders", "", " "), Ok(EntityName::queue("orders")), "empty is not set");
        assert_eq!(source(STRING, "", "events", "audit"), Ok(EntityName::subscription("events", "audit")));
        assert_eq!(source(&limited, "", "", "audit"), Ok(EntityName::subscription("events", "audit")));
        for (queue, topic, subscription, expected) in [
            ("orders", "events", "audit", "both queue \"orders\" and topic \"events\" are given"),
            ("orders", "events", "", "both queue \"orders\" and topic \"events\" are given"),
            ("orders", "", "audit", "both queue \"orders\" and subscription \"audit\" are given"),
            ("", "events", "", "topic \"events\" needs a subscription to receive from: give --subscription NAME"),
            ("", "", "audit", "subscription \"audit\" needs its topic: give --topic NAME or set SERVICEBUS_TOPIC_NAME"),
        ] {
            let error = source(STRING, queue, topic, subscription).expect_err(expected);
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_destination_is_a_queue_or_a_topic_and_never_both() {
        assert_eq!(destination(STRING, "orders", ""), Ok(EntityName::queue("orders")));
        assert_eq!(destination(STRING, "", "events"), Ok(EntityName::topic("events")));
        assert!(destination(STRING, "orders", "events").expect_err("two").contains("give one of them"));
        assert!(destination(STRING, "", "").expect_err("none").contains("for a topic --topic NAME"));
    }
}
