//! Where credentials may be sent: every host comes from a caller's words, so each is checked against what the operator of
//! this scaler allows before a connection is opened, for SAS as for Entra. Default deny.
//!
//! Pure. Azure's own name spaces are always allowed, over TLS on port 443 only; other suffixes (a private cloud's) by
//! `--allow-endpoint-suffix`. A loopback address is allowed in emulator mode (plain HTTP) where everybody who can call the
//! scaler is on this host too; otherwise a caller could make it send requests to whatever listens beside it. Anything else
//! must be listed with `--allow-endpoint HOST:PORT`. That no redirect is followed is the administration client's part.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use servicebus::Cloud;

mod flags;

pub use flags::EndpointArgs;

/// A DNS suffix whose namespaces the operator allows beside Azure's, such as `servicebus.region.stack.example`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointSuffix(String);

impl FromStr for EndpointSuffix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let suffix = text.to_ascii_lowercase();
        let labels: Vec<_> = suffix.split('.').collect();
        let is_label = |label: &&str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // Two labels at least: one alone would be a whole top-level domain. Its last has a letter: it is no address.
        let is_name = labels.len() >= 2 && suffix.len() <= 200 && labels.iter().all(is_label);
        let is_address = labels.last().is_none_or(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if is_name && !is_address {
            Ok(Self(suffix))
        } else {
            Err(format!("{text:?} is not a DNS suffix of two labels or more, such as servicebus.region.stack.example"))
        }
    }
}

impl fmt::Display for EndpointSuffix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

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

/// The port that the administration API has on Azure.
const HTTPS_PORT: u16 = 443;

/// Where a credential would be sent, as far as the check needs it.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// The host, without port or brackets.
    pub host: &'a str,
    /// The port that the administration requests go to.
    pub port: u16,
    /// Whether it is plain HTTP: the connection string says `UseDevelopmentEmulator=true`.
    pub plain: bool,
}

/// A credential would go to a host that this scaler may not send one to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "endpoint {endpoint} is not allowed: a credential goes only to NAMESPACE.{suffix} and its sovereign siblings over \
     TLS on port 443, to the suffixes that the scaler lists with --allow-endpoint-suffix, to a loopback address with \
     UseDevelopmentEmulator=true if the scaler itself listens on loopback, or to what the scaler lists with \
     --allow-endpoint {endpoint}",
    suffix = Cloud::Public.endpoint_suffix()
)]
pub struct EndpointRefused {
    /// `host:port` as it would have been dialled.
    pub endpoint: String,
}

/// The hosts that credentials may be sent to.
#[derive(Clone, Debug, Default)]
pub struct AllowedEndpoints {
    extra: BTreeSet<HostPort>,
    suffixes: BTreeSet<EndpointSuffix>,
    loopback: bool,
}

impl AllowedEndpoints {
    /// Azure and these.
    pub fn with(extra: impl IntoIterator<Item = HostPort>) -> Self {
        Self { extra: extra.into_iter().collect(), ..Self::default() }
    }

    /// Also the namespaces below these suffixes.
    #[must_use]
    pub fn and_suffixes(mut self, suffixes: impl IntoIterator<Item = EndpointSuffix>) -> Self {
        self.suffixes.extend(suffixes);
        self
    }

    /// Also loopback addresses in emulator mode, if `allowed`.
    #[must_use]
    pub fn and_loopback(self, allowed: bool) -> Self {
        Self { loopback: allowed, ..self }
    }

    /// Whether a credential may go there.
    pub fn check(&self, destination: Destination<'_>) -> Result<(), EndpointRefused> {
        let endpoint = HostPort { host: normal_host(destination.host), port: destination.port };
        let allowed = if destination.plain {
            self.loopback && is_loopback(&endpoint.host)
        } else {
            endpoint.port == HTTPS_PORT && self.is_namespace(&endpoint.host)
        };
        if allowed || self.extra.contains(&endpoint) {
            Ok(())
        } else {
            Err(EndpointRefused { endpoint: endpoint.to_string() })
        }
    }

    /// `NAMESPACE.suffix`, with a suffix of a cloud or of the operator's list.
    fn is_namespace(&self, host: &str) -> bool {
        let name_before = |suffix: &str| host.strip_suffix(suffix)?.strip_suffix('.');
        let of_azure = Cloud::ALL.into_iter().find_map(|cloud| name_before(cloud.endpoint_suffix()));
        let listed = || self.suffixes.iter().find_map(|suffix| name_before(&suffix.0));
        of_azure.or_else(listed).is_some_and(is_namespace_name)
    }
}

/// KEDA's name for a cloud that is not one of Azure's, whose suffix is said beside it (its
/// `pkg/scalers/azure/azure_cloud_environment.go`).
pub(crate) const PRIVATE_CLOUD: &str = "Private";

/// Whether it is that cloud's name.
pub(crate) fn is_private_cloud(name: &str) -> bool {
    name.eq_ignore_ascii_case(PRIVATE_CLOUD)
}

/// Whether it can be the name of a connection in the config file, which `connectionRef` says.
pub(crate) fn is_connection_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=253).contains(&name.len()) && name.bytes().all(is_allowed)
}

/// Whether it can be the name of a Service Bus namespace: letters, digits and hyphens, a letter first, no hyphen last, at
/// most 50. New ones have 6 or more; shorter ones are let through, since old namespaces exist ("Create or update a
/// namespace" in the Service Bus REST reference).
pub fn is_namespace_name(name: &str) -> bool {
    (1..=50).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && !name.ends_with('-')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Lower case, no brackets around an IPv6 address, no trailing dot: one spelling for one host.
fn normal_host(host: &str) -> String {
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase()
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
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
        assert!(verdict("Orders.ServiceBus.chinacloudapi.cn.", 443, false));
        for (host, port, plain) in [
            ("orders.servicebus.windows.net", 443, true),
            ("orders.servicebus.windows.net", 80, false),
            ("orders.servicebus.windows.net", 5671, false),
            ("orders-.servicebus.windows.net", 443, false),
            ("1orders.servicebus.windows.net", 443, false),
            (".servicebus.windows.net", 443, false),
            ("orders.servicebus.stack.example", 443, false),
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
    fn a_listed_suffix_allows_its_namespaces_alone() {
        let allowed = AllowedEndpoints::default().and_suffixes(["SB.stack.example".parse().expect("a suffix")]);
        let verdict = |host, port, plain| allowed.check(Destination { host, port, plain }).is_ok();
        assert!(verdict("orders.sb.stack.example", 443, false));
        for (host, port, plain) in [
            ("orders.sb.stack.example", 443, true),
            ("orders.sb.stack.example", 8443, false),
            ("sb.stack.example", 443, false),
            ("orderssb.stack.example", 443, false),
            ("a.b.sb.stack.example", 443, false),
            ("orders.sb.stack.example.evil.example", 443, false),
        ] {
            assert!(!verdict(host, port, plain), "{host}:{port} plain={plain} must be refused");
        }
        for wrong in
            ["", "net", ".sb.example", "sb.example.", "sb..example", "*.example", "10.0.0.1", "sb_1.example", "a b.c"]
        {
            assert!(wrong.parse::<EndpointSuffix>().is_err(), "{wrong:?}");
        }
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
