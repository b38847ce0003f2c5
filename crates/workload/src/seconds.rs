//! Times in flags and environment variables: seconds, fractions allowed, as the article writes `WAIT_TIME`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A time from 0 to one day, written in seconds, such as `2` or `0.25`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub Duration);

/// Not such a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a number of seconds from 0 to 86400, such as 2 or 0.25")]
pub struct BadSeconds;

impl FromStr for Seconds {
    type Err = BadSeconds;

    fn from_str(text: &str) -> Result<Self, BadSeconds> {
        let seconds: f64 = text.parse().map_err(|_| BadSeconds)?;
        if (0.0..=86_400.0).contains(&seconds) { Ok(Self(Duration::from_secs_f64(seconds))) } else { Err(BadSeconds) }
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_fractions() {
        for (text, millis) in [("0", 0), ("1", 1_000), ("0.25", 250), ("86400", 86_400_000)] {
            let seconds: Seconds = text.parse().expect("in range");
            assert_eq!(seconds.0, Duration::from_millis(millis), "{text}");
            assert_eq!(seconds.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "-1", "86400.1", "1s", "NaN", "inf"] {
            assert_eq!(text.parse::<Seconds>(), Err(BadSeconds), "{text}");
        }
    }
}
