//! The credentials of the config file's connections, kept in step with their files: looked at every second and whenever the
//! config changes or SIGHUP comes, so that a new secret counts without a restart.
//!
//! Owns what was loaded, by its source. A file that cannot be used costs one log line, which has nothing of its content;
//! the credential before it stays. Which trigger may use what is decided in [`crate::connections`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use servicebus::{ConnectionString, Credential, Entra, EntraIdentity, EntraOptions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::connections::{CredentialSource, Identity, RegisteredConnection};
use crate::config::{Config, ConfigHandle};
use crate::keyed_hash::{Digest, KeyedHash};
use crate::secret_file;

/// A credential that is ready to be used.
#[derive(Clone, Debug)]
pub(crate) enum Loaded {
    /// A connection string, which says itself where it goes.
    ConnectionString(ConnectionString),
    /// An identity in Entra, for wherever its connection says.
    Identity {
        /// With its token in hand, shared by all clones.
        credential: Credential,
        /// Changes when the secret does.
        digest: Digest,
    },
}

/// What is known of one source after the last look.
#[derive(Clone, Default)]
struct Known {
    /// The last content that could be used.
    loaded: Option<Loaded>,
    /// What was seen last, usable or not.
    seen: Option<Digest>,
    /// What was wrong with it.
    problem: Option<String>,
}

/// What the last look found: a configuration, and all that is known of its sources. One moment's, swapped as a whole.
#[derive(Default)]
pub(crate) struct Looked {
    config: Arc<Config>,
    known: HashMap<CredentialSource, Known>,
}

impl Looked {
    /// The configuration whose files were looked at.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Whether this source was looked at, whatever came of it.
    pub(crate) fn knows(&self, source: &CredentialSource) -> bool {
        self.known.contains_key(source)
    }

    /// The credential of this source, if it could ever be loaded.
    pub(crate) fn credential(&self, source: &CredentialSource) -> Option<Loaded> {
        self.known.get(source)?.loaded.clone()
    }
}

/// All loaded credentials. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Credentials(Arc<Inner>);

struct Inner {
    keys: KeyedHash,
    looked: ArcSwap<Looked>,
    /// Rings when a credential or the configuration changed.
    changes: watch::Sender<()>,
}

/// What reading a file gave.
type Content = Result<Zeroizing<Vec<u8>>, String>;

impl Credentials {
    /// None yet. Digests are made by `keys`.
    pub(crate) fn new(keys: KeyedHash) -> Self {
        Self(Arc::new(Inner { keys, looked: ArcSwap::default(), changes: watch::Sender::default() }))
    }

    /// What the last look found.
    pub(crate) fn looked(&self) -> Arc<Looked> {
        self.0.looked.load_full()
    }

