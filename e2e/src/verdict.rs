//! What a scenario must have shown. Pure: [`crate::story`] looks at the cluster and says here what it saw, and when.

use std::time::Duration;

use anyhow::{Context as _, ensure};

/// A push must be there by then, after sending began; the scaler looks every second at what is idle.
pub const PUSHED_WITHIN: Duration = Duration::from_secs(10);

/// What is seen while something goes wrong.
#[derive(Debug)]
pub struct Trouble {
    /// On the timeline, when it ends.
    pub until: Duration,
    /// The fallback's replicas, where one is asked for.
    fallback: Option<i32>,
    /// Wanted last, and the least from which and to which they fell.
    wanted: i32,
    fell: Option<(i32, i32)>,
    reached_fallback: bool,
    was_not_ready: bool,
}

/// One look at what KEDA made of it.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// Replicas that the Deployment is told to have.
    pub wanted: i32,
    /// KEDA's conditions, in its own words.
    pub ready: &'a str,
    /// As above.
    pub fallback: &'a str,
}

impl Trouble {
    /// It begins with so many replicas wanted.
    pub fn begin(until: Duration, wanted: i32, fallback: Option<i32>) -> Self {
        Self { until, fallback, wanted, fell: None, reached_fallback: false, was_not_ready: false }
    }

    /// Takes a look in; returns what is new in it, for the timeline.
    pub fn see(&mut self, look: Look<'_>) -> Vec<String> {
        let Look { wanted, ready, fallback } = look;
        let mut news = Vec::new();
        if ready == "False" && !std::mem::replace(&mut self.was_not_ready, true) {
            news.push(format!("KEDA says Ready=False; replicas {wanted}"));
        }
        if fallback == "True" && self.fallback == Some(wanted) && !std::mem::replace(&mut self.reached_fallback, true) {
            news.push(format!("fallback reached: {wanted} replicas"));
        }
        if wanted < self.wanted && self.fell.is_none_or(|(_, to)| wanted < to) {
            self.fell = Some((self.wanted, wanted));
        }
        self.wanted = wanted;
        news
    }

    /// An error holds the replicas, and KEDA says that it is one; a fallback, where one is asked for, is reached instead.
    pub fn check(&self) -> anyhow::Result<()> {
        if let Some(replicas) = self.fallback {
            ensure!(self.reached_fallback, "KEDA did not reach the fallback of {replicas} replicas");
            if let Some((from, to)) = self.fell {
                ensure!(to >= replicas, "replicas fell from {from} to {to}, below the fallback of {replicas}");
            }
            return Ok(());
        }
        if let Some((from, to)) = self.fell {
            anyhow::bail!("replicas fell from {from} to {to} during the disturbance");
        }
        ensure!(self.was_not_ready, "KEDA never said Ready=False during the disturbance");
        Ok(())
    }
}

/// When KEDA polls, as far as it can be known from outside: it takes a target to 0 at polls alone, so one was between the last look
/// at a target above 0 and the first at 0. Times are since any one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// Not before.
    pub after: Duration,
    /// Not later.
    pub before: Duration,
}

impl Poll {
    /// The next one, not before and not later than.
    pub fn next(self, interval: Duration) -> Self {
        // It takes moments itself, and its period counts from its end.
        Self { after: self.after + interval, before: self.before + interval + Duration::from_secs(3) }
    }

    /// How long to wait so that a push that comes in time is no poll; returns also the poll that is then the last.
    pub fn wait(self, interval: Duration, now: Duration) -> (Duration, Self) {
        let next = self.next(interval);
        if now + PUSHED_WITHIN < next.after { (Duration::ZERO, self) } else { (next.before.saturating_sub(now), next) }
    }
}

