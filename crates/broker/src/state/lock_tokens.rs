//! Where lock tokens come from: version 4 UUIDs of a generator that is seeded once.
//!
//! A token is what allows settling a message, so the generator is a cryptographic one and the seed is the caller's secret.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::event::LockToken;

/// An endless supply of tokens.
pub(super) struct LockTokens(StdRng);

impl LockTokens {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self(StdRng::from_seed(seed))
    }

    pub(super) fn next(&mut self) -> LockToken {
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}

impl std::fmt::Debug for LockTokens {
    /// Without the generator's state: who knows it can guess every token to come.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("LockTokens")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_the_tokens() {
        let tokens = |seed| {
            let mut tokens = LockTokens::new([seed; 32]);
            [tokens.next(), tokens.next()]
        };
        assert_eq!(tokens(1), tokens(1));
        assert_ne!(tokens(1), tokens(2));
        assert_ne!(tokens(1)[0], tokens(1)[1]);
        assert_eq!(tokens(1)[0].get_version_num(), 4);
    }
}
