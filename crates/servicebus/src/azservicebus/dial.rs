//! From a connection string to the library's objects, one client (and so one connection) for each link.
//!
//! Links never share a client: a sender that is dropped would end the session of all the others. The library's own
//! parser of connection strings is not used: it ignores the port and `UseDevelopmentEmulator`.

use std::sync::Arc;
use std::time::Duration;

use azservicebus::authorization::{AzureNamedKeyCredential, AzureSasCredential};
use azservicebus::core::BasicRetryPolicy;
use azservicebus::{
    ServiceBusClient, ServiceBusClientOptions, ServiceBusReceiver, ServiceBusReceiverOptions, ServiceBusRetryOptions,
    ServiceBusSender, ServiceBusSenderOptions,
};
use secrecy::{ExposeSecret as _, SecretString};

use super::fault::Fault;
use crate::{ConnectionString, FailureKind};

/// The library's own deadline, longer than any of ours: when it strikes first, messages received are thrown away.
const TRY_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) type Client = ServiceBusClient<BasicRetryPolicy>;

/// Where a link goes and who asks for it.
pub(super) struct Target {
    /// Host and port, as they stand in a URL.
    authority: String,
    plain: bool,
    credential: Credential,
    /// Of the entity. The library makes nothing else of a subscription than its path, either.
    path: String,
}

enum Credential {
    Key { name: String, key: SecretString },
    Signature(SecretString),
}

impl Target {
    pub(super) fn new(connection: &ConnectionString, path: &str) -> Self {
        let host = connection.host();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let credential = match (connection.key_name(), connection.key(), connection.signature()) {
            (Some(name), Some(key), _) => Credential::Key { name: name.to_owned(), key: key.clone() },
            (_, _, signature) => Credential::Signature(signature.cloned().unwrap_or_default()),
        };
        Self {
            authority: format!("{host}:{}", connection.amqp_port()),
            plain: connection.is_development_emulator(),
            credential,
            path: path.to_owned(),
        }
    }

    pub(super) async fn receiver(self: Arc<Self>) -> Result<(Client, ServiceBusReceiver), Fault> {
        let mut client = Box::pin(self.client()).await?;
        let receiver = self.attach_receiver(&mut client).await?;
        Ok((client, receiver))
    }

    pub(super) async fn sender(self: Arc<Self>) -> Result<(Client, ServiceBusSender), Fault> {
        let mut client = Box::pin(self.client()).await?;
        let sender = self.attach_sender(&mut client).await?;
        Ok((client, sender))
    }

    /// Whether a connection that receives still lives: whether another link can be had over it.
    pub(super) async fn probe_receiving(&self, client: &mut Client) -> Result<(), Fault> {
        let receiver = self.attach_receiver(client).await?;
        Box::pin(receiver.dispose()).await.map_err(|error| Fault::of("close a receiver", &error))
    }

    /// Whether a connection that sends still lives. It may lack the right to receive.
    pub(super) async fn probe_sending(&self, client: &mut Client) -> Result<(), Fault> {
        let sender = self.attach_sender(client).await?;
        Box::pin(sender.dispose()).await.map_err(|error| Fault::of("close a sender", &error))
    }

    async fn attach_receiver(&self, client: &mut Client) -> Result<ServiceBusReceiver, Fault> {
        // No prefetch: with it, credit returns only on settlement, and messages whose locks ran out would starve the link.
        let options = ServiceBusReceiverOptions::default();
        let receiver = Box::pin(client.create_receiver_for_queue(self.path.as_str(), options)).await;
        receiver.map_err(|error| Fault::of("attach a receiver", &error))
    }

    async fn attach_sender(&self, client: &mut Client) -> Result<ServiceBusSender, Fault> {
        let sender = Box::pin(client.create_sender(self.path.as_str(), ServiceBusSenderOptions::default())).await;
        sender.map_err(|error| Fault::of("attach a sender", &error))
    }

    async fn client(&self) -> Result<Client, Fault> {
        let mut retry_options = ServiceBusRetryOptions::default();
        let set = retry_options.set_max_retries(0).is_ok() && retry_options.set_try_timeout(TRY_TIMEOUT).is_ok();
        if !set {
            return Err(Fault::new(FailureKind::Internal, "the library refuses to do without retries"));
        }
        let options = ServiceBusClientOptions { retry_options, ..ServiceBusClientOptions::default() };
        // The library leaves the choice to the process; a choice made before stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = self.authority.as_str();
        let client = match (&self.credential, self.plain) {
            (Credential::Key { name, key }, plain) => {
                let credential = AzureNamedKeyCredential::new(name.as_str(), key.expose_secret());
                if plain {
                    Box::pin(Client::unsecured().new_from_named_key_credential(authority, credential, options)).await
                } else {
                    Box::pin(Client::new_from_named_key_credential(authority, credential, options)).await
                }
            }
            (Credential::Signature(token), plain) => {
                let credential = AzureSasCredential::new(token.expose_secret());
                if plain {
                    Box::pin(Client::unsecured().new_from_sas_credential(authority, credential, options)).await
                } else {
                    Box::pin(Client::new_from_sas_credential(authority, credential, options)).await
                }
            }
        };
        client.map_err(|error| Fault::of(&format!("connect to {authority}"), &error))
    }
}
