//! Shared access: the keys this broker knows and the check of the signatures made with them.
//!
//! A token is checked over its raw `sr` text, because clients percent-encode it differently and sign what they wrote
//! (Python upper-case hex, the JavaScript administration client lower-case). A key has rights, and may be good for one
//! entity only. Key values never appear in `Debug`, logs or errors.

mod rights;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::percent_decode_str;
use sha2::Sha256;

use crate::address::{covers, scope_of};
pub(crate) use rights::Right;
pub use rights::{Rights, RightsError};

/// The key name of the emulator's well-known connection string.
pub const EMULATOR_KEY_NAME: &str = "RootManageSharedAccessKey";
/// The key value of the emulator's well-known connection string; not a secret.
pub const EMULATOR_KEY: &str = "SAS_KEY_VALUE";

const PREFIX: &str = "SharedAccessSignature ";
/// Longer tokens are refused before any work is spent on them.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A named shared access key.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedAccessKey {
    /// The key's name, public.
    pub name: String,
    value: String,
    rights: Rights,
    /// Lower-case; `None` is the whole namespace.
    entity: Option<String>,
}

impl SharedAccessKey {
    /// A key with all rights on the whole namespace; neither part may be empty.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Result<Self, KeyError> {
        let (name, value) = (name.into(), value.into());
        if name.is_empty() || value.is_empty() {
            return Err(KeyError::Form);
        }
        Ok(Self { name, value, rights: Rights::ALL, entity: None })
    }

    /// The emulator's well-known key.
    pub fn emulator() -> Self {
        Self { name: EMULATOR_KEY_NAME.to_owned(), value: EMULATOR_KEY.to_owned(), rights: Rights::ALL, entity: None }
    }

    /// The same key with these rights.
    #[must_use]
    pub fn with_rights(self, rights: Rights) -> Self {
        Self { rights, ..self }
    }

    /// The same key, good for this entity and what is below it only.
    #[must_use]
    pub fn for_entity(self, entity: &str) -> Self {
        Self { entity: Some(scope_of(entity)), ..self }
    }

    /// The secret, for whoever writes a connection string.
    pub fn secret(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for SharedAccessKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SharedAccessKey({}=***,rights={}", self.name, self.rights)?;
        if let Some(entity) = &self.entity {
            write!(formatter, ",entity={entity}")?;
        }
        formatter.write_str(")")
    }
}

impl FromStr for SharedAccessKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut parts = text.split(',');
        let (name, value) = parts.next().and_then(|key| key.split_once('=')).ok_or(KeyError::Form)?;
        let mut key = Self::new(name.trim(), value.trim())?;
        for part in parts {
            key = match part.trim().split_once('=') {
                Some(("rights", rights)) => key.with_rights(rights.parse()?),
                Some(("entity", entity)) if !scope_of(entity).is_empty() => key.for_entity(entity),
                _ => return Err(KeyError::Option),
            };
        }
        Ok(key)
    }
}

/// A key text is not `NAME=KEY` with options. Says nothing of the text, which may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Name or key is missing.
    #[error("a shared access key is written NAME=KEY, both parts not empty")]
    Form,
    /// What follows the key is not known.
    #[error("a shared access key may be followed by ,rights=listen+send+manage and ,entity=NAME; the key has no comma")]
    Option,
    /// The rights are not known.
    #[error(transparent)]
    Rights(#[from] RightsError),
}

/// Why a token was refused. The texts are for the client; they hold nothing of the token but its key name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("MalformedToken: the token is not a well-formed SharedAccessSignature with sr, sig, se and skn")]
    Malformed,
    #[error("InvalidSignature: the key name {0:?} is not known to this broker")]
    UnknownKey(String),
    #[error("InvalidSignature: the token has an invalid signature")]
    BadSignature,
    #[error("ExpiredToken: the token expired {0} s ago")]
    Expired(u64),
    #[error("InvalidAudience: the token was signed for {signed:?}, which does not cover {wanted:?}")]
    Scope { signed: String, wanted: String },
    #[error(
        "UnsupportedToken: this broker checks shared access signatures only; start it with --accept-any-jwt to let JSON web tokens pass unchecked"
    )]
    JwtRefused,
}

/// What a valid token allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Permit {
    /// Lower-cased path covered, with everything below it; empty means the whole namespace.
    pub(crate) scope: String,
    pub(crate) rights: Rights,
    /// From when on it allows nothing; `None` for a JSON web token that was let pass unchecked.
    pub(crate) expires: Option<SystemTime>,
}

impl Permit {
    /// Whether it is good for this path (lower-case) and this right; time aside.
    pub(crate) fn allows(&self, path: &str, right: Right) -> bool {
        self.rights.allow(right) && covers(&self.scope, path)
    }
}

/// The keys and the rules by which tokens are judged.
#[derive(Debug)]
pub(crate) struct Access {
    keys: BTreeMap<String, SharedAccessKey>,
    accept_any_jwt: bool,
}