    /// Rings when a credential or the configuration changed, and with it perhaps who may use what.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    /// Follows the files of this configuration until `shutdown`, looking every `interval`.
    pub(crate) async fn follow(self, config: ConfigHandle, interval: Duration, shutdown: CancellationToken) {
        let mut looks = config.looks();
        let mut before = config.snapshot();
        loop {
            let now = config.snapshot();
            let is_new = self.look(&now, interval / 10).await;
            if is_new || now != before {
                self.0.changes.send_replace(());
            }
            before = now;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
                // The sender lives in `config`.
                _ = looks.changed() => {}
            }
        }
    }

    /// Looks once at every file that the configuration names, and forgets what it names no longer. A file that changed is
    /// read again after `pause` and taken if both reads agree, as somebody may be in the middle of writing it. Says whether
    /// a credential is another now.
    pub(crate) async fn look(&self, config: &Arc<Config>, pause: Duration) -> bool {
        let looked = self.looked();
        let before = &looked.known;
        if config.connections.is_empty() && before.is_empty() {
            return false;
        }
        let sources = config.connections.values().map(|connection| &connection.source);
        let contents = self.settled_contents(before, sources, pause).await;
        let mut known: HashMap<CredentialSource, Known> = HashMap::new();
        let mut is_new = false;
        for (name, RegisteredConnection { source, .. }) in &config.connections {
            if known.contains_key(source) {
                continue;
            }
            let previous = before.get(source).cloned().unwrap_or_default();
            let next = match source.secret_file() {
                None => self.after(name, source, previous, Ok(&[])),
                Some(file) => match contents.get(file) {
                    // In the middle of a change: the next look will tell.
                    None => {
                        if previous.loaded.is_none() {
                            tracing::warn!(connection = name, file = %file.display(), "a file of a connection is being written");
                        }
                        previous
                    }
                    Some(content) => {
                        self.after(name, source, previous, content.as_ref().map(|content| content.as_slice()))
                    }
                },
            };
            // What could be used takes what was seen along; what could not leaves the credential as it was.
            is_new |= next.problem.is_none() && next.seen != before.get(source).and_then(|known| known.seen);
            known.insert(source.clone(), next);
        }
        self.0.looked.store(Arc::new(Looked { config: Arc::clone(config), known }));
        is_new
    }

    /// The contents of these sources' files, without those that are changing just now.
    async fn settled_contents(
        &self,
        before: &HashMap<CredentialSource, Known>,
        sources: impl Iterator<Item = &CredentialSource>,
        pause: Duration,
    ) -> HashMap<PathBuf, Content> {
        let mut seen: HashMap<&Path, Option<Digest>> = HashMap::new();
        for source in sources {
            if let Some(file) = source.secret_file() {
                seen.insert(file, before.get(source).and_then(|known| known.seen));
            }
        }
        let mut contents = read_all(seen.keys().map(|path| path.to_path_buf()).collect()).await;
        let is_new = |path: &Path, content: &Content| seen.get(path).copied().flatten() != Some(self.digest(content));
        let mut changed: HashMap<PathBuf, Digest> = HashMap::new();
        for (path, content) in contents.iter().filter(|(path, content)| is_new(path, content)) {
            changed.insert(path.clone(), self.digest(content));
        }
        if !changed.is_empty() && !pause.is_zero() {
            tokio::time::sleep(pause).await;
            for (path, content) in read_all(changed.keys().cloned().collect()).await {
                if changed.get(&path) == Some(&self.digest(&content)) {
                    contents.insert(path, content);
                } else {
                    contents.remove(&path);
                }
            }
        }
        contents
    }

    fn digest(&self, content: &Content) -> Digest {
        match content {
            Ok(content) => self.0.keys.of([b"content".as_slice(), content.as_slice()]),
            Err(problem) => self.0.keys.of([b"problem".as_slice(), problem.as_bytes()]),
        }
    }

    /// What is known of a source after this was read, and the log line if that is news.
    fn after(&self, name: &str, source: &CredentialSource, previous: Known, content: Result<&[u8], &String>) -> Known {
        let seen = Some(match content {
            Ok(content) => self.0.keys.of([b"content".as_slice(), content]),
            Err(problem) => self.0.keys.of([b"problem".as_slice(), problem.as_bytes()]),
        });
        // What has no file may come right by itself: its environment is not watched, but it costs nothing to ask.
        let is_settled = seen == previous.seen && (previous.loaded.is_some() || source.secret_file().is_some());
        if is_settled {
            return previous;
        }
        let file = source.secret_file().map(|path| path.display().to_string()).unwrap_or_default();
        match content.map_err(Clone::clone).and_then(|content| self.load(source, content)) {
            Ok(loaded) => {
                if previous.seen.is_some() {
                    tracing::info!(connection = name, file, "the credential of a connection changed and is in force");
                } else {
                    tracing::info!(connection = name, file, "the credential of a connection is loaded");
                }
                Known { loaded: Some(loaded), seen, problem: None }
            }
            Err(problem) => {
                if previous.problem.as_ref() != Some(&problem) {
                    let then = if previous.loaded.is_some() {
                        "the one before it stays"
                    } else {
                        "triggers that name it are refused until it can be"
                    };
                    tracing::error!(connection = name, file, problem, "a credential cannot be used; {then}");
                }
                Known { loaded: previous.loaded, seen, problem: Some(problem) }
            }
        }
    }

    fn load(&self, source: &CredentialSource, content: &[u8]) -> Result<Loaded, String> {
        let text = || {
            let text = std::str::from_utf8(content).map_err(|_| "its content is not UTF-8".to_owned())?.trim();
            if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text) }
        };
        let (identity, authority) = match source {
            CredentialSource::ConnectionString(_) => {
                let connection = ConnectionString::parse(text()?).map_err(|error| error.to_string())?;
                return Ok(Loaded::ConnectionString(connection));
            }
            CredentialSource::Identity { identity, authority } => (identity, authority),
        };
        let identity = match identity.clone() {
            Identity::Workload { tenant_id, client_id, token_file } => {
                EntraIdentity::workload_identity(tenant_id, client_id, token_file).map_err(|error| error.to_string())?
            }
            Identity::Managed { client_id } => EntraIdentity::ManagedIdentity { client_id },
            Identity::ClientSecret { tenant_id, client_id, .. } => {
                EntraIdentity::ClientSecret { tenant_id, client_id, secret: SecretString::from(text()?) }
            }
            Identity::ClientCertificate { tenant_id, client_id, .. } => {
                EntraIdentity::ClientCertificate { tenant_id, client_id, certificate: SecretString::from(text()?) }
            }
        };
        let options = EntraOptions { authority: authority.clone(), ..EntraOptions::default() };
        let entra = Entra::new(identity, options).map_err(|error| error.to_string())?;
        // The source's own words are no secret; with the content they tell this credential from every other.
        let digest = self.0.keys.of([format!("{source:?}").as_bytes(), content]);
        Ok(Loaded::Identity { credential: entra.into(), digest })
    }
}

async fn read_all(paths: Vec<PathBuf>) -> HashMap<PathBuf, Content> {
    let read = move || paths.into_iter().map(|path| (path.clone(), secret_file::read(&path))).collect();
    // The runtime is going away if it does not run: then nobody asks any more.
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

#[cfg(test)]
mod tests;
