//! Shared access signatures: the tokens that a named key signs for one resource and one span of time.
//!
//! Pure but for the caller's clock: the expiry is an argument. The form is Microsoft's, "Service Bus access control with
//! Shared Access Signatures": the HMAC key is the key's text as it stands (it looks like base64 but is not decoded), and
//! what is signed is the percent-encoded resource, a line feed, and the expiry in Unix seconds.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

use crate::SharedAccess;

/// How long a token that we sign is good for.
pub(crate) const TOKEN_LIFETIME: Duration = Duration::from_hours(1);

/// A token and when it ends, if that is known.
pub(crate) struct Token {
    pub(crate) text: SecretString,
    /// When the service stops accepting it; `None` for a ready token without a readable `se`.
    pub(crate) expires: Option<SystemTime>,
}

impl SharedAccess {
    /// A token for a resource such as `sb://host/queue`: signed now for `lifetime`, or the ready one as it is.
    pub(crate) fn token(&self, resource: &str, now: SystemTime, lifetime: Duration) -> Token {
        match self {
            Self::Key { name, key } => {
                let expires = now + lifetime;
                let unix_seconds = expires.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
                Token { text: sign(resource, name, key, unix_seconds), expires: Some(expires) }
            }
            Self::Signature { token } => Token { text: token.clone(), expires: expiry(token.expose_secret()) },
        }
    }
}

/// Signs one token. `unix_seconds` is when it ends.
fn sign(resource: &str, key_name: &str, key: &SecretString, unix_seconds: u64) -> SecretString {
    let resource = percent_encoded(resource);
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes()).expect("HMAC takes keys of any length");
    mac.update(resource.as_bytes());
    mac.update(b"\n");
    mac.update(unix_seconds.to_string().as_bytes());
    let signature = percent_encoded(&STANDARD.encode(mac.finalize().into_bytes()));
    let key_name = percent_encoded(key_name);
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={unix_seconds}&skn={key_name}").into()
}

/// The `se` of a ready token.
fn expiry(token: &str) -> Option<SystemTime> {
    let (_, parameters) = token.split_once(' ')?;
    let seconds = parameters.split('&').find_map(|parameter| parameter.strip_prefix("se="))?.parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Everything but RFC 3986's unreserved characters as `%XX`.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SharedAccess {
        SharedAccess::key("RootManageSharedAccessKey", "c2VjcmV0LWtleQ==".into()).expect("well formed")
    }

    /// Checked against another implementation. The signature is what this prints:
    /// ```text
    /// python3 -c "import hmac,hashlib,base64,urllib.parse as u; r=u.quote('sb://ns.servicebus.windows.net/orders',safe='');
    /// print(u.quote(base64.b64encode(hmac.new(b'c2VjcmV0LWtleQ==',(r+'\n1700003600').encode(),hashlib.sha256).digest()),safe=''))"
    /// ```
    #[test]
    fn a_token_is_what_another_implementation_signs() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let token = key().token("sb://ns.servicebus.windows.net/orders", now, TOKEN_LIFETIME);
        assert_eq!(
            token.text.expose_secret(),
            "SharedAccessSignature sr=sb%3A%2F%2Fns.servicebus.windows.net%2Forders\
             &sig=eUaaUFyLq7EO%2Bt3QCQyYAsnwCPn75RU89jjwRYWM5NU%3D&se=1700003600&skn=RootManageSharedAccessKey"
        );
        assert_eq!(token.expires, Some(now + TOKEN_LIFETIME));
    }

    /// As above, with a key and a resource outside ASCII: `r=u.quote('sb://h/käse 1',safe='')`, key `'schlüssel'.encode()`,
    /// expiry 60.
    #[test]
    fn keys_and_resources_are_utf8() {
        let token = sign("sb://h/käse 1", "a b", &"schlüssel".into(), 60);
        assert_eq!(
            token.expose_secret(),
            "SharedAccessSignature sr=sb%3A%2F%2Fh%2Fk%C3%A4se%201&sig=i%2FcMY6WmWOMtsWxtUam%2BulSWDlUuu7ZSBmM6im4Mnos%3D&se=60&skn=a%20b"
        );
    }

    #[test]
    fn a_ready_token_is_used_as_it_is_and_its_end_is_read() {
        let text = "SharedAccessSignature sr=x&sig=y&se=90&skn=n";
        let access = SharedAccess::signature(text.into()).expect("well formed");
        let token = access.token("sb://other", SystemTime::now(), TOKEN_LIFETIME);
        assert_eq!(token.text.expose_secret(), text);
        assert_eq!(token.expires, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(90)));
        for unreadable in
            ["SharedAccessSignature", "SharedAccessSignature se=", "SharedAccessSignature se=99999999999999999999"]
        {
            assert_eq!(expiry(unreadable), None, "{unreadable}");
        }
    }
}
