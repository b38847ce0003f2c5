//! The thread that the library runs on: one, with a runtime of its own, so that it can be left behind when it misbehaves.
//!
//! One thread for everything is on purpose: on a runtime of several threads, an acknowledgement that is fast overtakes the
//! library's own bookkeeping and the send waits for ever. It is also what keeps a panic away from callers.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::fault::Fault;
use crate::{ClientError, FailureKind};

/// For everything that makes a link: the library has no deadline of its own there.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long links may take to give back what they hold once the client was dropped.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A running thread. It ends when this is dropped, after its links have ended or a few seconds later.
pub(super) struct Engine {
    spawner: Spawner,
    _ends_when_dropped: oneshot::Sender<()>,
}

/// Starts tasks on the thread; cheap to clone.
#[derive(Clone)]
pub(super) struct Spawner {
    handle: Handle,
    links: TaskTracker,
}

impl Engine {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let spawner = Spawner { handle: runtime.handle().clone(), links: TaskTracker::new() };
        let (ends_when_dropped, end) = oneshot::channel::<()>();
        let links = spawner.links.clone();
        std::thread::Builder::new().name("azservicebus".to_owned()).spawn(move || {
            runtime.block_on(async {
                let _ = end.await; // nothing is ever sent: it ends when the engine is dropped
                links.close();
                let _ = tokio::time::timeout(LEAVE_TIMEOUT, links.wait()).await;
            });
            // Not waited for: a name look-up that hangs must not hold up anybody.
            runtime.shutdown_background();
        })?;
        Ok(Self { spawner, _ends_when_dropped: ends_when_dropped })
    }

    pub(super) fn spawner(&self) -> &Spawner {
        &self.spawner
    }
}

impl Spawner {
    /// Runs something on the thread that may hang or panic, and waits for it until the deadline. It goes on when the
    /// caller gives up.
    pub(super) async fn run<T, F>(&self, what: &str, future: F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, Fault>> + Send + 'static,
        T: Send + 'static,
    {
        let task = self.handle.spawn(tokio::time::timeout(DIAL_TIMEOUT, future));
        match task.await {
            Ok(Ok(result)) => result.map_err(Into::into),
            Ok(Err(_)) => {
                let seconds = DIAL_TIMEOUT.as_secs();
                Err(ClientError::new(FailureKind::Timeout, format!("failed to {what} within {seconds} s")))
            }
            Err(_) => Err(ClientError::new(FailureKind::Internal, format!("failed to {what}: the library panicked"))),
        }
    }

    /// Lets a link live on the thread.
    pub(super) fn spawn(&self, link: impl Future<Output = ()> + Send + 'static) {
        self.links.spawn_on(link, &self.handle);
    }
}
