//! The registry of the config file: credentials by name, and who may use each for what. Names and paths, no secrets;
//! `credentials` reads the files.
//!
//! Default deny: a connection names the Kubernetes namespaces that may use it, and an Entra identity the Service Bus
//! namespaces that its token may be sent to. "All" must be written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use servicebus::{Authority, Cloud};

use super::Config;
use crate::endpoints::{EndpointSuffix, PRIVATE_CLOUD, is_connection_name, is_namespace_name, is_private_cloud};

/// What stands for everything, where it stands alone.
const ANY: &str = "*";
const KINDS: &str = "connectionStringFile, workloadIdentity, managedIdentity, clientSecret, clientCertificate";

/// A credential under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredConnection {
    /// The Kubernetes namespaces whose triggers may use it.
    pub allowed_namespaces: Names,
    /// Where the credential comes from.
    pub source: CredentialSource,
    /// Where an Entra identity's token may be sent; `None` for a connection string, which says so itself.
    pub reach: Option<Reach>,
}

/// Where a credential comes from. Credentials of equal sources are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CredentialSource {
    /// The file that holds a connection string.
    ConnectionString(PathBuf),
    /// An identity in Entra.
    Identity {
        /// Which.
        identity: Identity,
        /// Who gives its tokens.
        authority: Authority,
    },
}

/// An identity in Entra. What is `None` comes from the environment or is not needed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A Kubernetes service account.
    Workload {
        /// The tenant.
        tenant_id: Option<String>,
        /// The application or user-assigned identity.
        client_id: Option<String>,
        /// The file with the service account's token.
        token_file: Option<PathBuf>,
    },
    /// The machine's.
    Managed {
        /// A user-assigned one.
        client_id: Option<String>,
    },
    /// An application with a secret.
    ClientSecret {
        /// The tenant.
        tenant_id: String,
        /// The application.
        client_id: String,
        /// The file with the secret.
        secret_file: PathBuf,
    },
    /// An application with a certificate.
    ClientCertificate {
        /// The tenant.
        tenant_id: String,
        /// The application.
        client_id: String,
        /// The file with certificate and key, PEM.
        certificate_file: PathBuf,
    },
}

/// The Service Bus namespaces of one cloud that a token may be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Their names, without suffix.
    pub namespaces: Names,
    /// The cloud's suffix, lower-case.
    pub endpoint_suffix: String,
}

/// Names, or explicitly all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// Every name.
    Any,
    /// These; never empty.
    These(BTreeSet<String>),
}

impl Names {
    /// Whether this name is among them.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(names) => names.contains(name),
        }
    }

    /// The name, if there is exactly one.
    pub fn only(&self) -> Option<&str> {
        match self {
            Self::These(names) if names.len() == 1 => names.first().map(String::as_str),
            _ => None,
        }
    }

    fn parse(
        key: &str,
        texts: Option<Vec<String>>,
        is_name: impl Fn(&str) -> bool,
        allowed: &str,
    ) -> Result<Self, String> {
        let texts = texts.ok_or_else(|| format!("{key} is missing: list {allowed}"))?;
        if texts == [ANY] {
            return Ok(Self::Any);
        }
        if texts.is_empty() {
            return Err(format!("{key} is empty, so nobody could use it: list {allowed}"));
        }
        match texts.iter().find(|text| !is_name(text)) {
            None => Ok(Self::These(texts.into_iter().collect())),
            Some(wrong) if wrong == ANY => Err(format!("{key}: \"*\" must stand alone: it is everything already")),
            Some(wrong) => Err(format!("{key}: {} is not {allowed}", shown(wrong))),
        }
    }
}

impl CredentialSource {
    /// The file whose content is (part of) the credential. A service account's token is not: its owner reads it anew for
    /// every request.
    pub fn secret_file(&self) -> Option<&Path> {
        match self {
            Self::ConnectionString(file)
            | Self::Identity { identity: Identity::ClientSecret { secret_file: file, .. }, .. }
            | Self::Identity { identity: Identity::ClientCertificate { certificate_file: file, .. }, .. } => Some(file),
            Self::Identity { identity: Identity::Workload { .. } | Identity::Managed { .. }, .. } => None,
        }
    }
}

