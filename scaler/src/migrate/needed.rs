//! The connections that the operator of the scaler must add before migrated triggers work, as YAML for its config file.
//!
//! Names and paths alone; a secret is where it was, and the comments say how it reaches the scaler.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::endpoints::is_private_cloud;
use crate::manifest::{in_one_line, quoted};

/// Where secret files are expected in the scaler's pod.
const SECRETS: &str = "/var/run/secrets/servicebus";
/// Stands for an authority that only the operator knows.
const UNKNOWN_AUTHORITY: &str = "https://login.replace-me.invalid";

/// The connections by name.
#[derive(Debug, Default)]
pub(crate) struct Needed(BTreeMap<String, Connection>);

#[derive(Debug)]
struct Connection {
    credential: Credential,
    /// Kubernetes namespaces.
    allowed: BTreeSet<String>,
    /// Service Bus namespaces.
    reached: BTreeSet<String>,
}

/// What a trigger read with until now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Credential {
    /// A connection string; the text says where from.
    ConnectionString {
        /// For the comment.
        from: String,
    },
    /// An identity in Entra.
    WorkloadIdentity {
        client_id: Option<String>,
        tenant_id: Option<String>,
        authority: Option<String>,
        cloud: Option<String>,
        endpoint_suffix: Option<String>,
    },
}

impl Needed {
    /// Whether there is nothing to add.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Asks for a connection, by this name unless another one has it, and returns its name.
    pub(super) fn ask(
        &mut self,
        name: &str,
        credential: &Credential,
        kubernetes_namespace: &str,
        service_bus_namespace: Option<&str>,
    ) -> String {
        let base: String = name
            .chars()
            .map(
                |letter| if letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_') { letter } else { '-' },
            )
            .take(240)
            .collect();
        let mut names = (1..).map(|number| if number == 1 { base.clone() } else { format!("{base}-{number}") });
        let is_free = |name: &String| self.0.get(name).is_none_or(|other| other.credential == *credential);
        let name = names.find(is_free).unwrap_or(base.clone());
        let connection = self.0.entry(name.clone()).or_insert_with(|| Connection {
            credential: credential.clone(),
            allowed: BTreeSet::new(),
            reached: BTreeSet::new(),
        });
        connection.allowed.insert(kubernetes_namespace.to_owned());
        connection.reached.extend(service_bus_namespace.map(str::to_owned));
        name
    }

    /// The part of the config file.
    pub(crate) fn yaml(&self) -> String {
        let mut text = String::from("connections:\n");
        for (name, connection) in &self.0 {
            connection.write(name, &mut text).expect("writing to a String does not fail");
        }
        text
    }
}

impl Connection {
    fn write(&self, name: &str, text: &mut String) -> std::fmt::Result {
        let list = |names: &BTreeSet<String>| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        writeln!(text, "  {}:", quoted(name))?;
        writeln!(text, "    allowedNamespaces: [{}]", list(&self.allowed))?;
        match &self.credential {
            Credential::ConnectionString { from } => {
                writeln!(text, "    # {}", in_one_line(from))?;
                writeln!(
                    text,
                    "    # Mount it as this file into the scaler's pod; a Secret must be in the scaler's namespace for that."
                )?;
                writeln!(text, "    connectionStringFile: {}", quoted(&format!("{SECRETS}/{name}")))?;
            }
            Credential::WorkloadIdentity { client_id, tenant_id, authority, cloud, endpoint_suffix } => {
                writeln!(
                    text,
                    "    # The identity must trust the scaler's own service account (a federated credential), whose pod needs"
                )?;
                writeln!(
                    text,
                    "    # the label azure.workload.identity/use: \"true\". Without clientId it is the service account's own."
                )?;
                if client_id.is_none() && tenant_id.is_none() {
                    writeln!(text, "    workloadIdentity: {{}}")?;
                } else {
                    writeln!(text, "    workloadIdentity:")?;
                }
                for (key, value) in [("clientId", client_id), ("tenantId", tenant_id)] {
                    if let Some(value) = value {
                        writeln!(text, "      {key}: {}", quoted(value))?;
                    }
                }
                writeln!(text, "    serviceBusNamespaces: [{}]", list(&self.reached))?;
                let is_private = cloud.as_deref().is_some_and(is_private_cloud);
                if let Some(cloud) = cloud {
                    writeln!(text, "    cloud: {}", quoted(cloud))?;
                }
                match (is_private, authority) {
                    (true, authority) => {
                        let suffix = endpoint_suffix.as_deref().unwrap_or_default();
                        writeln!(text, "    endpointSuffix: {}", quoted(suffix))?;
                        if authority.is_none() {
                            writeln!(text, "    # Replace it by the authority of that cloud.")?;
                        }
                        writeln!(text, "    authority: {}", quoted(authority.as_deref().unwrap_or(UNKNOWN_AUTHORITY)))?;
                        let suffix = in_one_line(suffix);
                        writeln!(text, "    # The scaler needs --allow-endpoint-suffix {suffix} as well.")?;
                    }
                    (false, Some(authority)) => {
                        let authority = in_one_line(authority);
                        writeln!(
                            text,
                            "    # identityAuthorityHost was {authority}: a cloud's own authority is the scaler's already."
                        )?;
                    }
                    (false, None) => {}
                }
            }
        }
        Ok(())
    }
}
