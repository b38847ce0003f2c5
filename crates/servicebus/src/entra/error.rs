//! Why there is no token, in the terms of the one who set up the identity.

use std::time::Duration;

/// No token from Entra. No text holds a secret. Cheap to clone: everybody who waits for the same token gets the same error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntraError {
    /// A part of the identity was not given, nor is it in the environment.
    #[error("{identity} has no {what}: {how}")]
    Missing {
        /// Which kind of identity.
        identity: &'static str,
        /// What is missing.
        what: &'static str,
        /// How to give it.
        how: &'static str,
    },
    /// A part of the identity has a form that is not allowed.
    #[error("the {what} of {identity} must be {allowed}")]
    Invalid {
        /// Which kind of identity.
        identity: &'static str,
        /// Which part.
        what: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
    /// This machine or this build has no such identity.
    #[error("{identity} cannot be used here: {why}")]
    Unsupported {
        /// Which kind of identity.
        identity: &'static str,
        /// Why not.
        why: String,
    },
    /// The file with the service account's token cannot be used. Which file is in the log alone: callers get this error, and
    /// paths of this machine are not theirs to know.
    #[error("cannot use the token file of {identity}: {why}")]
    File {
        /// Which kind of identity.
        identity: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The token's giver refused.
    #[error("{host} refused a token to {identity} (HTTP {status}): {why}")]
    Refused {
        /// Which kind of identity.
        identity: &'static str,
        /// Who gives tokens.
        host: String,
        /// The HTTP status.
        status: u16,
        /// What it said, on one line.
        why: String,
    },
    /// No answer in time.
    #[error("{host} gave {identity} no token within {after:?}")]
    Timeout {
        /// Which kind of identity.
        identity: &'static str,
        /// Who gives tokens.
        host: String,
        /// How long was waited.
        after: Duration,
    },
    /// No answer: unreachable, not trusted, or cut off.
    #[error("{host} gave {identity} no token: {why}")]
    Unavailable {
        /// Which kind of identity.
        identity: &'static str,
        /// Who gives tokens.
        host: String,
        /// What happened, in words.
        why: String,
    },
    /// An answer that is no token.
    #[error("{host} sent {identity} an answer that is no token: {why}")]
    Malformed {
        /// Which kind of identity.
        identity: &'static str,
        /// Who gives tokens.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// The client cannot be set up on this machine, for example for want of root certificates.
    #[error("cannot set up TLS for {host}: {why}")]
    Tls {
        /// Who gives tokens.
        host: String,
        /// What is wrong.
        why: String,
    },
}

impl EntraError {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Unavailable { .. } => true,
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 500..=599),
            _ => false,
        }
    }
}
