//! Where something listens: `HOST[:PORT]`, where HOST is a DNS name, an IPv4 address or a bracketed IPv6 address; in a
//! connection string's `Endpoint` written `sb://HOST[:PORT][/]`. Pure; nothing is resolved.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What is wrong with an `Endpoint`, as the end of a sentence. The value itself is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Another scheme or none.
    #[error("its scheme is not `sb`")]
    Scheme,
    /// No host, or characters that no host has.
    #[error("its host is neither a DNS name nor an IPv4 address nor an IPv6 address in brackets")]
    Host,
    /// Not a number, or out of range.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// More than a host and a port.
    #[error("something follows the host; an entity goes into EntityPath")]
    Path,
}

/// A host, lower-case, without a last dot and without the brackets of an IPv6 address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Host {
    text: String,
    is_ipv6: bool,
}

impl Host {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// As it stands in a URL.
    pub(crate) fn in_url(&self) -> String {
        if self.is_ipv6 { format!("[{}]", self.text) } else { self.text.clone() }
    }
}

/// The value of `Endpoint`.
pub(crate) fn parse(endpoint: &str) -> Result<(Host, Option<u16>), EndpointError> {
    let (scheme, rest) = endpoint.split_once("://").ok_or(EndpointError::Scheme)?;
    if !scheme.eq_ignore_ascii_case("sb") {
        return Err(EndpointError::Scheme);
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('/') {
        return Err(EndpointError::Path);
    }
    parse_authority(rest)
}

/// A host, with a port or without.
pub(crate) fn parse_authority(rest: &str) -> Result<(Host, Option<u16>), EndpointError> {
    let (host, port) = if let Some(bracketed) = rest.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']').ok_or(EndpointError::Host)?;
        let address: Ipv6Addr = address.parse().map_err(|_| EndpointError::Host)?;
        let port = match port {
            "" => None,
            port => Some(port.strip_prefix(':').ok_or(EndpointError::Port)?),
        };
        (Host { text: address.to_string(), is_ipv6: true }, port)
    } else {
        let (name, port) = match rest.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (rest, None),
        };
        if !is_host_name(name) {
            return Err(EndpointError::Host);
        }
        // A name with its last dot is the same host; one spelling, so that it is never taken for another one.
        let name = name.strip_suffix('.').unwrap_or(name);
        if ends_in_a_number(name) && name.parse::<Ipv4Addr>().is_err() {
            return Err(EndpointError::Host);
        }
        (Host { text: name.to_ascii_lowercase(), is_ipv6: false }, port)
    };
    Ok((host, port.map(parse_port).transpose()?))
}

fn parse_port(text: &str) -> Result<u16, EndpointError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(EndpointError::Port);
    }
    match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(EndpointError::Port),
    }
}

/// Where a URL takes the whole for an IPv4 address, in spellings of its own (`127.1`, `0x7f000001`; WHATWG URL, "ends in a
/// number checker"). No DNS name ends so.
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    match last.get(..2) {
        Some("0x" | "0X") => last.bytes().skip(2).all(|byte| byte.is_ascii_hexdigit()),
        _ => last.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// Labels of letters, digits, `-` and `_` (Docker Compose allows it), joined by dots; an IPv4 address has this form too.
fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}
