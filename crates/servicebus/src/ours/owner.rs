//! The task that owns the connection: it alone reads, writes, dials and keeps time for one client.
//!
//! It waits for one thing at a time and then acts without waiting. Between connections the calls and messages stay here;
//! a call that was on the wire when the connection broke fails, every other one is asked again on the next connection.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use super::Settings;
use super::call::{CallId, Command, Reply};
use super::conversation::{Conversation, Lent, Work};
use super::dial::Stream;
use super::failure::Failure;
use crate::{Backoff, FailureKind};

const FIRST_DIAL_PAUSE: Duration = Duration::from_millis(50);
/// Short enough that a call made right after the peer came back succeeds within two seconds of that.
const LONGEST_DIAL_PAUSE: Duration = Duration::from_millis(1500);
/// Commands taken in one go, so that their frames leave in one write.
const COMMANDS_AT_ONCE: usize = 1_024;
/// A connection that served nobody, and ended sooner than this after we were let in, counts as a failed attempt.
const STEADY: Duration = Duration::from_secs(10);
const READ_BUFFER_BYTES: usize = 64 << 10;
/// How long the last bytes may take to be written.
const LAST_WRITE: Duration = Duration::from_millis(500);
/// What a sleep without a deadline sleeps for; it is only ever cut short.
const LONG: Duration = Duration::from_hours(1);

pub(super) struct Owner {
    settings: Arc<Settings>,
    commands: mpsc::UnboundedReceiver<Command>,
    work: Work,
    backoff: Backoff,
    /// No dialling before this.
    dial_after: Option<Instant>,
    /// Set by close, or by the last handle's going.
    closing: bool,
    /// Whether the last handle has gone, so that no command comes any more.
    orphaned: bool,
    closers: Vec<Reply<()>>,
}

impl Owner {
    pub(super) fn new(settings: Arc<Settings>, commands: mpsc::UnboundedReceiver<Command>) -> Self {
        Self {
            settings,
            commands,
            work: Work::default(),
            backoff: Backoff::new(FIRST_DIAL_PAUSE, LONGEST_DIAL_PAUSE),
            dial_after: None,
            closing: false,
            orphaned: false,
            closers: Vec::new(),
        }
    }

    /// Runs until closed.
    pub(super) async fn run(mut self) {
        while !self.closing {
            if self.work.calls.is_empty() && !self.work.inbox.has_waiters() {
                self.idle().await;
                continue;
            }
            if let Some(stream) = self.dial().await {
                self.converse(stream).await;
            }
        }
        self.work.calls.fail_all(&Failure::closed(), true);
        self.work.inbox.fail_waiters(&Failure::closed(), true);
        let kept = self.work.inbox.take_all().len();
        for closer in self.closers.drain(..) {
            let result = if kept == 0 {
                Ok(())
            } else {
                let what = format!("{kept} messages could not be given back; they return when their locks run out");
                Err(Failure::new(FailureKind::ConnectionLost, what).into())
            };
            drop(closer.send(result));
        }
        // Commands that are still in the channel lose their reply, which their callers read as "closed".
    }

    /// Not connected, nothing to do: waits for a command.
    async fn idle(&mut self) {
        let wake = self.work.inbox.next_deadline();
        tokio::select! {
            command = self.commands.recv() => {
                self.take(command);
            }
            () = sleep_until(wake_at(wake)) => drop(self.work.inbox.outdated(Instant::now())),
        }
    }

    /// Dials, when it is time to; answers whose time runs out meanwhile. `None` when there is nobody to dial for or the
    /// attempt failed.
    async fn dial(&mut self) -> Option<Box<dyn Stream>> {
        let settings = self.settings.clone();
        let dial_after = self.dial_after;
        let attempt = async {
            if let Some(at) = dial_after {
                sleep_until(at.into()).await;
            }
            timeout(settings.connect_timeout, settings.dialler.dial())
                .await
                .unwrap_or_else(|_| Err(Failure::of_kind(FailureKind::Timeout, &settings.peer, "connecting")))
        };
        tokio::pin!(attempt);
        loop {
            let wake = [self.work.calls.next_deadline(), self.work.inbox.next_deadline()].into_iter().flatten().min();
            tokio::select! {
                result = &mut attempt => match result {
                    Ok(stream) => return Some(stream),
                    Err(failure) => {
                        self.lost(&failure, true);
                        return None;
                    }
                },
                command = self.commands.recv() => {
                    self.take(command);
                    if self.closing {
                        return None;
                    }
                }
                () = sleep_until(wake_at(wake)) => self.expire(),
            }
        }
    }

