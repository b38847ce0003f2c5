//! The token in hand: given out while it is good, renewed early by one request for all who ask.
//!
//! A renewal runs in a task of its own, so that it ends well even if nobody waits for it any more. While the old token is good
//! nobody does wait. After a failure the next attempt waits for a pause that grows, so that a broken identity does not become
//! a load on Entra.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::time::Instant;

use super::EntraError;
use crate::Backoff;

/// How long before its end a token is renewed; at most half of its life.
const RENEW_BEFORE_END: Duration = Duration::from_mins(5);
/// A token is not given out in the last moments of its life: the request has to arrive, and clocks differ.
const LAST_MOMENTS: Duration = Duration::from_secs(10);
/// A token that the service refuses is renewed if it has been in hand for so long; a younger one would be no better.
const RENEW_REFUSED_AFTER: Duration = Duration::from_mins(1);
/// Pauses after failures.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A token as it comes from its giver.
pub(super) struct Issued {
    pub(super) text: SecretString,
    /// How long it is good for, from now.
    pub(super) lifetime: Duration,
}

/// Who gives tokens.
#[async_trait]
pub(super) trait Issuer: Send + Sync + 'static {
    /// Asks for one token, within a deadline of its own.
    async fn issue(&self) -> Result<Issued, EntraError>;
    /// What to say when a request ended without a word.
    fn lost(&self) -> EntraError;
}

/// One identity's token. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct Tokens {
    issuer: Arc<dyn Issuer>,
    state: Arc<Mutex<State>>,
}

struct State {
    token: Option<Held>,
    failure: Option<Failed>,
    backoff: Backoff,
    /// Closed when the request under way has ended, by whatever end.
    under_way: Option<watch::Receiver<()>>,
}

struct Held {
    text: SecretString,
    since: Instant,
    renew_at: Instant,
    good_until: Instant,
}

struct Failed {
    error: EntraError,
    try_again_at: Instant,
}

impl Tokens {
    pub(super) fn new(issuer: Arc<dyn Issuer>) -> Self {
        let backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let state = State { token: None, failure: None, backoff, under_way: None };
        Self { issuer, state: Arc::new(Mutex::new(state)) }
    }

    /// A good token. Waits only where there is none; the caller sets the deadline.
    pub(super) async fn token(&self) -> Result<SecretString, EntraError> {
        let mut ended = match self.look() {
            Look::Known(result) => return result,
            Look::UnderWay(ended) => ended,
        };
        // Closing is the only thing that happens to it.
        let _ = ended.changed().await;
        let state = self.lock();
        match (state.good_token(Instant::now()), &state.failure) {
            (Some(token), _) => Ok(token.text.clone()),
            (None, Some(failed)) => Err(failed.error.clone()),
            (None, None) => Err(self.issuer.lost()),
        }
    }

    /// The service refused the token in hand. It may still be good elsewhere, so it is given out until there is a new one.
    pub(super) fn refused(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        let is_old = state.token.as_ref().is_some_and(|token| now >= token.since + RENEW_REFUSED_AFTER);
        let is_pausing = state.failure.as_ref().is_some_and(|failed| now < failed.try_again_at);
        if is_old && !is_pausing {
            self.ask(&mut state);
        }
    }

    /// What is known now. Starts a request where it is time for one.
    fn look(&self) -> Look {
        let now = Instant::now();
        let mut state = self.lock();
        let good = state.good_token(now).map(|token| (token.text.clone(), now < token.renew_at));
        let pausing =
            state.failure.as_ref().filter(|failed| now < failed.try_again_at).map(|failed| failed.error.clone());
        match (good, pausing) {
            (Some((token, is_young)), pausing) => {
                if !is_young && pausing.is_none() {
                    self.ask(&mut state);
                }
                Look::Known(Ok(token))
            }
            (None, Some(error)) => Look::Known(Err(error)),
            (None, None) => Look::UnderWay(self.ask(&mut state)),
        }
    }

    /// Starts a request unless one is under way; gives what closes when it has ended.
    fn ask(&self, state: &mut State) -> watch::Receiver<()> {
        // A sender that is gone is a request that has ended.
        if let Some(under_way) = state.under_way.as_ref().filter(|under_way| under_way.has_changed().is_ok()) {
            return under_way.clone();
        }
        let (at_the_end, ended) = watch::channel(());
        state.under_way = Some(ended.clone());
        let tokens = self.clone();
        tokio::spawn(async move {
            let result = tokens.issuer.issue().await;
            tokens.take(result);
            drop(at_the_end);
        });
        ended
    }

    fn take(&self, result: Result<Issued, EntraError>) {
        let now = Instant::now();
        let mut state = self.lock();
        match result {
            Ok(Issued { text, lifetime }) => {
                let renew_in = lifetime.saturating_sub(RENEW_BEFORE_END).max(lifetime / 2);
                let good_for = lifetime.saturating_sub(LAST_MOMENTS).max(lifetime / 2);
                // A lifetime beyond what a clock can add is no shorter for being a century.
                let after = |time: Duration| now + time.min(Duration::from_hours(24 * 365 * 100));
                state.token = Some(Held { text, since: now, renew_at: after(renew_in), good_until: after(good_for) });
                state.failure = None;
                state.backoff.reset();
            }
            Err(error) => {
                let pause = state.backoff.after_failure(rand::random());
                // Said here, as a failed renewal is nobody's answer yet.
                tracing::warn!(%error, pause_seconds = pause.as_secs_f64(), "no token from Entra");
                state.failure = Some(Failed { error, try_again_at: now + pause });
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Look {
    Known(Result<SecretString, EntraError>),
    UnderWay(watch::Receiver<()>),
}

impl State {
    fn good_token(&self, now: Instant) -> Option<&Held> {
        self.token.as_ref().filter(|token| now < token.good_until)
    }
}

#[cfg(test)]
mod tests;
