//! Swapping the policy while everything runs: rewrite the profile, and watch the running scaler answer by it.
//!
//! The proof is in the scaler's own answers: what the profile makes of a reading, beside what `messageCount` makes of the
//! same one. No process is touched.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::profile::Policy;
use crate::scaler_client::ScalerClient;
use crate::summary::{Answer, Swap};

/// The scaler looks at its config file every second.
const IN_FORCE_DEADLINE: Duration = Duration::from_secs(10);
/// How often it is asked meanwhile.
const LOOK: Duration = Duration::from_millis(100);
/// A quotient of answers that moves by more than this is another policy's. The two policies differ by a factor of two.
const SAME: f64 = 0.1;

/// Puts `to` into the profile and waits until the scaler answers by it. `began` is when the run began.
pub async fn perform(client: &ScalerClient, config: &Path, to: Policy, began: Instant) -> anyhow::Result<Swap> {
    let before = client.compare().await.context("ask the scaler before the swap")?;
    let rewritten = Instant::now();
    to.write(config)?;
    loop {
        let after = client.compare().await.context("ask the scaler after the swap")?;
        if differs(before, after) {
            return Ok(Swap {
                to: to.name(),
                at_seconds: (rewritten - began).as_secs_f64(),
                took_seconds: rewritten.elapsed().as_secs_f64(),
                before,
                after,
            });
        }
        if rewritten.elapsed() > IN_FORCE_DEADLINE {
            bail!(
                "the policy {to} was not in force {} s after the profile was rewritten; the scaler's log says why",
                IN_FORCE_DEADLINE.as_secs()
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether the two answers are of different policies: their share of the messages is not the same.
fn differs(before: Answer, after: Answer) -> bool {
    let share = |answer: Answer| (answer.messages > 0.0).then(|| answer.metric / answer.messages);
    match (share(before), share(after)) {
        (Some(before), Some(after)) => (before - after).abs() > SAME,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(messages: f64, metric: f64) -> Answer {
        Answer { messages, metric, replicas: 0 }
    }

    #[test]
    fn a_shorter_queue_is_no_other_policy() {
        assert!(!differs(answer(500.0, 500.0), answer(300.0, 300.0)));
        assert!(!differs(answer(500.0, 250.0), answer(301.0, 150.5)));
        assert!(differs(answer(500.0, 500.0), answer(480.0, 240.0)));
        assert!(differs(answer(500.0, 250.0), answer(500.0, 500.0)));
    }

    #[test]
    fn an_empty_queue_tells_nothing() {
        assert!(!differs(answer(0.0, 0.0), answer(5.0, 5.0)));
        assert!(!differs(answer(5.0, 5.0), answer(0.0, 0.0)));
    }
}
