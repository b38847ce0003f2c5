//! Keys for caches that must tell credentials apart without holding them: HMAC-SHA-256 with a key that every process
//! draws anew. A key in a memory dump or a log says nothing, and no caller can make two that collide.

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::ExposeSecret as _;
use servicebus::ConnectionString;
use sha2::Sha256;

/// What was hashed, as far as it can be compared. Equal means the same; nothing can be read out of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Digest([u8; 32]);

/// Makes [`Digest`]s. Digests of different makers are not comparable; clones are the same maker.
#[derive(Clone)]
pub(crate) struct KeyedHash(Hmac<Sha256>);

impl KeyedHash {
    /// With a key of its own, from the operating system's randomness.
    pub(crate) fn random() -> Self {
        let key: [u8; 32] = rand::random();
        Self(Hmac::new_from_slice(&key).expect("HMAC takes keys of any length"))
    }

    /// The digest of these parts. Lengths are hashed too, so that no two lists of parts are taken for each other.
    pub(crate) fn of<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
        let mut hash = self.0.clone();
        for part in parts {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Digest(hash.finalize().into_bytes().into())
    }

    /// The digest of a namespace and the credential for it.
    pub(crate) fn of_connection(&self, connection: &ConnectionString) -> Digest {
        let secret = connection.key().or(connection.signature()).map_or("", |secret| secret.expose_secret());
        let url = connection.administration_url();
        let kind = if connection.key().is_some() { "key" } else { "signature" };
        self.of([url.as_str(), kind, connection.key_name().unwrap_or_default(), secret].map(str::as_bytes))
    }
}

impl Digest {
    /// For digests of digests.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_tell_credentials_and_lists_of_parts_apart() {
        let maker = KeyedHash::random();
        let connection = |key: &str| {
            let text = format!("Endpoint=sb://127.0.0.1:5672;SharedAccessKeyName=a;SharedAccessKey={key}");
            ConnectionString::parse(&text).expect("a valid connection string")
        };
        let digest = |key: &str| maker.of_connection(&connection(key));
        assert_eq!(digest("one"), digest("one"));
        assert_ne!(digest("one"), digest("two"));
        assert_ne!(maker.of([b"ab".as_slice(), b"c"]), maker.of([b"a".as_slice(), b"bc"]));
        assert_ne!(KeyedHash::random().of([b"a".as_slice()]), maker.of([b"a".as_slice()]));
    }
}