/// One entry, key for key.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ConnectionText {
    allowed_namespaces: Option<Vec<String>>,
    connection_string_file: Option<PathBuf>,
    workload_identity: Option<WorkloadIdentityText>,
    managed_identity: Option<ManagedIdentityText>,
    client_secret: Option<ClientSecretText>,
    client_certificate: Option<ClientCertificateText>,
    service_bus_namespaces: Option<Vec<String>>,
    cloud: Option<String>,
    endpoint_suffix: Option<String>,
    authority: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WorkloadIdentityText {
    tenant_id: Option<String>,
    client_id: Option<String>,
    token_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ManagedIdentityText {
    client_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClientSecretText {
    tenant_id: String,
    client_id: String,
    secret_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClientCertificateText {
    tenant_id: String,
    client_id: String,
    certificate_file: PathBuf,
}

/// Checks one entry. The error names the key and what is allowed.
pub(super) fn registered(name: &str, text: ConnectionText) -> Result<RegisteredConnection, String> {
    checked(name, text).map_err(|problem| format!("connections.{}: {problem}", shown(name)))
}

fn checked(name: &str, text: ConnectionText) -> Result<RegisteredConnection, String> {
    let ConnectionText {
        allowed_namespaces,
        connection_string_file,
        workload_identity,
        managed_identity,
        client_secret,
        client_certificate,
        service_bus_namespaces,
        cloud,
        endpoint_suffix,
        authority,
    } = text;
    if !is_connection_name(name) {
        return Err("its name is not 1 to 253 letters, digits, periods, hyphens and underscores".to_owned());
    }
    let allowed = "exact names of Kubernetes namespaces, or \"*\" alone for all";
    let allowed_namespaces = Names::parse("allowedNamespaces", allowed_namespaces, is_kubernetes_name, allowed)?;
    let identity =
        match (connection_string_file, workload_identity, managed_identity, client_secret, client_certificate) {
            (Some(file), None, None, None, None) => {
                let others = [
                    ("serviceBusNamespaces", service_bus_namespaces.is_some()),
                    ("cloud", cloud.is_some()),
                    ("endpointSuffix", endpoint_suffix.is_some()),
                    ("authority", authority.is_some()),
                ];
                if let Some((key, _)) = others.into_iter().find(|(_, is_given)| *is_given) {
                    return Err(format!(
                        "{key} is for Entra identities: a connection string says itself where it goes"
                    ));
                }
                let source = CredentialSource::ConnectionString(path("connectionStringFile", file)?);
                return Ok(RegisteredConnection { allowed_namespaces, source, reach: None });
            }
            (None, Some(WorkloadIdentityText { tenant_id, client_id, token_file }), None, None, None) => {
                let token_file = token_file.map(|file| path("workloadIdentity.tokenFile", file)).transpose()?;
                Identity::Workload { tenant_id, client_id, token_file }
            }
            (None, None, Some(ManagedIdentityText { client_id }), None, None) => Identity::Managed { client_id },
            (None, None, None, Some(ClientSecretText { tenant_id, client_id, secret_file }), None) => {
                let secret_file = path("clientSecret.secretFile", secret_file)?;
                Identity::ClientSecret { tenant_id, client_id, secret_file }
            }
            (None, None, None, None, Some(ClientCertificateText { tenant_id, client_id, certificate_file })) => {
                let certificate_file = path("clientCertificate.certificateFile", certificate_file)?;
                Identity::ClientCertificate { tenant_id, client_id, certificate_file }
            }
            _ => return Err(format!("it must have exactly one of {KINDS}")),
        };
    let allowed = "names of Service Bus namespaces without suffix, or \"*\" alone for all of the cloud";
    let namespaces = Names::parse("serviceBusNamespaces", service_bus_namespaces, is_namespace_name, allowed)?;
    let namespaces = match namespaces {
        Names::These(names) => Names::These(names.into_iter().map(|name| name.to_ascii_lowercase()).collect()),
        Names::Any => Names::Any,
    };
    let (endpoint_suffix, authority) = place(cloud.as_deref(), endpoint_suffix, authority)?;
    let reach = Some(Reach { namespaces, endpoint_suffix });
    Ok(RegisteredConnection { allowed_namespaces, source: CredentialSource::Identity { identity, authority }, reach })
}

/// Suffix and authority: the cloud's, or a private one's own.
fn place(
    cloud: Option<&str>,
    suffix: Option<String>,
    authority: Option<String>,
) -> Result<(String, Authority), String> {
    let cloud = cloud.unwrap_or(Cloud::default().name());
    if is_private_cloud(cloud) {
        let missing =
            |key| move || format!("{key} is missing: cloud {PRIVATE_CLOUD} needs endpointSuffix and authority");
        let suffix: EndpointSuffix = suffix
            .ok_or_else(missing("endpointSuffix"))?
            .parse()
            .map_err(|problem| format!("endpointSuffix: {problem}"))?;
        let authority = Authority::parse(&authority.ok_or_else(missing("authority"))?)
            .map_err(|problem| format!("authority: {problem}"))?;
        return Ok((suffix.to_string(), authority));
    }
    let known = Cloud::named(cloud).ok_or_else(|| {
        format!("cloud: {} is not one of {}, {PRIVATE_CLOUD}", shown(cloud), Cloud::ALL.map(Cloud::name).join(", "))
    })?;
    for (key, value) in [("endpointSuffix", &suffix), ("authority", &authority)] {
        if value.is_some() {
            return Err(format!("{key} is for cloud {PRIVATE_CLOUD} alone: {} has its own", known.name()));
        }
    }
    Ok((known.endpoint_suffix().to_owned(), known.into()))
}

/// A path that is meant as one. Its value is not shown: what is no path may be the secret itself. Absolute, since a client
/// secret and a JWT have only characters that a path may have, but start with no slash; the base64 of a key may, and ends
/// with `=`.
fn path(key: &str, path: PathBuf) -> Result<PathBuf, String> {
    let text = path.to_string_lossy();
    if !path.is_absolute() || text.contains(['\n', ';', '=']) || text.contains("-----BEGIN") {
        return Err(format!(
            "{key} must be the absolute path of a file that holds the secret, not the secret itself (no `=`, no `;`, one \
             line)"
        ));
    }
    Ok(path)
}

/// Without client certificates the namespace in a call is whatever its caller writes, and `allowedNamespaces` keeps honest
/// callers apart, not strangers. Worth a warning as soon as there is a connection to protect.
pub(crate) fn say_what_cannot_be_known(config: &Config) {
    let text =
        "client certificates are not checked (--tls-client-ca): the namespace in a call is only its caller's claim";
    if config.connections.is_empty() {
        tracing::info!("{text}");
    } else {
        tracing::warn!("{text}, so whoever reaches this port can use the connections of any namespace");
    }
}

/// A DNS label, as Kubernetes wants the names of namespaces.
pub(crate) fn is_kubernetes_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Quoted, and cut when long.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(64).collect::<String>())
}
