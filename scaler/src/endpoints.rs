//! Where credentials may be sent: every host comes from a caller's connection string, so each is checked against what
//! the operator of this scaler allows before a connection is opened. Default deny.
//!
//! Pure. Azure's own name spaces are always allowed, over TLS only. A loopback address is allowed in emulator mode (plain
//! HTTP) where everybody who can call the scaler is on this host too; otherwise a caller could make it send requests to
//! whatever listens beside it. Anything else must be listed with `--allow-endpoint HOST:PORT`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The DNS suffixes of Azure's clouds: public, US government, China, Germany. The same list as the built-in trigger's
/// `cloud` key (KEDA documentation, `azure-servicebus`).
pub const AZURE_SUFFIXES: [&str; 4] =
    ["servicebus.windows.net", "servicebus.usgovcloudapi.net", "servicebus.chinacloudapi.cn", "servicebus.cloudapi.de"];

/// A host and port that the operator allows beyond the defaults, such as `broker.tools.svc:5672`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is not HOST:PORT, such as broker.tools.svc:5672 or [::1]:5672");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        let bare = normal_host(host);
        let is_name = bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        if bare.is_empty() || !(is_name || bare.parse::<IpAddr>().is_ok()) {
            return Err(wrong());
        }
        Ok(Self { host: bare, port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

/// Where a connection string would make the scaler connect to, as far as the check needs it.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// Host of `Endpoint=`, without port or brackets.
    pub host: &'a str,
    /// The port that the administration requests go to.
    pub port: u16,
    /// Whether the connection string says `UseDevelopmentEmulator=true`, which means plain HTTP.
    pub plain: bool,
}

/// The connection string points at a host that this scaler may not send a credential to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "endpoint {endpoint} is not allowed: a credential goes only to NAMESPACE.{suffix} and its sovereign siblings over \
     TLS, to a loopback address with UseDevelopmentEmulator=true if the scaler itself listens on loopback, or to what \
     the scaler lists with --allow-endpoint {endpoint}",
    suffix = AZURE_SUFFIXES[0]
)]
pub struct EndpointRefused {
    /// `host:port` as it would have been dialled.
    pub endpoint: String,
}

/// The hosts that credentials may be sent to.
#[derive(Clone, Debug, Default)]
pub struct AllowedEndpoints {
    extra: BTreeSet<HostPort>,
    loopback: bool,
}

impl AllowedEndpoints {
    /// Azure and these.
    pub fn with(extra: impl IntoIterator<Item = HostPort>) -> Self {
        Self { extra: extra.into_iter().collect(), loopback: false }
    }

    /// Also loopback addresses in emulator mode, if `allowed`.
    #[must_use]
    pub fn and_loopback(self, allowed: bool) -> Self {
        Self { loopback: allowed, ..self }
    }

    /// Whether a credential may go there.
    pub fn check(&self, destination: Destination<'_>) -> Result<(), EndpointRefused> {
        let endpoint = HostPort { host: normal_host(destination.host), port: destination.port };
        let allowed =
            if destination.plain { self.loopback && is_loopback(&endpoint.host) } else { is_azure(&endpoint) };
        if allowed || self.extra.contains(&endpoint) {
            Ok(())
        } else {
            Err(EndpointRefused { endpoint: endpoint.to_string() })
        }
    }
}

/// Lower case, no brackets around an IPv6 address, no trailing dot: one spelling for one host.
fn normal_host(host: &str) -> String {
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase()
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `NAMESPACE.suffix` with a namespace name as Azure allows them (6 to 50 letters, digits and hyphens, a letter first;
/// a little shorter is let through, since old namespaces exist), on a port that speaks TLS.
fn is_azure(endpoint: &HostPort) -> bool {
    let namespace = AZURE_SUFFIXES.iter().find_map(|suffix| endpoint.host.strip_suffix(suffix)?.strip_suffix('.'));
    matches!(endpoint.port, 443 | 5671)
        && namespace.is_some_and(|name| {
            (1..=50).contains(&name.len())
                && name.starts_with(|first: char| first.is_ascii_alphabetic())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(host: &str, port: u16, plain: bool) -> bool {
        let allowed = AllowedEndpoints::with(["broker.tools.svc:5672".parse().expect("a valid endpoint")]);
        let allowed = allowed.and_loopback(true);
        allowed.check(Destination { host, port, plain }).is_ok()
    }

    #[test]
    fn azure_is_allowed_over_tls_and_nothing_that_merely_looks_like_it() {
        assert!(verdict("orders-prod.servicebus.windows.net", 443, false));
        assert!(verdict("Orders.ServiceBus.chinacloudapi.cn.", 5671, false));
        for (host, port, plain) in [
            ("orders.servicebus.windows.net", 443, true),
            ("orders.servicebus.windows.net", 80, false),
            ("servicebus.windows.net", 443, false),
            ("evil.example/orders.servicebus.windows.net", 443, false),
            ("evil@orders.servicebus.windows.net", 443, false),
            ("a.b.servicebus.windows.net", 443, false),
            ("orders.servicebus.windows.net.evil.example", 443, false),
            ("ordersservicebus.windows.net", 443, false),
            ("", 443, false),
        ] {
            assert!(!verdict(host, port, plain), "{host}:{port} plain={plain} must be refused");
        }
    }

    #[test]
    fn loopback_is_for_the_emulator_mode_and_the_rest_must_be_listed() {
        for host in ["127.0.0.1", "127.0.0.9", "localhost", "::1", "[::1]"] {
            assert!(verdict(host, 40_000, true), "{host}");
            assert!(!verdict(host, 443, false), "{host}");
        }
        assert!(verdict("broker.tools.svc", 5672, true));
        assert!(verdict("BROKER.tools.svc", 5672, false));
        assert!(!verdict("broker.tools.svc", 5673, true));
        assert!(!verdict("169.254.169.254", 80, true));
    }

    #[test]
    fn loopback_is_refused_where_strangers_can_call() {
        let destination = Destination { host: "127.0.0.1", port: 5672, plain: true };
        assert!(AllowedEndpoints::default().check(destination).is_err());
        let listed = AllowedEndpoints::with(["127.0.0.1:5672".parse().expect("a valid endpoint")]);
        assert_eq!(listed.check(destination), Ok(()));
    }

    #[test]
    fn the_refusal_says_how_to_allow_it() {
        let refused = AllowedEndpoints::default()
            .check(Destination { host: "fe80::1", port: 5300, plain: true })
            .expect_err("not loopback");
        assert!(refused.to_string().ends_with("--allow-endpoint [fe80::1]:5300"), "{refused}");
    }

    #[test]
    fn a_listed_endpoint_must_be_host_and_port() {
        for wrong in ["", "broker", "broker:", ":5672", "broker:0", "broker:70000", "http://broker:80", "a b:1"] {
            assert!(wrong.parse::<HostPort>().is_err(), "{wrong:?}");
        }
        assert_eq!("[::1]:5672".parse::<HostPort>().map(|endpoint| endpoint.to_string()), Ok("[::1]:5672".into()));
    }
}
