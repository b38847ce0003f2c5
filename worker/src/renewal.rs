//! Keeping a lock while its message is handled.

use std::time::{Duration, SystemTime};

use servicebus::{Backoff, FailureKind, QueueClient, ReceivedMessage};

/// Not more often than this, whatever the clocks say: with a clock ahead of the broker's every lock looks run out.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
/// Not later than this: a clock far behind the broker's must not make a lock look endless. Service Bus's longest lock is
/// five minutes.
const LONGEST_PAUSE: Duration = Duration::from_secs(150);

/// Renews the message's lock at half of its remaining time, again and again, and keeps `locked_until` right. Returns only
/// when the lock is lost.
pub(crate) async fn keep_locked(client: &dyn QueueClient, message: &ReceivedMessage, locked_until: &mut SystemTime) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        tokio::time::sleep(pause(*locked_until, SystemTime::now())).await;
        loop {
            match client.renew(message.lock_token).await {
                Ok(until) => {
                    tracing::debug!(sequence_number = message.sequence_number, "lock renewed");
                    *locked_until = until;
                    backoff.reset();
                    break;
                }
                Err(error) if error.kind == FailureKind::LockLost => return,
                // Whatever else it is, the lock may still hold: the settlement will tell.
                Err(error) => {
                    tracing::debug!(sequence_number = message.sequence_number, %error, "lock not renewed; trying again");
                    tokio::time::sleep(backoff.after_failure(rand::random())).await;
                }
            }
        }
    }
}

/// How long to wait before the next renewal.
fn pause(locked_until: SystemTime, now: SystemTime) -> Duration {
    let remaining = locked_until.duration_since(now).unwrap_or_default();
    (remaining / 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewals_come_at_half_of_the_remaining_time_within_bounds() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (remaining_ms, pause_ms) in [(60_000, 30_000), (1_000, 500), (100, 250), (3_600_000, 150_000)] {
            let locked_until = now + Duration::from_millis(remaining_ms);
            assert_eq!(pause(locked_until, now), Duration::from_millis(pause_ms));
        }
        assert_eq!(pause(now - Duration::from_mins(1), now), SHORTEST_PAUSE, "a lock that has run out");
    }
}
