//! Where the administration API of a namespace is: host, port, TLS or plain.
//!
//! From a connection string, or from a fully qualified name where the credential comes from elsewhere. Pure: whether a
//! credential may be sent there is for the caller to decide, before a client is made.

use std::fmt;
use std::str::FromStr;

use crate::ConnectionString;
use crate::endpoint::{self, Host};

/// HTTPS, where no port is named.
const HTTPS_PORT: u16 = 443;

/// The address of a namespace's administration API.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Namespace {
    host: Host,
    administration_port: u16,
    plain: bool,
}

/// Not the name of a namespace. The text is not shown, as it may be a whole connection string in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a namespace must be HOST or HOST:PORT, such as orders-prod.servicebus.windows.net")]
pub struct NamespaceError;

impl Namespace {
    pub(crate) fn new(host: Host, port: Option<u16>, plain: bool) -> Self {
        Self { host, administration_port: port.unwrap_or(HTTPS_PORT), plain }
    }

    /// A fully qualified name, with a port or without (443), over TLS.
    pub fn parse(text: &str) -> Result<Self, NamespaceError> {
        let (host, port) = endpoint::parse_authority(text.trim()).map_err(|_| NamespaceError)?;
        Ok(Self::new(host, port, false))
    }

    /// The same over plain HTTP, for a broker or emulator on this host: the credential crosses the wire readable.
    #[must_use]
    pub fn over_plain_http(self) -> Self {
        Self { plain: true, ..self }
    }

    /// The host alone, lower-case; an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        self.host.as_str()
    }

    /// The port of the administration API.
    pub fn administration_port(&self) -> u16 {
        self.administration_port
    }

    /// Whether it is plain HTTP rather than HTTPS.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// The address of the administration API without a path, such as `https://ns.servicebus.windows.net:443`.
    pub fn administration_url(&self) -> String {
        let scheme = if self.plain { "http" } else { "https" };
        format!("{scheme}://{self}")
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host.in_url(), self.administration_port)
    }
}

impl FromStr for Namespace {
    type Err = NamespaceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl From<&ConnectionString> for Namespace {
    fn from(connection: &ConnectionString) -> Self {
        connection.namespace()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_host_and_perhaps_a_port() {
        for (text, url) in [
            ("orders-prod.servicebus.windows.net", "https://orders-prod.servicebus.windows.net:443"),
            (" Orders-Prod.servicebus.windows.net ", "https://orders-prod.servicebus.windows.net:443"),
            ("localhost:5300", "https://localhost:5300"),
            ("[::1]:5300", "https://[::1]:5300"),
        ] {
            assert_eq!(Namespace::parse(text).map(|namespace| namespace.administration_url()), Ok(url.to_owned()));
        }
        let plain = Namespace::parse("127.0.0.1:5300").expect("an address").over_plain_http();
        assert_eq!(plain.administration_url(), "http://127.0.0.1:5300");
        for text in ["", "sb://h", "h/", "h/q", "h:0", "h:port", "a b", "user@h", "h?x=y", "Endpoint=sb://h"] {
            assert_eq!(Namespace::parse(text), Err(NamespaceError), "{text:?}");
        }
        // To a URL these are IPv4 addresses in another spelling, or none.
        for text in ["127.1", "2130706433", "0x7f000001", "127.0.0.0X1", "h.0x", "010.0.0.1.", "1.2.3.4.5", "h.256"] {
            assert_eq!(Namespace::parse(text), Err(NamespaceError), "{text:?}");
        }
        for text in ["127.0.0.1", "1.h", "h1", "0xh", "1a", "h.0xg"] {
            let namespace = Namespace::parse(text).expect("a host");
            let url = reqwest::Url::parse(&namespace.administration_url()).expect("a URL");
            assert_eq!(url.host_str(), Some(text), "one spelling");
        }
    }
}