/// The first replica was wanted in time, and no poll can have asked for it. `poll` is the last before sending began at `begun`,
/// and `first_wanted` counts from there.
pub fn check_push(
    poll: Poll,
    interval: Duration,
    begun: Duration,
    first_wanted: Option<Duration>,
) -> anyhow::Result<()> {
    let first_wanted = first_wanted.context("no replica was ever wanted")?;
    ensure!(first_wanted < PUSHED_WITHIN, "the first replica was wanted only after {first_wanted:.1?}: no push came");
    ensure!(begun + first_wanted < poll.next(interval).after, "a poll may have asked for the first replica, too");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(60);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn after(looks: &[(i32, &str, &str)], fallback: Option<i32>) -> Result<(), String> {
        let mut trouble = Trouble::begin(seconds(60), 10, fallback);
        for &(wanted, ready, fallback) in looks {
            trouble.see(Look { wanted, ready, fallback });
        }
        trouble.check().map_err(|error| error.to_string())
    }

    #[test]
    fn an_error_holds_every_replica_and_is_said() {
        assert_eq!(after(&[(10, "True", "False"), (10, "False", "False"), (10, "False", "False")], None), Ok(()));
        let text = after(&[(10, "False", "False"), (5, "False", "False"), (10, "False", "False")], None);
        assert_eq!(text, Err("replicas fell from 10 to 5 during the disturbance".to_owned()));
        let text = after(&[(12, "False", "False"), (11, "False", "False")], None);
        assert_eq!(text, Err("replicas fell from 12 to 11 during the disturbance".to_owned()), "those that came, too");
        for quiet in ["True", "Unknown"] {
            let text = after(&[(10, quiet, "False")], None);
            assert_eq!(text, Err("KEDA never said Ready=False during the disturbance".to_owned()));
        }
    }

    #[test]
    fn a_fallback_is_reached_and_nothing_falls_below_it() {
        assert_eq!(after(&[(10, "True", "False"), (4, "True", "True")], Some(4)), Ok(()));
        let text = after(&[(10, "False", "True")], Some(4)).expect_err("held instead");
        assert!(text.contains("did not reach the fallback"), "{text}");
        let text = after(&[(4, "True", "False")], Some(4)).expect_err("by chance");
        assert!(text.contains("did not reach the fallback"), "{text}");
        let text = after(&[(3, "True", "True"), (4, "True", "True")], Some(4)).expect_err("below");
        assert!(text.contains("from 10 to 3"), "{text}");
    }

    #[test]
    fn what_is_new_is_said_once() {
        let mut trouble = Trouble::begin(seconds(60), 10, Some(4));
        let look = Look { wanted: 4, ready: "False", fallback: "True" };
        assert_eq!(trouble.see(look), ["KEDA says Ready=False; replicas 4", "fallback reached: 4 replicas"]);
        assert!(trouble.see(look).is_empty());
    }

    #[test]
    fn a_first_replica_shows_a_push_only_when_no_poll_can_have_come() {
        let poll = Poll { after: seconds(100), before: seconds(101) };
        let check = |begun, first| check_push(poll, INTERVAL, seconds(begun), first).map_err(|error| error.to_string());
        assert_eq!(check(110, Some(seconds(2))), Ok(()));
        assert!(check(110, None).is_err());
        assert!(check(110, Some(seconds(11))).expect_err("late").contains("no push came"));
        assert!(check(158, Some(seconds(3))).expect_err("too near").contains("a poll may have asked"));
    }

    #[test]
    fn sending_waits_for_a_poll_that_is_near() {
        let poll = Poll { after: seconds(100), before: seconds(101) };
        assert_eq!(poll.wait(INTERVAL, seconds(110)), (Duration::ZERO, poll));
        let (wait, last) = poll.wait(INTERVAL, seconds(155));
        assert_eq!((wait, last), (seconds(9), Poll { after: seconds(160), before: seconds(164) }));
        let begun = seconds(155) + wait;
        assert!(check_push(last, INTERVAL, begun, Some(seconds(9))).is_ok());
    }
}
