//! The queue that a run is about: on a broker that the demo starts, or in a real namespace.
//!
//! Knows how the queue is reached and looks into it, before, during and after the run. It sends and receives nothing.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use secrecy::{ExposeSecret as _, SecretString};
use servicebus::{Adapter, AdministrationClient, AdministrationOptions, ConnectionString, EntityCounts, QueueClient};
use tokio::sync::watch;

use crate::args::RunArgs;
use crate::child::Child;
use crate::launcher::Launcher;
use crate::parts;
use crate::summary::Held;

/// The queue on the demo's own broker.
const QUEUE: &str = "demo";
/// The name under which every program of this product looks for the connection string.
pub const CONNECTION_VARIABLE: &str = "SERVICEBUS_CONNECTION_STR";
/// How long a look at the queue may take. A run must not fail because its machine is busy.
const PATIENCE: Duration = Duration::from_secs(20);
/// Messages asked for in one peek, and peeked at most. More than a few are left only when something went badly wrong.
const PEEK: usize = 250;
const PEEKED_AT_MOST: u64 = 10_000;
/// The last look may meet a broker that is busy closing connections.
const LAST_LOOK_TRIES: u32 = 5;

/// Counts, and when they were read.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// When the answer came.
    pub at: Instant,
    /// The counts.
    pub counts: EntityCounts,
}

/// A queue and how to reach it.
#[derive(Clone)]
pub struct Stage {
    /// The queue's name.
    pub queue: String,
    /// Where it is, for people.
    pub place: String,
    /// How long a message stays locked: after that, what a killed worker had in hand comes back.
    pub lock_duration: Duration,
    connection: SecretString,
    allowed_endpoint: Option<String>,
    administration: AdministrationClient,
    client: Arc<dyn QueueClient>,
}

impl Stage {
    /// Sets the stage: starts a broker, or checks the namespace that the flags name. Gives the broker's process, if there
    /// is one.
    pub async fn set(args: &RunArgs, launcher: &Launcher) -> anyhow::Result<(Self, Option<Child>)> {
        if let (Some(file), Some(queue)) = (&args.connection_string_file, &args.queue) {
            let text = workload::read_connection_string(file)
                .with_context(|| format!("failed to read --connection-string-file {}", file.display()))?;
            let mut stage = Self::reach(text, queue, None)
                .with_context(|| format!("failed to use --connection-string-file {}", file.display()))?;
            stage.inspect().await?;
            return Ok((stage, None));
        }
        let (broker, ready) = launcher.start_server("broker", parts::broker(args, QUEUE)).await?;
        let connection = ready.connection_string.context("the broker's ready line names no connection string")?;
        let mut stage = Self::reach(connection.into(), QUEUE, Some("the local broker".to_owned()))
            .context("failed to use the broker's connection string")?;
        stage.inspect().await?;
        Ok((stage, Some(broker)))
    }

    fn reach(text: SecretString, queue: &str, place: Option<String>) -> anyhow::Result<Self> {
        let connection = ConnectionString::parse(text.expose_secret())?;
        let host = connection.host();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let port = connection.administration_port();
        let patient = AdministrationOptions { timeout: PATIENCE, ..AdministrationOptions::default() };
        // The scaler refuses to send credentials to hosts it does not know. Whoever named the file has vouched for its.
        let allowed_endpoint = place.is_none().then(|| format!("{host}:{port}"));
        Ok(Self {
            queue: queue.to_owned(),
            place: place.unwrap_or(host),
            lock_duration: Duration::ZERO,
            allowed_endpoint,
            administration: AdministrationClient::with_options(&connection, patient)?,
            client: servicebus::connect(&connection, queue, Adapter::Ours)?,
            connection: text,
        })
    }

    /// Looks at the queue before the run: it must be there and be empty.
    async fn inspect(&mut self) -> anyhow::Result<()> {
        let looked = self.administration.queue(&self.queue).await;
        let queue = looked.with_context(|| format!("failed to look at --queue {}", self.queue))?;
        self.lock_duration = queue.lock_duration;
        let EntityCounts { active, dead_letter, scheduled, .. } = queue.counts;
        if active + dead_letter + scheduled > 0 {
            bail!(
                "--queue {}: holds {active} active, {scheduled} scheduled and {dead_letter} dead-lettered messages; the demo \
                 needs a queue that is empty, its dead-letter queue too",
                self.queue
            );
        }
        Ok(())
    }

    /// The connection string, as KEDA finds it in the scale target's environment.
    pub fn connection(&self) -> &SecretString {
        &self.connection
    }

    /// The environment of workers and sender.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        vec![(CONNECTION_VARIABLE, self.connection.expose_secret().into())]
    }

    /// `HOST:PORT` of the administration API, if the scaler must be told that it may send a credential there.
    pub fn allowed_endpoint(&self) -> Option<&str> {
        self.allowed_endpoint.as_deref()
    }

    /// The queue's counts, now.
    pub async fn counts(&self) -> anyhow::Result<EntityCounts> {
        Ok(self.administration.queue(&self.queue).await?.counts)
    }

    /// Reads the counts again and again, for the view, until nobody listens any more. A read that fails is left out: the
    /// verdict does not rest on these.
    pub fn follow(&self, every: Duration) -> watch::Receiver<Counted> {
        let (sender, receiver) = watch::channel(Counted { at: Instant::now(), counts: EntityCounts::default() });
        let stage = self.clone();
        tokio::spawn(async move {
            while !sender.is_closed() {
                match stage.counts().await {
                    Ok(counts) => _ = sender.send_replace(Counted { at: Instant::now(), counts }),
                    Err(error) => tracing::debug!("the counts could not be read: {error:#}"),
                }
                tokio::time::sleep(every).await;
            }
        });
        receiver
    }

    /// What the queue holds at the end: its counts, and what peeking shows beyond them.
    pub async fn held(&self) -> anyhow::Result<Held> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.look().await {
                Ok(held) => return Ok(held),
                Err(error) if tries == LAST_LOOK_TRIES => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    async fn look(&self) -> anyhow::Result<Held> {
        let mut peeked = 0;
        let mut from = 0;
        loop {
            let messages = self.client.peek(from, PEEK).await.context("failed to peek the queue")?;
            let Some(last) = messages.iter().map(|message| message.sequence_number).max() else { break };
            peeked += messages.len() as u64;
            from = last.saturating_add(1);
            if peeked >= PEEKED_AT_MOST {
                break;
            }
        }
        let counts = self.counts().await.context("failed to read the queue's counts")?;
        if let Err(error) = self.client.close().await {
            tracing::debug!(%error, "the client did not close cleanly");
        }
        Ok(Held::new(counts, peeked))
    }
}
