//! `TriggerAuthentication`s of a file: what the built-in trigger got from them, and what of it reaches an external scaler.
//!
//! KEDA's `apis/keda/v1alpha1/triggerauthentication_types.go`, field for field as far as Service Bus is concerned. Plain
//! data; nothing secret is in these objects.

use crate::manifest::Node;
use crate::scaled_object::WrittenTrigger;

/// The parameter that holds the built-in trigger's connection string.
pub(crate) const CONNECTION: &str = "connection";
/// The parameters that KEDA's own client of an external scaler reads (`pkg/scalers/external_scaler.go`).
pub(crate) const TLS_PARAMETERS: [&str; 3] = ["caCert", "tlsClientCert", "tlsClientKey"];

/// A `TriggerAuthentication` or `ClusterTriggerAuthentication`.
#[derive(Clone, Debug)]
pub(crate) struct Authentication {
    /// Whether it is for every namespace.
    pub is_cluster_wide: bool,
    /// Its name.
    pub name: String,
    /// Its namespace, when the file names one.
    pub namespace: Option<String>,
    /// Its parameters, in order.
    pub parameters: Vec<Parameter>,
    /// Its pod identity, unless that is `none`.
    pub pod_identity: Option<PodIdentity>,
}

/// One parameter and where its value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    /// Its name.
    pub name: String,
    /// Where from.
    pub source: Source,
}

/// Where a parameter's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A Secret.
    Secret {
        /// Its name.
        name: String,
        /// The key in it.
        key: String,
    },
    /// A `ConfigMap`.
    ConfigMap {
        /// Its name.
        name: String,
        /// The key in it.
        key: String,
    },
    /// A variable of a container of the scale target.
    Environment {
        /// The variable.
        name: String,
        /// The container, unless it is the default one.
        container: Option<String>,
    },
    /// Anything else, by the name of its field, such as `azureKeyVault`.
    Elsewhere(&'static str),
}

/// Who the operator, or the target, is to Azure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodIdentity {
    /// `azure-workload` is the one that Service Bus takes.
    pub provider: String,
    /// The client id, unless it is KEDA's own.
    pub identity_id: Option<String>,
    /// The tenant, unless it is KEDA's own.
    pub tenant_id: Option<String>,
    /// Who gives the tokens, unless it is Azure's default.
    pub authority_host: Option<String>,
}

/// What a trigger says about its authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    /// The name.
    pub name: &'a str,
    /// Whether it names a `ClusterTriggerAuthentication`.
    pub is_cluster_wide: bool,
}

impl Authentication {
    /// Reads one, unless the object is of another kind.
    pub(crate) fn of(node: &Node) -> Option<Self> {
        let is_cluster_wide = match node.text("kind")? {
            "TriggerAuthentication" => false,
            "ClusterTriggerAuthentication" => true,
            _ => return None,
        };
        let metadata = |key: &str| node.at(&["metadata", key]).and_then(Node::as_text).map(str::to_owned);
        let spec = node.get("spec");
        let field = |key: &str| spec.and_then(|spec| spec.get(key));
        let listed = |key: &str| field(key).map(Node::items).unwrap_or_default();
        let text = |item: &Node, key: &str| item.text(key).unwrap_or_default().to_owned();
        let mut parameters = Vec::new();
        for item in listed("secretTargetRef") {
            let source = Source::Secret { name: text(item, "name"), key: text(item, "key") };
            parameters.push(Parameter { name: text(item, "parameter"), source });
        }
        for item in listed("configMapTargetRef") {
            let source = Source::ConfigMap { name: text(item, "name"), key: text(item, "key") };
            parameters.push(Parameter { name: text(item, "parameter"), source });
        }
        for item in listed("env") {
            let container = item.text("containerName").filter(|name| !name.is_empty()).map(str::to_owned);
            let source = Source::Environment { name: text(item, "name"), container };
            parameters.push(Parameter { name: text(item, "parameter"), source });
        }
        for (vault, parts) in [
            ("azureKeyVault", "secrets"),
            ("hashiCorpVault", "secrets"),
            ("gcpSecretManager", "secrets"),
            ("awsSecretManager", "secrets"),
        ] {
            for item in field(vault).and_then(|field| field.get(parts)).map(Node::items).unwrap_or_default() {
                parameters.push(Parameter { name: text(item, "parameter"), source: Source::Elsewhere(vault) });
            }
        }
        for item in listed("boundServiceAccountToken") {
            let source = Source::Elsewhere("boundServiceAccountToken");
            parameters.push(Parameter { name: text(item, "parameter"), source });
        }
        let pod_identity = field("podIdentity").and_then(|identity| {
            let own = |key: &str| identity.text(key).filter(|text| !text.is_empty()).map(str::to_owned);
            let provider = own("provider").filter(|provider| provider != "none")?;
            Some(PodIdentity {
                provider,
                identity_id: own("identityId"),
                tenant_id: own("identityTenantId"),
                authority_host: own("identityAuthorityHost"),
            })
        });
        Some(Self {
            is_cluster_wide,
            name: metadata("name").unwrap_or_default(),
            namespace: metadata("namespace"),
            parameters,
            pod_identity,
        })
    }

    /// Where a parameter comes from.
    pub(crate) fn source(&self, parameter: &str) -> Option<&Source> {
        self.parameters.iter().find(|own| own.name == parameter).map(|own| &own.source)
    }
}

impl<'a> Reference<'a> {
    /// What a trigger's `authenticationRef` says.
    pub(crate) fn of(trigger: &'a WrittenTrigger) -> Option<Self> {
        let reference = trigger.node.get("authenticationRef")?;
        Some(Self {
            name: reference.text("name").unwrap_or_default(),
            is_cluster_wide: reference.text("kind") == Some("ClusterTriggerAuthentication"),
        })
    }

    /// The one it names, for an object in this namespace. A file without namespaces is applied to one.
    pub(crate) fn find<'b>(&self, all: &'b [Authentication], namespace: Option<&str>) -> Option<&'b Authentication> {
        all.iter().find(|authentication| {
            let is_near = match (&authentication.namespace, namespace) {
                (Some(theirs), Some(ours)) => theirs == ours,
                _ => true,
            };
            authentication.name == self.name
                && authentication.is_cluster_wide == self.is_cluster_wide
                && (self.is_cluster_wide || is_near)
        })
    }
}
