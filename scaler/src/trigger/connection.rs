//! What a trigger's metadata says about its connection: a connection string that KEDA resolved, or the name of one that the
//! operator of the scaler keeps.
//!
//! Says nothing of whether the name exists or the host may be called; that is [`crate::connections`]' part.

use std::collections::HashMap;

use servicebus::{Cloud, ConnectionString, ConnectionStringError};

use super::keys::{CLOUD, CONNECTION_FROM_ENV, CONNECTION_REF, ENDPOINT_SUFFIX, NAMESPACE};
use super::value::{shown, text, wrong};
use super::{TriggerError, Warning};
use crate::endpoints::{EndpointSuffix, is_connection_name, is_namespace_name, is_private_cloud};

/// How the trigger says where it reads and with which credential.
#[derive(Clone, Debug)]
pub enum Connection {
    /// By a variable of the scale target, whose value KEDA sent. A problem with it does not make the metadata unsound.
    FromEnvironment(Result<ConnectionString, ConnectionProblem>),
    /// By a name in the scaler's config file.
    Reference {
        /// The name.
        name: String,
        /// The Service Bus namespace, without suffix and of valid form, if the trigger says one.
        namespace: Option<String>,
        /// What follows the namespace's name, of valid form; none where the trigger does not say a cloud.
        endpoint_suffix: Option<String>,
    },
}

/// Why there is no connection string, though the metadata may be sound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionProblem {
    /// The key is not there: not written, or KEDA left it out.
    #[error(
        "metadata connectionFromEnv is missing: either the trigger does not name a variable, or KEDA could not resolve it. \
         KEDA looks in the environment of the scale target's container (its env and envFrom, and the Secrets and ConfigMaps \
         they name) and leaves out what it does not find. Or set connectionRef to a connection of the scaler's config file"
    )]
    Unresolved,
    /// The built-in trigger's way with pod identity, of which an external scaler never hears.
    #[error(
        "metadata namespace: {0:?} needs connectionRef: KEDA does not forward pod identity or a TriggerAuthentication to an \
         external scaler. Set connectionRef to a connection of the scaler's config file that allows this Kubernetes \
         namespace; `scaler check --migrate` prints one"
    )]
    NamespaceAlone(String),
    /// The value is no connection string.
    #[error("the connection string that KEDA resolved for connectionFromEnv cannot be used: {0}")]
    Invalid(ConnectionStringError),
}

/// Reads the keys of the connection.
pub(super) fn connection(
    metadata: &HashMap<String, String>,
    warnings: &mut Vec<Warning>,
) -> Result<Connection, TriggerError> {
    match (text(metadata, &CONNECTION_FROM_ENV), text(metadata, &CONNECTION_REF)) {
        (Some(_), Some(_)) => {
            Err(TriggerError::Exclusive { first: CONNECTION_FROM_ENV.name, second: CONNECTION_REF.name })
        }
        (None, Some(name)) => reference(metadata, name, warnings),
        (Some(value), None) => {
            // The built-in trigger, given a connection string, looks at none of them, not even at their form.
            let unused = [NAMESPACE, CLOUD, ENDPOINT_SUFFIX].into_iter().filter(|key| text(metadata, key).is_some());
            warnings.extend(unused.map(|key| Warning::WithoutEffect {
                key: key.name,
                why: "the connection string says where to read; it counts only with connectionRef",
            }));
            Ok(Connection::FromEnvironment(ConnectionString::parse(value).map_err(ConnectionProblem::Invalid)))
        }
        (None, None) => Ok(Connection::FromEnvironment(Err(match text(metadata, &NAMESPACE) {
            Some(namespace) => ConnectionProblem::NamespaceAlone(shown(namespace)),
            None => ConnectionProblem::Unresolved,
        }))),
    }
}

fn reference(
    metadata: &HashMap<String, String>,
    name: &str,
    warnings: &mut Vec<Warning>,
) -> Result<Connection, TriggerError> {
    if !is_connection_name(name) {
        return Err(wrong(&CONNECTION_REF, name));
    }
    let namespace = match text(metadata, &NAMESPACE) {
        Some(namespace) if !is_namespace_name(namespace) => return Err(wrong(&NAMESPACE, namespace)),
        namespace => namespace.map(str::to_owned),
    };
    let is_private = text(metadata, &CLOUD).is_some_and(is_private_cloud);
    if !is_private && text(metadata, &ENDPOINT_SUFFIX).is_some() {
        let why = "it counts only with cloud: Private";
        warnings.push(Warning::WithoutEffect { key: ENDPOINT_SUFFIX.name, why });
    }
    Ok(Connection::Reference { name: name.to_owned(), namespace, endpoint_suffix: endpoint_suffix(metadata)? })
}

fn endpoint_suffix(metadata: &HashMap<String, String>) -> Result<Option<String>, TriggerError> {
    let Some(cloud) = text(metadata, &CLOUD) else { return Ok(None) };
    if is_private_cloud(cloud) {
        let Some(suffix) = text(metadata, &ENDPOINT_SUFFIX) else {
            return Err(TriggerError::missing(&ENDPOINT_SUFFIX, metadata));
        };
        let suffix: EndpointSuffix = suffix.parse().map_err(|_| wrong(&ENDPOINT_SUFFIX, suffix))?;
        return Ok(Some(suffix.to_string()));
    }
    let known = Cloud::named(cloud);
    known.map(|known| Some(known.endpoint_suffix().to_owned())).ok_or_else(|| wrong(&CLOUD, cloud))
}
