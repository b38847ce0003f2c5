//! Which identity, and what of it is missing or wrong. The environment is read here and nowhere else.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

use super::EntraError;

/// Azure's metadata service, at the same address on every virtual machine.
const METADATA_SERVICE: &str = "http://169.254.169.254";
/// Where Azure App Service, Functions and Container Apps have theirs; they set both.
const IDENTITY_ENDPOINT: &str = "IDENTITY_ENDPOINT";
const IDENTITY_HEADER: &str = "IDENTITY_HEADER";

/// Who we are in Entra.
#[derive(Clone)]
pub enum EntraIdentity {
    /// A Kubernetes service account that an application or a managed identity trusts ("workload identity").
    WorkloadIdentity {
        /// The tenant (directory).
        tenant_id: String,
        /// The application or the user-assigned managed identity.
        client_id: String,
        /// The file with the service account's token; read anew for every request.
        token_file: PathBuf,
    },
    /// The identity of the machine (or of the App Service) that this runs on.
    ManagedIdentity {
        /// A user-assigned one; `None` for the system-assigned one.
        client_id: Option<String>,
    },
    /// An application with a secret.
    ClientSecret {
        /// The tenant (directory).
        tenant_id: String,
        /// The application.
        client_id: String,
        /// Its secret.
        secret: SecretString,
    },
    /// An application with a certificate.
    ClientCertificate {
        /// The tenant (directory).
        tenant_id: String,
        /// The application.
        client_id: String,
        /// PEM: the certificate and its private key, RSA, PKCS#8 or PKCS#1.
        certificate: SecretString,
    },
}

impl EntraIdentity {
    /// A workload identity. What is not given is taken from `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and
    /// `AZURE_FEDERATED_TOKEN_FILE`, which Azure's webhook sets in pods. `AZURE_AUTHORITY_HOST` is left alone.
    pub fn workload_identity(
        tenant_id: Option<String>,
        client_id: Option<String>,
        token_file: Option<PathBuf>,
    ) -> Result<Self, EntraError> {
        // An empty variable is one that is not set, as manifests often have it.
        let or_from = |given: Option<String>, variable: &str| {
            given.or_else(|| std::env::var(variable).ok()).filter(|value| !value.is_empty())
        };
        let missing = |what, how| EntraError::Missing { identity: WORKLOAD_IDENTITY, what, how };
        let token_file = token_file
            .or_else(|| std::env::var_os("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from))
            .filter(|path| !path.as_os_str().is_empty());
        Ok(Self::WorkloadIdentity {
            tenant_id: or_from(tenant_id, "AZURE_TENANT_ID").ok_or_else(|| {
                missing("tenant id", "give it, or have AZURE_TENANT_ID set by the workload identity webhook")
            })?,
            client_id: or_from(client_id, "AZURE_CLIENT_ID").ok_or_else(|| {
                missing("client id", "give it, or have AZURE_CLIENT_ID set by the workload identity webhook")
            })?,
            token_file: token_file.ok_or_else(|| {
                missing(
                    "token file",
                    "give it, or have AZURE_FEDERATED_TOKEN_FILE set by the workload identity webhook",
                )
            })?,
        })
    }

    /// Which kind it is, in words.
    pub fn name(&self) -> &'static str {
        match self {
            Self::WorkloadIdentity { .. } => WORKLOAD_IDENTITY,
            Self::ManagedIdentity { .. } => MANAGED_IDENTITY,
            Self::ClientSecret { .. } => "the client secret identity",
            Self::ClientCertificate { .. } => "the client certificate identity",
        }
    }

    /// Checks what can be checked without asking.
    pub(super) fn check(&self) -> Result<(), EntraError> {
        let identity = self.name();
        let (tenant_id, client_id) = match self {
            Self::ManagedIdentity { client_id } => (None, client_id.as_ref()),
            Self::WorkloadIdentity { tenant_id, client_id, .. }
            | Self::ClientSecret { tenant_id, client_id, .. }
            | Self::ClientCertificate { tenant_id, client_id, .. } => (Some(tenant_id), Some(client_id)),
        };
        // The tenant becomes a part of a path.
        let is_tenant = |text: &String| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
        if tenant_id
            .is_some_and(|tenant| tenant.is_empty() || matches!(tenant.as_str(), "." | "..") || !is_tenant(tenant))
        {
            let allowed = "a GUID or a domain name of the tenant";
            return Err(EntraError::Invalid { identity, what: "tenant id", allowed });
        }
        if client_id.is_some_and(|client| client.is_empty() || !client.chars().all(|c| c.is_ascii_graphic())) {
            let allowed = "the GUID of an application or a managed identity";
            return Err(EntraError::Invalid { identity, what: "client id", allowed });
        }
        // It is logged where it cannot be read, so it must not be the token itself, which starts with no slash.
        if matches!(self, Self::WorkloadIdentity { token_file, .. } if !token_file.is_absolute()) {
            let allowed = "the absolute path of the file with the service account's token";
            return Err(EntraError::Invalid { identity, what: "token file", allowed });
        }
        if matches!(self, Self::ClientSecret { secret, .. } if secret.expose_secret().is_empty()) {
            let allowed = "the value of a client secret; it is empty";
            return Err(EntraError::Invalid { identity, what: "secret", allowed });
        }
        Ok(())
    }
}

const WORKLOAD_IDENTITY: &str = "the workload identity";
const MANAGED_IDENTITY: &str = "the managed identity";

impl fmt::Debug for EntraIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("EntraIdentity");
        shown.field("kind", &self.name());
        match self {
            Self::ManagedIdentity { client_id } => shown.field("client_id", client_id),
            Self::WorkloadIdentity { tenant_id, client_id, .. }
            | Self::ClientSecret { tenant_id, client_id, .. }
            | Self::ClientCertificate { tenant_id, client_id, .. } => {
                shown.field("tenant_id", tenant_id).field("client_id", client_id)
            }
        };
        shown.finish_non_exhaustive()
    }
}

/// Where managed identities get their tokens: scheme, host and port. Plain HTTP goes no further than this machine and its
/// host's link-local addresses.
pub(super) fn metadata_service() -> Result<Url, EntraError> {
    let text = match (std::env::var(IDENTITY_ENDPOINT), std::env::var(IDENTITY_HEADER)) {
        (Ok(endpoint), Ok(_)) => endpoint,
        _ => METADATA_SERVICE.to_owned(),
    };
    let invalid = || EntraError::Invalid {
        identity: MANAGED_IDENTITY,
        what: "IDENTITY_ENDPOINT",
        allowed: "the address of this machine's metadata service: http on a loopback or link-local address, or https",
    };
    let url = Url::parse(&text).map_err(|_| invalid())?;
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_near = host == "localhost"
        || address.is_ok_and(|address| match address {
            IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
            IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
        });
    match url.scheme() {
        "https" if !host.is_empty() => Ok(url),
        "http" if is_near => Ok(url),
        _ => Err(invalid()),
    }
}