    /// Runs one connection from its first byte to its end.
    async fn converse(&mut self, stream: Box<dyn Stream>) {
        let settings = self.settings.clone();
        let now = Instant::now();
        let Ok(mut conversation) = Conversation::start(&settings, now) else {
            return self.lost(&Failure::of_kind(FailureKind::Internal, &settings.peer, "connecting"), true);
        };
        for id in self.work.calls.ids() {
            conversation.route(id, &mut lend(&mut self.work, &settings));
        }
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut input = BytesMut::with_capacity(READ_BUFFER_BYTES);
        let mut output = BytesMut::new();
        let mut unflushed = false;
        let mut let_in_at = None;
        let failure = loop {
            if self.closing {
                conversation.part(Instant::now());
            }
            conversation.step(&mut lend(&mut self.work, &settings));
            if conversation.is_let_in() && let_in_at.is_none() {
                let_in_at = Some(Instant::now());
                tracing::debug!("connected");
            }
            if output.is_empty() {
                output = conversation.take_output();
            }
            if let Some(failure) = conversation.ended() {
                break failure.clone();
            }
            let wake = conversation.next_deadline(&self.work, Instant::now());
            tokio::select! {
                read = reader.read_buf(&mut input) => match read {
                    Ok(0) => break Failure::of_kind(FailureKind::ConnectionLost, &settings.peer, "in use"),
                    Ok(_) => {
                        conversation.hear(&input, Instant::now());
                        input.clear();
                    }
                    Err(error) => break broken(&settings, error),
                },
                written = write_or_flush(&mut writer, &output), if unflushed || !output.is_empty() => match written {
                    Ok(None) => unflushed = false,
                    Ok(Some(0)) => break broken(&settings, std::io::ErrorKind::WriteZero.into()),
                    Ok(Some(count)) => {
                        output.advance(count);
                        unflushed = true;
                    }
                    Err(error) => break broken(&settings, error),
                },
                command = self.commands.recv(), if !self.orphaned => {
                    let mut command = Some(command);
                    for _ in 0..COMMANDS_AT_ONCE {
                        let Some(taken) = command.take() else { break };
                        if let Some(id) = self.take(taken) {
                            conversation.route(id, &mut lend(&mut self.work, &settings));
                        }
                        command = self.commands.try_recv().ok().map(Some);
                    }
                    if let Some(command) = command
                        && let Some(id) = self.take(command)
                    {
                        conversation.route(id, &mut lend(&mut self.work, &settings));
                    }
                }
                () = sleep_until(wake_at(wake)) => {}
            }
        };
        output.extend_from_slice(&conversation.take_output());
        // The peer is told why if it still listens; it knows without, too.
        let _ = timeout(LAST_WRITE, async {
            writer.write_all(&output).await?;
            writer.shutdown().await
        })
        .await;
        if self.closing {
            if !conversation.gave_all_back() {
                let what = "messages may not have been given back; they return when their locks run out";
                self.answer_closers(&Failure::new(FailureKind::ConnectionLost, what));
            }
            return;
        }
        let error = crate::ClientError::from(failure.clone());
        tracing::debug!(error = &error as &dyn std::error::Error, "disconnected");
        if conversation.has_served() || let_in_at.is_some_and(|at| at.elapsed() >= STEADY) {
            self.backoff.reset();
        }
        self.lost(&failure, let_in_at.is_none());
    }

    /// A connection or an attempt at one ended. Where the peer never let us in, everybody hears why; otherwise those who
    /// were on the wire, and the others go on. The next attempt comes after a pause, however good the connection was: many
    /// clients may have lost the same broker in the same moment.
    fn lost(&mut self, failure: &Failure, everybody: bool) {
        self.work.calls.fail_all(failure, everybody);
        self.work.inbox.fail_waiters(failure, everybody);
        self.dial_after = Some(Instant::now() + self.backoff.after_failure(rand::random()));
    }

    fn expire(&mut self) {
        let (now, peer) = (Instant::now(), &self.settings.peer);
        while let Some(call) = self.work.calls.expired(now) {
            call.job.fail(Failure::of_kind(FailureKind::Timeout, peer, "connecting"));
        }
        self.work.inbox.end_waits(now, &Failure::of_kind(FailureKind::Timeout, peer, "connecting"));
        drop(self.work.inbox.outdated(now));
    }

    /// Takes a command; gives the call to be routed, if it is one.
    fn take(&mut self, command: Option<Command>) -> Option<CallId> {
        let now = Instant::now();
        match command {
            // The last handle has gone: nobody waits for anything any more.
            None => (self.closing, self.orphaned) = (true, true),
            Some(Command::Close(reply)) => {
                self.closing = true;
                self.closers.push(reply);
            }
            Some(Command::ReceiveOver { id, unread }) => {
                self.work.inbox.remove_waiter(id);
                self.work.inbox.put_back(unread, now, SystemTime::now());
                self.work.inbox.hand_out(now, SystemTime::now());
            }
            Some(Command::Call { job, .. }) if self.closing => job.fail(Failure::closed()),
            Some(Command::Receive(waiter)) if self.closing => drop(waiter.reply.send(Err(Failure::closed().into()))),
            Some(Command::Receive(waiter)) => {
                self.work.inbox.add_waiter(waiter);
                self.work.inbox.hand_out(now, SystemTime::now());
            }
            Some(Command::Call { job, deadline }) => return Some(self.work.calls.open(job, deadline, now)),
        }
        None
    }

    fn answer_closers(&mut self, failure: &Failure) {
        for closer in self.closers.drain(..) {
            drop(closer.send(Err(failure.clone().into())));
        }
    }
}

/// Writes some of the output, or flushes when there is none. Cut short, it has done nothing.
async fn write_or_flush(writer: &mut (impl AsyncWrite + Unpin), output: &[u8]) -> std::io::Result<Option<usize>> {
    if output.is_empty() {
        return writer.flush().await.map(|()| None);
    }
    writer.write(output).await.map(Some)
}

fn lend<'a>(work: &'a mut Work, settings: &'a Settings) -> Lent<'a> {
    Lent { work, settings, now: Instant::now(), wall: SystemTime::now() }
}

fn broken(settings: &Settings, error: std::io::Error) -> Failure {
    Failure::of_kind(FailureKind::ConnectionLost, &settings.peer, "in use").because(error)
}

fn wake_at(wake: Option<Instant>) -> tokio::time::Instant {
    wake.unwrap_or_else(|| Instant::now() + LONG).into()
}
