//! The token in hand, in simulated time, with a giver that does as it is told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use secrecy::ExposeSecret as _;

use super::*;

const HOUR: Duration = Duration::from_hours(1);
/// As long as a token of an hour is not renewed.
const YOUTH: Duration = HOUR.saturating_sub(RENEW_BEFORE_END);

/// Gives what stands in its script, then tokens of an hour, numbered; each after a second.
#[derive(Default)]
struct Giver {
    asked: AtomicUsize,
    script: Mutex<VecDeque<Result<Duration, EntraError>>>,
}

impl Giver {
    fn tokens(script: impl IntoIterator<Item = Result<Duration, EntraError>>) -> (Arc<Self>, Tokens) {
        let giver = Arc::new(Self { asked: AtomicUsize::new(0), script: Mutex::new(script.into_iter().collect()) });
        (giver.clone(), Tokens::new(giver))
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Issuer for Giver {
    async fn issue(&self) -> Result<Issued, EntraError> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let next = self.script.lock().expect("no panic").pop_front().unwrap_or(Ok(HOUR));
        Ok(Issued { text: format!("token-{number}").into(), lifetime: next? })
    }

    fn lost(&self) -> EntraError {
        refused(0)
    }
}

fn refused(status: u16) -> EntraError {
    EntraError::Refused { identity: "the test", host: "entra".to_owned(), status, why: "because".to_owned() }
}

async fn text(tokens: &Tokens) -> String {
    tokens.token().await.expect("a token").expose_secret().to_owned()
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_at_once_share_one_request() {
    let (giver, tokens) = Giver::tokens([]);
    let asking: Vec<_> = (0..100)
        .map(|_| {
            tokio::spawn({
                let tokens = tokens.clone();
                async move { text(&tokens).await }
            })
        })
        .collect();
    for asked in asking {
        assert_eq!(asked.await.expect("no panic"), "token-1");
    }
    assert_eq!(text(&tokens).await, "token-1");
    assert_eq!(giver.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_early_while_nobody_waits() {
    let (giver, tokens) = Giver::tokens([]);
    assert_eq!(text(&tokens).await, "token-1");
    tokio::time::sleep(YOUTH.saturating_sub(Duration::from_secs(1))).await;
    assert_eq!((text(&tokens).await.as_str(), giver.asked()), ("token-1", 1), "young");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = Instant::now();
    for _ in 0..3 {
        assert_eq!(text(&tokens).await, "token-1", "old, but good");
    }
    assert_eq!(Instant::now(), before, "nobody waited");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((text(&tokens).await.as_str(), giver.asked()), ("token-2", 2));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_leaves_the_old_token_good_until_its_end() {
    let (giver, tokens) = Giver::tokens([Ok(HOUR), Err(refused(500)), Err(refused(503))]);
    assert_eq!(text(&tokens).await, "token-1");
    tokio::time::sleep(YOUTH).await;
    assert_eq!(text(&tokens).await, "token-1");
    tokio::time::sleep(Duration::from_millis(1001)).await;
    assert_eq!((text(&tokens).await.as_str(), giver.asked()), ("token-1", 2), "in the pause after the failure");
    tokio::time::sleep(FIRST_PAUSE).await;
    assert_eq!((text(&tokens).await.as_str(), giver.asked()), ("token-1", 2), "asked, not yet answered");
    tokio::time::sleep(RENEW_BEFORE_END).await;
    assert_eq!(giver.asked(), 3);
    assert_eq!((text(&tokens).await.as_str(), giver.asked()), ("token-4", 4), "the old one has ended");
}

#[tokio::test(start_paused = true)]
async fn failures_are_shared_and_pause_the_next_attempt() {
    let (giver, tokens) = Giver::tokens([Err(refused(400)), Err(refused(401))]);
    for _ in 0..1000 {
        assert_eq!(tokens.token().await.expect_err("refused"), refused(400));
    }
    assert_eq!(giver.asked(), 1, "a thousand calls are no load on Entra");
    tokio::time::sleep(FIRST_PAUSE).await;
    assert_eq!(tokens.token().await.expect_err("refused"), refused(401));
    tokio::time::sleep(2 * FIRST_PAUSE).await;
    assert_eq!((text(&tokens).await.as_str(), giver.asked()), ("token-3", 3));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_does_not_end_the_request() {
    let (giver, tokens) = Giver::tokens([]);
    let impatient = tokio::time::timeout(Duration::from_millis(100), tokens.token()).await;
    assert!(impatient.is_err(), "it takes a second");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = Instant::now();
    assert_eq!((text(&tokens).await.as_str(), giver.asked()), ("token-1", 1));
    assert_eq!(Instant::now(), before, "it was there");
}

#[tokio::test(start_paused = true)]
async fn a_short_life_is_renewed_at_half_and_not_asked_for_all_the_time() {
    let (giver, tokens) = Giver::tokens([Ok(Duration::from_secs(8)), Ok(Duration::MAX)]);
    assert_eq!(text(&tokens).await, "token-1");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((text(&tokens).await.as_str(), giver.asked()), ("token-1", 1));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((text(&tokens).await.as_str(), giver.asked()), ("token-2", 2), "good for half its life");
    tokio::time::sleep(HOUR).await;
    assert_eq!((text(&tokens).await.as_str(), giver.asked()), ("token-2", 2), "for ever is no overflow");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_the_service_refuses_is_renewed_but_not_again_and_again() {
    let (giver, tokens) = Giver::tokens([]);
    assert_eq!(text(&tokens).await, "token-1");
    tokens.refused();
    assert_eq!(giver.asked(), 1, "a new one would be no better");
    tokio::time::sleep(RENEW_REFUSED_AFTER).await;
    for _ in 0..1000 {
        tokens.refused();
        assert_eq!(text(&tokens).await, "token-1", "others may still be let in by it, and nobody waits");
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    tokens.refused();
    assert_eq!((text(&tokens).await.as_str(), giver.asked()), ("token-2", 2));
}