impl Access {
    pub(crate) fn new(keys: impl IntoIterator<Item = SharedAccessKey>, accept_any_jwt: bool) -> Self {
        Self { keys: keys.into_iter().map(|key| (key.name.clone(), key)).collect(), accept_any_jwt }
    }

    /// Judges a token by its content: clients label signatures as `jwt` too, so the label says nothing.
    pub(crate) fn check(&self, token: &str, now: SystemTime) -> Result<Permit, TokenError> {
        let Some(fields) = token.strip_prefix(PREFIX) else {
            let looks_like_jwt =
                token.len() <= MAX_TOKEN_BYTES && token.split('.').filter(|part| !part.is_empty()).count() == 3;
            return match (looks_like_jwt, self.accept_any_jwt) {
                (true, true) => Ok(Permit { scope: String::new(), rights: Rights::ALL, expires: None }),
                (true, false) => Err(TokenError::JwtRefused),
                (false, _) => Err(TokenError::Malformed),
            };
        };
        let token = SignedFields::parse(fields).ok_or(TokenError::Malformed)?;
        let key = self.keys.get(&token.key_name).ok_or_else(|| TokenError::UnknownKey(clip(&token.key_name)))?;
        let mut mac = Hmac::<Sha256>::new_from_slice(key.value.as_bytes()).map_err(|_| TokenError::BadSignature)?;
        mac.update(token.resource_raw.as_bytes());
        mac.update(b"\n");
        mac.update(token.expiry_raw.as_bytes());
        mac.verify_slice(&token.signature).map_err(|_| TokenError::BadSignature)?;
        let expiry_seconds: u64 = token.expiry_raw.parse().map_err(|_| TokenError::Malformed)?;
        let expires = UNIX_EPOCH.checked_add(Duration::from_secs(expiry_seconds)).ok_or(TokenError::Malformed)?;
        if let Ok(late) = now.duration_since(expires) {
            return Err(TokenError::Expired(late.as_secs()));
        }
        let signed = scope_of(&decode(token.resource_raw).ok_or(TokenError::Malformed)?);
        let scope = match &key.entity {
            Some(entity) if covers(&signed, entity) => entity.clone(),
            Some(entity) if !covers(entity, &signed) => return Err(TokenError::UnknownKey(clip(&token.key_name))),
            _ => signed,
        };
        Ok(Permit { scope, rights: key.rights, expires: Some(expires) })
    }

    /// Judges a token that is to cover `audience` (an address in any spelling); the permit is then for that audience.
    pub(crate) fn check_audience(&self, token: &str, audience: &str, now: SystemTime) -> Result<Permit, TokenError> {
        let permit = self.check(token, now)?;
        let wanted = scope_of(audience);
        if covers(&permit.scope, &wanted) {
            // A token for `queue/$management` is a token for the queue.
            let scope = wanted.strip_suffix("/$management").unwrap_or(&wanted).to_owned();
            Ok(Permit { scope, ..permit })
        } else {
            Err(TokenError::Scope { signed: clip(&permit.scope), wanted: clip(&wanted) })
        }
    }
}

/// The parts of a `SharedAccessSignature`, in whatever order they came.
struct SignedFields<'a> {
    resource_raw: &'a str,
    expiry_raw: &'a str,
    signature: Vec<u8>,
    key_name: String,
}

impl<'a> SignedFields<'a> {
    fn parse(fields: &'a str) -> Option<Self> {
        if fields.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let (mut resource, mut expiry, mut signature, mut key_name) = (None, None, None, None);
        for field in fields.trim().split('&') {
            let (name, value) = field.split_once('=')?;
            let slot = match name {
                "sr" => &mut resource,
                "se" => &mut expiry,
                "sig" => &mut signature,
                "skn" => &mut key_name,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return None;
            }
        }
        Some(Self {
            resource_raw: resource?,
            expiry_raw: expiry?,
            signature: STANDARD.decode(decode(signature?)?).ok()?,
            key_name: decode(key_name?)?,
        })
    }
}

fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// A caller's text, short enough to be repeated to it.
fn clip(text: &str) -> String {
    text.chars().take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(resource: &str, expiry: u64, key: &SharedAccessKey) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.secret().as_bytes()).expect("any length is a key");
        mac.update(format!("{resource}\n{expiry}").as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        format!("SharedAccessSignature sig={signature}&se={expiry}&skn={}&sr={resource}", key.name)
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000)
    }

    fn access() -> Access {
        Access::new([SharedAccessKey::emulator()], false)
    }

    #[test]
    fn a_published_signature_is_accepted() {
        // Computed apart from this program:
        // printf 'sb%%3A%%2F%%2Flocalhost%%2Forders\n4102444800' | openssl dgst -sha256 -hmac SAS_KEY_VALUE -binary | base64
        let token = "SharedAccessSignature sr=sb%3A%2F%2Flocalhost%2Forders&sig=qVb40dsnynsoeAerZHZ99BgtTTOD3XVxSVay1vxPkeI%3D&se=4102444800&skn=RootManageSharedAccessKey";
        let permit = access().check(token, now()).expect("valid");
        assert_eq!(permit.scope, "orders");
        let expires = permit.expires.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        assert_eq!(expires.map(|since| since.as_secs()), Some(4_102_444_800));
    }

    #[test]
    fn either_case_of_hex_is_fine_because_the_raw_text_is_signed() {
        for resource in ["sb%3A%2F%2Fh%2Fq", "sb%3a%2f%2fh%2fq"] {
            let token = sign(resource, 2_000, &SharedAccessKey::emulator());
            assert_eq!(access().check(&token, now()).map(|permit| permit.scope), Ok("q".to_owned()));
        }
    }

    #[test]
    fn namespace_tokens_cover_every_audience_and_entity_tokens_their_own() {
        let namespace = sign("amqps%3A%2F%2Fhost", 2_000, &SharedAccessKey::emulator());
        let permit = access().check_audience(&namespace, "amqp://host/Q/$management", now()).expect("covered");
        assert_eq!(permit.scope, "q");
        let entity = sign("sb%3A%2F%2Fhost%2Fq", 2_000, &SharedAccessKey::emulator());
        assert!(access().check_audience(&entity, "sb://host/q/$DeadLetterQueue", now()).is_ok());
        assert!(matches!(access().check_audience(&entity, "sb://host/qq", now()), Err(TokenError::Scope { .. })));
    }

    #[test]
    fn wrong_tokens_are_refused_and_say_why() {
        let access = access();
        let wrong = SharedAccessKey::new(EMULATOR_KEY_NAME, "another").expect("valid");
        assert_eq!(access.check(&sign("sb", 2_000, &wrong), now()), Err(TokenError::BadSignature));
        let unknown = SharedAccessKey::new("nobody", EMULATOR_KEY).expect("valid");
        assert_eq!(access.check(&sign("sb", 2_000, &unknown), now()), Err(TokenError::UnknownKey("nobody".to_owned())));
        let late = sign("sb", 900, &SharedAccessKey::emulator());
        assert_eq!(access.check(&late, now()), Err(TokenError::Expired(100)));
        assert_eq!(access.check("aaa.bbb.ccc", now()), Err(TokenError::JwtRefused));
        assert_eq!(
            Access::new([], true).check("aaa.bbb.ccc", now()),
            Ok(Permit { scope: String::new(), rights: Rights::ALL, expires: None })
        );
        for text in [
            "",
            "x",
            "SharedAccessSignature ",
            "SharedAccessSignature sr=a&sig=%%&se=1&skn=n",
            "SharedAccessSignature sr=a&sr=b&sig=YQ&se=1&skn=n",
        ] {
            assert_eq!(access.check(text, now()), Err(TokenError::Malformed), "{text:?}");
        }
    }

    #[test]
    fn keys_have_rights_and_may_be_good_for_one_entity() {
        let key: SharedAccessKey = "reader=PLANTED,rights=listen,entity=Orders".parse().expect("valid");
        assert_eq!(format!("{key:?}"), "SharedAccessKey(reader=***,rights=listen,entity=orders)");
        let access = Access::new([key.clone()], false);
        for (resource, scope) in [
            ("sb%3A%2F%2Fh", Ok("orders")),
            ("sb%3A%2F%2Fh%2FORDERS", Ok("orders")),
            ("sb%3A%2F%2Fh%2Forders%2F%24deadletterqueue", Ok("orders/$deadletterqueue")),
            ("sb%3A%2F%2Fh%2Fother", Err(TokenError::UnknownKey("reader".to_owned()))),
        ] {
            let permit = access.check(&sign(resource, 2_000, &key), now());
            assert_eq!(permit.as_ref().map(|permit| permit.scope.as_str()), scope.as_ref().copied(), "{resource}");
            if let Ok(permit) = permit {
                assert!(permit.allows(&permit.scope, Right::Listen) && !permit.allows(&permit.scope, Right::Manage));
            }
        }
        let token = sign("sb%3A%2F%2Fh", 2_000, &key);
        assert!(matches!(access.check_audience(&token, "sb://h/other", now()), Err(TokenError::Scope { .. })));
        for text in ["n=k,right=listen", "n=k,", "n=k,rights=all", "n=k,entity=", "n=k,y"] {
            let error = text.parse::<SharedAccessKey>().expect_err(text).to_string();
            assert!(error.contains("listen"), "{text}: {error}");
        }
    }

    #[test]
    fn no_secret_in_debug() {
        let access = Access::new([SharedAccessKey::new("name", "hush-hush").expect("valid")], false);
        assert!(!format!("{access:?}").contains("hush"));
        assert!("no-equals".parse::<SharedAccessKey>().is_err());
        assert_eq!("n=k=v=".parse::<SharedAccessKey>().map(|key| key.value), Ok("k=v=".to_owned()));
    }
}
