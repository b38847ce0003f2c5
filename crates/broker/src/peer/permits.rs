//! What the tokens put on one connection allow, and until when.
//!
//! Pure bookkeeping; whether a token is valid was decided by [`crate::access`]. The number of permits is bounded.

use std::collections::HashMap;
use std::time::SystemTime;

use crate::access::{Permit, Right};
use crate::address::covers;

/// More permits than any client needs: one for each entity and one for each management node it uses.
const MAX_PERMITS: usize = 2_048;

/// The permits of one connection.
#[derive(Debug, Default)]
pub(super) struct Permits {
    /// By scope.
    permits: HashMap<String, Permit>,
}

/// A connection has put too many tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a connection may hold {MAX_PERMITS} tokens")]
pub(super) struct TooManyPermits;

impl Permits {
    /// Adds a permit; a newer one for the same scope replaces the older.
    pub(super) fn add(&mut self, permit: Permit) -> Result<(), TooManyPermits> {
        if self.permits.len() >= MAX_PERMITS && !self.permits.contains_key(&permit.scope) {
            return Err(TooManyPermits);
        }
        self.permits.insert(permit.scope.clone(), permit);
        Ok(())
    }

    /// Whether a permit that has not expired covers this path with this right, or with any.
    pub(super) fn allow(&self, path: &str, right: Option<Right>, now: SystemTime) -> bool {
        let is_good = |permit: &Permit| match right {
            Some(right) => permit.allows(path, right),
            None => covers(&permit.scope, path),
        };
        self.permits.values().any(|permit| permit.expires.is_none_or(|at| at > now) && is_good(permit))
    }

    /// The time at which the next permit expires.
    pub(super) fn next_expiry(&self) -> Option<SystemTime> {
        self.permits.values().filter_map(|permit| permit.expires).min()
    }

    /// Drops expired permits; whether there were any.
    pub(super) fn expire(&mut self, now: SystemTime) -> bool {
        let before = self.permits.len();
        self.permits.retain(|_, permit| permit.expires.is_none_or(|at| at > now));
        self.permits.len() < before
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::access::Rights;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn permit(scope: &str, expires: Option<SystemTime>) -> Permit {
        Permit { scope: scope.to_owned(), rights: Rights::LISTEN, expires }
    }

    #[test]
    fn rights_are_those_of_the_newest_permit_for_a_scope() {
        let mut permits = Permits::default();
        let rights = |permits: &Permits| {
            [Some(Right::Listen), Some(Right::Send), None].map(|right| permits.allow("q", right, at(1)))
        };
        permits.add(permit("q", None)).expect("room");
        assert_eq!(rights(&permits), [true, false, true]);
        permits.add(Permit { rights: Rights::SEND, ..permit("q", None) }).expect("room");
        assert_eq!(rights(&permits), [false, true, true]);
        permits.add(permit("", None)).expect("room");
        assert_eq!(rights(&permits), [true, true, true], "that of the namespace counts too");
    }

    #[test]
    fn permits_cover_what_is_below_them_until_they_expire() {
        let mut permits = Permits::default();
        assert!(!permits.allow("q", None, at(1)));
        permits.add(permit("q", Some(at(10)))).expect("room");
        assert!(permits.allow("q", None, at(9)) && permits.allow("q/$deadletterqueue", None, at(9)));
        assert!(!permits.allow("q2", None, at(9)) && !permits.allow("q", None, at(10)));
        assert_eq!(permits.next_expiry(), Some(at(10)));
        permits.add(permit("q", Some(at(20)))).expect("room");
        assert!(!permits.expire(at(10)) && permits.allow("q", None, at(10)));
        assert!(permits.expire(at(20)) && !permits.allow("q", None, at(19)));
    }

    #[test]
    fn their_number_is_bounded() {
        let mut permits = Permits::default();
        for number in 0..MAX_PERMITS {
            permits.add(permit(&number.to_string(), None)).expect("room");
        }
        assert_eq!(permits.add(permit("more", None)), Err(TooManyPermits));
        permits.add(permit("0", Some(at(1)))).expect("replaced");
    }
}
