//! What the tokens put on one connection allow, and until when.
//!
//! Pure bookkeeping; whether a token is valid was decided by [`crate::access`]. The number of permits is bounded.

use std::collections::HashMap;
use std::time::SystemTime;

use crate::access::Permit;
use crate::address::covers;

/// More permits than any client needs: one for each entity and one for each management node it uses.
const MAX_PERMITS: usize = 2_048;

/// The permits of one connection.
#[derive(Debug, Default)]
pub(super) struct Permits {
    /// Expiry by scope.
    expiries: HashMap<String, Option<SystemTime>>,
}

/// A connection has put too many tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a connection may hold {MAX_PERMITS} tokens")]
pub(super) struct TooManyPermits;

impl Permits {
    /// Adds a permit; a newer one for the same scope replaces the older.
    pub(super) fn add(&mut self, permit: Permit) -> Result<(), TooManyPermits> {
        if self.expiries.len() >= MAX_PERMITS && !self.expiries.contains_key(&permit.scope) {
            return Err(TooManyPermits);
        }
        self.expiries.insert(permit.scope, permit.expires);
        Ok(())
    }

    /// Whether a permit that has not expired covers this path.
    pub(super) fn allow(&self, path: &str, now: SystemTime) -> bool {
        let is_valid = |expires: &Option<SystemTime>| expires.is_none_or(|at| at > now);
        self.expiries.iter().any(|(scope, expires)| is_valid(expires) && covers(scope, path))
    }

    /// The time at which the next permit expires.
    pub(super) fn next_expiry(&self) -> Option<SystemTime> {
        self.expiries.values().filter_map(|expires| *expires).min()
    }

    /// Drops expired permits; whether there were any.
    pub(super) fn expire(&mut self, now: SystemTime) -> bool {
        let before = self.expiries.len();
        self.expiries.retain(|_, expires| expires.is_none_or(|at| at > now));
        self.expiries.len() < before
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn permits_cover_what_is_below_them_until_they_expire() {
        let mut permits = Permits::default();
        assert!(!permits.allow("q", at(1)));
        permits.add(Permit { scope: "q".to_owned(), expires: Some(at(10)) }).expect("room");
        assert!(permits.allow("q", at(9)) && permits.allow("q/$deadletterqueue", at(9)));
        assert!(!permits.allow("q2", at(9)) && !permits.allow("q", at(10)));
        assert_eq!(permits.next_expiry(), Some(at(10)));
        permits.add(Permit { scope: "q".to_owned(), expires: Some(at(20)) }).expect("room");
        assert!(!permits.expire(at(10)) && permits.allow("q", at(10)));
        assert!(permits.expire(at(20)) && !permits.allow("q", at(19)));
    }

    #[test]
    fn their_number_is_bounded() {
        let mut permits = Permits::default();
        for number in 0..MAX_PERMITS {
            permits.add(Permit { scope: number.to_string(), expires: None }).expect("room");
        }
        assert_eq!(permits.add(Permit { scope: "more".to_owned(), expires: None }), Err(TooManyPermits));
        permits.add(Permit { scope: "0".to_owned(), expires: Some(at(1)) }).expect("replaced");
    }
}
