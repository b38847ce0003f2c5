//! What a key allows: rights as Service Bus names them.

use std::fmt;
use std::str::FromStr;

/// One right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// Receiving, peeking, settling.
    Listen,
    /// Sending.
    Send,
    /// Reading and changing descriptions.
    Manage,
}

/// The rights of a key. Manage brings the others with it, as on the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    listen: bool,
    send: bool,
    manage: bool,
}

impl Rights {
    /// Everything.
    pub const ALL: Self = Self { listen: true, send: true, manage: true };
    /// Receiving only.
    pub const LISTEN: Self = Self { listen: true, send: false, manage: false };
    /// Sending only.
    pub const SEND: Self = Self { listen: false, send: true, manage: false };

    /// Whether this right is among them.
    pub(crate) fn allow(self, right: Right) -> bool {
        match right {
            Right::Listen => self.listen,
            Right::Send => self.send,
            Right::Manage => self.manage,
        }
    }
}

/// A text is not a list of rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rights are listen, send and manage, joined by +")]
pub struct RightsError;

impl FromStr for Rights {
    type Err = RightsError;

    fn from_str(text: &str) -> Result<Self, RightsError> {
        let mut rights = Self { listen: false, send: false, manage: false };
        for right in text.split('+') {
            match right.trim().to_ascii_lowercase().as_str() {
                "listen" => rights.listen = true,
                "send" => rights.send = true,
                "manage" => rights = Self::ALL,
                _ => return Err(RightsError),
            }
        }
        Ok(rights)
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match (self.listen, self.send, self.manage) {
            (_, _, true) => "manage",
            (true, true, false) => "listen+send",
            (true, false, false) => "listen",
            (false, _, false) => "send",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_and_manage_is_all() {
        for (text, written, allowed) in [
            ("listen", "listen", [true, false, false]),
            ("Send", "send", [false, true, false]),
            ("send + listen", "listen+send", [true, true, false]),
            ("manage", "manage", [true, true, true]),
        ] {
            let rights: Rights = text.parse().expect(text);
            assert_eq!(rights.to_string(), written);
            assert_eq!([Right::Listen, Right::Send, Right::Manage].map(|right| rights.allow(right)), allowed, "{text}");
        }
        for text in ["", "read", "listen,send", "listen+"] {
            assert_eq!(text.parse::<Rights>(), Err(RightsError), "{text:?}");
        }
    }
}
