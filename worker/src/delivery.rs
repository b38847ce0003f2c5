//! One delivery, from hand to settlement: handle while the lock is kept, then tell the broker and hear its answer.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use servicebus::{Backoff, FailureKind, QueueClient, ReceivedMessage, Settlement};
use tokio_util::sync::CancellationToken;

use crate::renewal::keep_locked;
use crate::{Handler, Outcome};

/// How long a settlement is tried again after the time at which the lock runs out by our clock, which may differ from the
/// broker's.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Handled,
    Abandoned,
    DeadLettered,
    LostLock,
}

/// Handles one message and settles it. `hurry` is cancelled when the drain timeout is over: the message is then given
/// back unhandled.
pub(crate) async fn handle_and_settle(
    client: &dyn QueueClient,
    handler: &dyn Handler,
    message: ReceivedMessage,
    hurry: &CancellationToken,
) -> End {
    let mut locked_until = message.locked_until;
    let handling = AssertUnwindSafe(handler.handle(&message)).catch_unwind();
    let outcome = tokio::select! {
        biased;
        outcome = handling => outcome.unwrap_or_else(|_| Outcome::Abandon { why: "the handler panicked".to_owned() }),
        () = keep_locked(client, &message, &mut locked_until) => {
            tracing::warn!(sequence_number = message.sequence_number, "lock lost while handling; the message comes again");
            return End::LostLock;
        }
        () = hurry.cancelled() => Outcome::Abandon { why: "the drain timeout is over".to_owned() },
    };
    settle(client, &message, locked_until, outcome).await
}

/// Settles and waits for the broker's word. What is transient is tried again until the lock must have run out.
async fn settle(
    client: &dyn QueueClient,
    message: &ReceivedMessage,
    locked_until: SystemTime,
    outcome: Outcome,
) -> End {
    let sequence_number = message.sequence_number;
    let (settlement, end) = match outcome {
        Outcome::Complete => (Settlement::Complete, End::Handled),
        Outcome::Abandon { why } => {
            tracing::warn!(sequence_number, delivery_count = message.delivery_count, why, "abandoning");
            (Settlement::Abandon, End::Abandoned)
        }
        Outcome::DeadLetter { reason, description } => {
            tracing::warn!(sequence_number, reason, description, "dead-lettering");
            (Settlement::DeadLetter { reason, description }, End::DeadLettered)
        }
    };
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    loop {
        let error = match client.settle(message.lock_token, settlement.clone()).await {
            Ok(()) => return end,
            Err(error) => error,
        };
        let may_hold = SystemTime::now() < locked_until + CLOCK_TOLERANCE;
        if error.is_transient() && may_hold {
            tracing::debug!(sequence_number, %error, "settlement not confirmed; trying again");
            tokio::time::sleep(backoff.after_failure(rand::random())).await;
            continue;
        }
        let why = if error.kind == FailureKind::LockLost { "lock lost" } else { "no confirmation while the lock held" };
        tracing::warn!(sequence_number, %error, outcome = ?end, "{why}; the message may come again");
        return End::LostLock;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;
    use crate::fake::{Asked, Fake, Panics, Says, message};

    const LOCK: Duration = Duration::from_mins(1);

    async fn end(fake: &Fake, handler: &dyn Handler) -> End {
        handle_and_settle(fake, handler, message("{}", LOCK), &CancellationToken::new()).await
    }

    fn failures(kinds: &[FailureKind]) -> Mutex<VecDeque<FailureKind>> {
        Mutex::new(kinds.iter().copied().collect())
    }

    fn dead_letter() -> (Outcome, Settlement) {
        let (reason, description) = ("BadBody".to_owned(), "not JSON".to_owned());
        let outcome = Outcome::DeadLetter { reason: reason.clone(), description: description.clone() };
        (outcome, Settlement::DeadLetter { reason, description })
    }

    #[tokio::test(start_paused = true)]
    async fn each_outcome_has_its_settlement() {
        let (dead_letter, dead_lettered) = dead_letter();
        for (outcome, settlement, wanted) in [
            (Outcome::Complete, Settlement::Complete, End::Handled),
            (Outcome::Abandon { why: "busy".to_owned() }, Settlement::Abandon, End::Abandoned),
            (dead_letter, dead_lettered, End::DeadLettered),
        ] {
            let fake = Fake::default();
            assert_eq!(end(&fake, &Says(outcome, Duration::ZERO)).await, wanted);
            assert_eq!(fake.asked(), [Asked::Settle(settlement)]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_gives_the_message_back() {
        let fake = Fake::default();
        assert_eq!(end(&fake, &Panics).await, End::Abandoned);
        assert_eq!(fake.asked(), [Asked::Settle(Settlement::Abandon)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_settlement_is_tried_again_while_the_lock_holds() {
        let fake =
            Fake { settle_failures: failures(&[FailureKind::ConnectionLost, FailureKind::Timeout]), ..Fake::default() };
        assert_eq!(end(&fake, &Says(Outcome::Complete, Duration::ZERO)).await, End::Handled);
        assert_eq!(fake.asked().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_lock_ends_the_settlement() {
        let fake = Fake { settle_failures: failures(&[FailureKind::LockLost]), ..Fake::default() };
        assert_eq!(end(&fake, &Says(Outcome::Complete, Duration::ZERO)).await, End::LostLock);
        assert_eq!(fake.asked().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_lost_while_handling_stops_the_handler() {
        let fake = Fake { renew_failures: failures(&[FailureKind::LockLost]), ..Fake::default() };
        assert_eq!(end(&fake, &Says(Outcome::Complete, Duration::from_hours(1))).await, End::LostLock);
        assert_eq!(fake.asked(), [Asked::Renew], "nothing is settled any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_fails_for_now_does_not_stop_the_handler() {
        let fake = Fake { renew_failures: failures(&[FailureKind::ConnectionLost; 3]), ..Fake::default() };
        assert_eq!(end(&fake, &Says(Outcome::Complete, Duration::from_secs(45))).await, End::Handled);
        let renewals = fake.asked().iter().filter(|asked| **asked == Asked::Renew).count();
        assert!(renewals >= 4, "three failures and a success: {renewals}");
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_hurry_the_message_is_given_back() {
        let fake = Fake::default();
        let hurry = CancellationToken::new();
        hurry.cancel();
        let handler = Says(Outcome::Complete, Duration::from_hours(1));
        assert_eq!(handle_and_settle(&fake, &handler, message("{}", LOCK), &hurry).await, End::Abandoned);
        assert_eq!(fake.asked(), [Asked::Settle(Settlement::Abandon)]);
    }
}
