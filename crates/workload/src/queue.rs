//! The flags that name a queue and how to reach it, under the names of the article that the product follows.

use std::path::PathBuf;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use servicebus::{
    Adapter, ClientError, ConnectError, ConnectionString, ConnectionStringError, FailureKind, QueueClient,
};

/// Larger files are no connection strings, and are not read into memory.
const MAX_FILE_BYTES: u64 = 16 * 1024;

/// Which queue, in which namespace, by which client.
#[derive(clap::Args, Clone, Debug)]
pub struct QueueFlags {
    /// Connection string of the namespace; visible to everybody who can list processes, so prefer the variable or a file
    #[arg(long, env = "SERVICEBUS_CONNECTION_STR", hide_env_values = true, value_name = "STRING")]
    pub connection_string: Option<SecretString>,
    /// File with the connection string, such as a mounted secret; goes before --connection-string
    #[arg(long, env = "SERVICEBUS_CONNECTION_STR_FILE", value_name = "FILE")]
    pub connection_string_file: Option<PathBuf>,
    /// Name of the queue; may be left out where the connection string names one itself
    #[arg(long, env = "SERVICEBUS_QUEUE_NAME", value_name = "NAME")]
    pub queue: Option<String>,
    /// Client to use: `ours`, or `azservicebus` where it is built in
    #[arg(long, value_name = "CLIENT", default_value_t)]
    pub client: Adapter,
}

/// The flags do not lead to a queue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
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
    /// No queue.
    #[error("no queue: give --queue NAME or set SERVICEBUS_QUEUE_NAME")]
    NoQueue,
    /// No client for it.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// A queue that the flags lead to.
#[derive(Clone)]
pub struct Queue {
    /// Reaches it; nothing is dialled before the first call.
    pub client: Arc<dyn QueueClient>,
    /// Its name.
    pub name: String,
    /// Host and AMQP port of its namespace.
    pub namespace: String,
}

impl Queue {
    /// Says what an error of this queue's client means for the one who set the flags.
    pub fn explain(&self, error: &ClientError) -> String {
        let Self { name, namespace, .. } = self;
        match error.kind {
            FailureKind::NotFound => {
                format!("queue {name:?} does not exist at {namespace}; create it, or correct --queue")
            }
            FailureKind::Unauthorized => {
                format!("{namespace} refuses the credential for queue {name:?}; check the key and its claims")
            }
            _ => format!("queue {name:?} at {namespace} cannot be used"),
        }
    }
}

impl QueueFlags {
    /// Checks the flags and makes the client. Reads the file, if one is named; dials nothing.
    pub fn queue(&self) -> Result<Queue, QueueError> {
        let Self { connection_string, connection_string_file, queue, client } = self;
        let (text, origin) = match (connection_string_file, connection_string) {
            (Some(path), _) => {
                let text = read(path).map_err(|source| QueueError::File { path: path.clone(), source })?;
                (text, format!("the connection string in {}", path.display()))
            }
            (None, Some(text)) => (text.clone(), "the connection string".to_owned()),
            (None, None) => return Err(QueueError::NoConnectionString),
        };
        let connection = ConnectionString::parse(text.expose_secret().trim())
            .map_err(|source| QueueError::ConnectionString { origin, source })?;
        let named = queue.as_deref().map(str::trim).filter(|queue| !queue.is_empty());
        let name = named.or(connection.entity_path()).ok_or(QueueError::NoQueue)?.to_owned();
        let client = servicebus::connect(&connection, &name, *client)?;
        Ok(Queue { client, name, namespace: format!("{}:{}", connection.host(), connection.amqp_port()) })
    }
}

fn read(path: &std::path::Path) -> std::io::Result<SecretString> {
    use std::io::{Error, ErrorKind, Read as _};
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(Error::new(ErrorKind::FileTooLarge, "larger than 16 KiB, so no connection string"));
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRING: &str =
        "Endpoint=sb://127.0.0.1:4711;SharedAccessKeyName=n;SharedAccessKey=s3cret;UseDevelopmentEmulator=true";

    fn flags(string: Option<&str>, file: Option<PathBuf>, queue: Option<&str>) -> QueueFlags {
        QueueFlags {
            connection_string: string.map(Into::into),
            connection_string_file: file,
            queue: queue.map(str::to_owned),
            client: Adapter::Ours,
        }
    }

    fn error(flags: &QueueFlags) -> String {
        use std::error::Error as _;
        let error = flags.queue().err().expect("must be refused");
        match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }
    }

    #[test]
    fn a_string_and_a_name_make_a_queue() {
        let queue = flags(Some(STRING), None, Some(" orders ")).queue().expect("good flags");
        assert_eq!((queue.name.as_str(), queue.namespace.as_str()), ("orders", "127.0.0.1:4711"));
        let limited = format!("{STRING};EntityPath=orders");
        assert_eq!(flags(Some(&limited), None, None).queue().expect("good flags").name, "orders");
    }

    #[test]
    fn a_file_goes_before_a_string_and_may_end_with_a_newline() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), format!("{STRING}\n")).expect("written");
        let queue = flags(Some("nonsense"), Some(file.path().to_owned()), Some("orders")).queue().expect("good flags");
        assert_eq!(queue.namespace, "127.0.0.1:4711");
    }

    #[test]
    fn bad_flags_are_named_and_secrets_are_not() {
        assert_eq!(
            error(&flags(None, None, Some("q"))),
            "no connection string: set SERVICEBUS_CONNECTION_STR, or give --connection-string-file FILE (or \
             SERVICEBUS_CONNECTION_STR_FILE)"
        );
        assert_eq!(error(&flags(Some(STRING), None, None)), "no queue: give --queue NAME or set SERVICEBUS_QUEUE_NAME");
        assert_eq!(
            error(&flags(None, Some("/nonexistent/secret".into()), Some("q"))),
            "failed to read --connection-string-file /nonexistent/secret: No such file or directory (os error 2)"
        );
        let text = error(&flags(Some("Endpoint=sb://h;SharedAccessKey=s3cret"), None, Some("q")));
        assert!(text.starts_with("failed to use the connection string: SharedAccessKeyName is missing"), "{text}");
        assert!(!format!("{text}{:?}", flags(Some(STRING), None, None)).contains("s3cret"));
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "x".repeat(20_000)).expect("written");
        let text = error(&flags(None, Some(file.path().to_owned()), Some("q")));
        assert!(text.ends_with("larger than 16 KiB, so no connection string"), "{text}");
    }
}
