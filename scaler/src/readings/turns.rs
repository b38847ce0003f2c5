//! Whose turn it is among the credentials that wait for one namespace's credits: each gets the same share of the operations,
//! however many it wants.
//!
//! Pure, and fair queueing by start times (Goyal, Vin and Cheng 1997): an operation moves its credential one turn on, and
//! who has waited is as far as everybody else, so nothing is saved up. A credential that the namespace refuses moves on by
//! many: what its operations cost is wasted, and whoever knows a host's name can make up credentials for it.

use std::collections::HashMap;

use crate::keyed_hash::Digest;

/// How many turns a refused operation takes. As many credentials as one Kubernetes namespace may have by default
/// (`limits.credentials`), all of them refused, get together as much as one that works.
const TURNS_OF_THE_REFUSED: u64 = 50;

/// So many more than the last time.
const SWEEP_AFTER: usize = 100;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Turns {
    now: u64,
    next: HashMap<Digest, u64>,
    /// With so many, those that may be forgotten are looked for.
    sweep_at: usize,
}

impl Turns {
    /// When it is this credential's turn; the smallest goes first.
    pub(super) fn of(&self, credential: Digest) -> u64 {
        self.next.get(&credential).map_or(self.now, |next| self.now.max(*next))
    }

    /// An operation with this credential begins.
    pub(super) fn take(&mut self, credential: Digest) {
        self.now = self.of(credential);
        self.next.insert(credential, self.now + 1);
        if self.next.len() >= self.sweep_at.max(SWEEP_AFTER) {
            // Who is ahead of the others by one turn at most is as good as unknown.
            let now = self.now;
            self.next.retain(|_, next| *next > now + 1);
            self.sweep_at = 2 * self.next.len();
        }
    }

    /// An operation that had begun ended with this credential refused.
    pub(super) fn refused(&mut self, credential: Digest) {
        let next = self.of(credential) + TURNS_OF_THE_REFUSED - 1;
        self.next.insert(credential, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyed_hash::KeyedHash;

    /// How many of so many operations each gets, all of them wanting all the time.
    fn shares(credentials: &[(Digest, bool)], operations: usize) -> Vec<usize> {
        let mut turns = Turns::default();
        let mut shares = vec![0; credentials.len()];
        for _ in 0..operations {
            let (place, (credential, is_refused)) = credentials
                .iter()
                .enumerate()
                .min_by_key(|(place, (credential, _))| (turns.of(*credential), *place))
                .expect("there are some");
            turns.take(*credential);
            if *is_refused {
                turns.refused(*credential);
            }
            shares[place] += 1;
        }
        shares
    }

    #[test]
    fn each_gets_the_same_and_all_that_are_refused_no_more_than_one_that_works() {
        let keys = KeyedHash::random();
        let of = |number: u8| keys.of([[number].as_slice()]);
        assert_eq!(shares(&[(of(0), false), (of(1), false), (of(2), false)], 300), [100, 100, 100]);
        let mut crowd: Vec<_> = (1..=50).map(|number| (of(number), true)).collect();
        crowd.push((of(0), false));
        let shares = shares(&crowd, 1_000);
        assert!(shares[50] >= 450, "{shares:?}");
        assert!(shares[..50].iter().all(|share| *share >= 9), "nobody is left out: {shares:?}");
    }

    #[test]
    fn who_was_away_has_saved_nothing_up_and_who_is_not_ahead_is_forgotten() {
        let keys = KeyedHash::random();
        let (busy, late) = (keys.of([b"busy".as_slice()]), keys.of([b"late".as_slice()]));
        let mut turns = Turns::default();
        turns.take(late);
        for _ in 0..100 {
            turns.take(busy);
        }
        assert_eq!(turns.of(late), turns.now);
        for number in 0..1_000_u32 {
            turns.take(keys.of([number.to_be_bytes().as_slice()]));
        }
        assert!(turns.next.len() <= 2 * SWEEP_AFTER, "{}", turns.next.len());
    }
}
