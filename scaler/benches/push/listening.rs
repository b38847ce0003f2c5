//! What KEDA hears about a `ScaledObject`'s activity, and when: from a push stream, or from polls.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use externalscaler::{IsActiveResponse, ScaledObjectRef};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

use crate::paced::Client;
use crate::stack::metrics_request;

/// Nothing that is waited for may take longer.
const PATIENCE: Duration = Duration::from_mins(1);

/// The latest that was heard.
#[derive(Clone, Debug)]
enum Heard {
    Nothing,
    /// Since when it is so.
    Active(bool, Instant),
    /// Why nothing more will come.
    Ended(String),
}

/// Somebody who listens. Dropping it closes the stream or ends the polls.
pub(crate) struct Listener {
    heard: watch::Receiver<Heard>,
    task: AbortOnDropHandle<()>,
}

impl Listener {
    /// Opens a push stream.
    pub(crate) async fn push(client: &Client, object: ScaledObjectRef) -> anyhow::Result<Self> {
        let stream = client.clone().stream_is_active(object).await.context("open a push stream")?.into_inner();
        Ok(Self::start(|sender| follow(stream, sender)))
    }

    /// Polls as KEDA does, `GetMetrics` before `IsActive`, every `interval`, for the first time after `phase`.
    pub(crate) fn polling(client: &Client, object: ScaledObjectRef, interval: Duration, phase: Duration) -> Self {
        let client = client.clone();
        Self::start(|sender| poll(client, object, interval, phase, sender))
    }

    fn start<F: Future<Output = ()> + Send + 'static>(listen: impl FnOnce(watch::Sender<Heard>) -> F) -> Self {
        let (sender, heard) = watch::channel(Heard::Nothing);
        Self { heard, task: AbortOnDropHandle::new(tokio::spawn(listen(sender))) }
    }

    /// Waits until the latest that was heard is this, and says since when.
    pub(crate) async fn until(&mut self, wanted: bool) -> anyhow::Result<Instant> {
        let is_heard = self.heard.wait_for(|heard| match heard {
            Heard::Nothing => false,
            Heard::Active(active, _) => *active == wanted,
            Heard::Ended(_) => true,
        });
        let heard = tokio::time::timeout(PATIENCE, is_heard).await;
        let heard = heard.with_context(|| format!("{wanted} was not heard within {PATIENCE:?}"))??.clone();
        match heard {
            Heard::Active(_, at) => Ok(at),
            Heard::Ended(why) => bail!("it ended: {why}"),
            Heard::Nothing => bail!("nothing was heard"),
        }
    }

    /// Whether more may be heard.
    pub(crate) fn is_open(&self) -> bool {
        !self.task.is_finished()
    }
}

fn tell(sender: &watch::Sender<Heard>, told: bool) {
    let now = Instant::now();
    sender.send_if_modified(|heard| {
        let is_news = !matches!(heard, Heard::Active(active, _) if *active == told);
        if is_news {
            *heard = Heard::Active(told, now);
        }
        is_news
    });
}

async fn follow(mut stream: Streaming<IsActiveResponse>, sender: watch::Sender<Heard>) {
    let why = loop {
        match stream.message().await {
            Ok(Some(message)) => tell(&sender, message.result),
            Ok(None) => break "the stream was closed".to_owned(),
            Err(status) => break status.to_string(),
        }
    };
    sender.send_replace(Heard::Ended(why));
}

async fn poll(
    mut client: Client,
    object: ScaledObjectRef,
    interval: Duration,
    phase: Duration,
    sender: watch::Sender<Heard>,
) {
    let request = match metrics_request(&client, &object).await {
        Ok(request) => request,
        Err(error) => {
            sender.send_replace(Heard::Ended(format!("{error:#}")));
            return;
        }
    };
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + phase, interval);
    loop {
        ticks.tick().await;
        let answer: Result<bool, Status> = async {
            client.get_metrics(request.clone()).await?;
            Ok(client.is_active(object.clone()).await?.into_inner().result)
        }
        .await;
        match answer {
            Ok(active) => tell(&sender, active),
            // KEDA would try again; but it is not what is measured here, and must not pass for slowness.
            Err(status) => {
                sender.send_replace(Heard::Ended(status.to_string()));
                return;
            }
        }
    }
}
