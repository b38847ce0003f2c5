//! What several administration clients have in common: HTTP connections and the TLS set-up, for which all root certificates
//! are read. A program with many credentials makes one of these, not one set-up for each.

use std::error::Error;
use std::sync::{Arc, OnceLock};

use reqwest::{Client, redirect};

use super::http::Exchange;
use super::{AdministrationClient, AdministrationError, AdministrationOptions};
use crate::{Credential, Namespace, tls};

/// Connections to one host that are kept open for the next requests; more of them are closed when their answers are in. Enough for
/// what a namespace's budget allows, and few enough for many namespaces.
const MAX_IDLE_CONNECTIONS: usize = 4;

/// Makes administration clients that share their HTTP connections. Cheap to clone; clones share, too. Holds no credential.
#[derive(Clone, Debug, Default)]
pub struct AdministrationClients(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    options: AdministrationOptions,
    /// Set up when first needed: an image without root certificates can still speak plain HTTP.
    over_tls: OnceLock<Client>,
    plain: OnceLock<Client>,
}

impl AdministrationClients {
    /// None yet. Each will have these options.
    pub fn new(options: AdministrationOptions) -> Self {
        Self(Arc::new(Shared { options, ..Shared::default() }))
    }

    /// A client for a namespace and a credential for it. Dials nothing yet; whether the credential may be sent to this host
    /// is for the caller to have checked.
    pub fn connect(
        &self,
        namespace: Namespace,
        credential: Credential,
    ) -> Result<AdministrationClient, AdministrationError> {
        let Shared { options, over_tls, plain } = &*self.0;
        let slot = if namespace.is_plain() { plain } else { over_tls };
        let http = if let Some(http) = slot.get() {
            http.clone()
        } else {
            let made = set_up(namespace.is_plain(), options).map_err(AdministrationError::Tls)?;
            // Of two made at the same time, both use the first.
            slot.get_or_init(|| made).clone()
        };
        Ok(AdministrationClient(Arc::new(Exchange::new(http, namespace, credential, options.clone())?)))
    }
}

fn set_up(is_plain: bool, options: &AdministrationOptions) -> Result<Client, Box<dyn Error + Send + Sync>> {
    let tls = if is_plain { tls::no_roots() } else { tls::trusting(&options.extra_roots) }?;
    let builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
        // A request that timed out takes its connection with it. One HTTP/2 connection for all that fell silent would
        // be used again and again, until TCP gives it up after a quarter of an hour.
        .http1_only();
    Ok(builder.build()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConnectionString;

    #[test]
    fn plain_and_tls_are_set_up_once_each_and_only_when_needed() {
        let clients = AdministrationClients::default();
        let connect = |text: &str| {
            let connection = ConnectionString::parse(text).expect("well formed");
            clients.connect(connection.namespace(), (&connection).into()).expect("plain HTTP")
        };
        for key in ["a", "b"] {
            connect(&format!(
                "Endpoint=sb://h:1;SharedAccessKeyName=n;SharedAccessKey={key};UseDevelopmentEmulator=true"
            ));
        }
        assert!(clients.0.plain.get().is_some() && clients.0.over_tls.get().is_none());
    }
}
