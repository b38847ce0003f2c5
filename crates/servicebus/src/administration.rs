//! The administration client: what queues and subscriptions there are, what they hold, and making and removing them.
//!
//! Atom over HTTPS (plain HTTP for an emulator), every request with a credential, a deadline and a limit on the answer.
//! It keeps no state but the HTTP connections, follows no redirect and uses no proxy, so the credential goes to the
//! namespace's host and nowhere else. It does not retry: a caller that shares readings knows better when.

use std::sync::Arc;
use std::time::Duration;

mod atom;
mod description;
mod duration;
mod error;
mod http;
mod pages;
mod sharing;

use atom::Document;
pub use description::{EntityCounts, EntityDescription, EntitySettings, EntityStatus};
pub use error::AdministrationError;
use http::{Change, Exchange, Request, Scope};
pub use pages::EntityPages;
pub use sharing::AdministrationClients;

use crate::{ConnectionString, Credential, EntityName, ExtraRoots, Namespace};

/// How the administration client behaves.
#[derive(Clone, Debug)]
pub struct AdministrationOptions {
    /// How long one request may take, from dialling to the last byte of the answer.
    pub timeout: Duration,
    /// The longest answer that is read, in bytes. A page of 100 queues takes about 300 KB.
    pub max_response_bytes: usize,
    /// Entities asked for in one page of a listing, 1–100 (the service gives at most 100).
    pub page_size: u32,
    /// Certificate authorities trusted beside the system's.
    pub extra_roots: ExtraRoots,
}

impl Default for AdministrationOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_millis(2500),
            max_response_bytes: 4 << 20,
            page_size: 100,
            extra_roots: ExtraRoots::default(),
        }
    }
}

/// Reads and changes the entities of one namespace. Cheap to clone; clones share their HTTP connections.
///
/// Every method but the constructors is one request, and on Azure one management operation (10 credits), whether or not it
/// succeeds; so is every [`EntityPages::next`] that is not [finished](EntityPages::is_finished).
#[derive(Clone, Debug)]
pub struct AdministrationClient(Arc<Exchange>);

impl AdministrationClient {
    /// A client for a connection string, with the default deadline and limits.
    pub fn new(connection: &ConnectionString) -> Result<Self, AdministrationError> {
        Self::with_options(connection, AdministrationOptions::default())
    }

    /// A client for a connection string, with a deadline and limits of the caller's choice.
    pub fn with_options(
        connection: &ConnectionString,
        options: AdministrationOptions,
    ) -> Result<Self, AdministrationError> {
        Self::connect(connection.namespace(), connection.into(), options)
    }

    /// A client for a namespace and a credential for it. Dials nothing yet; whether the credential may be sent to this host
    /// is for the caller to have checked.
    pub fn connect(
        namespace: Namespace,
        credential: Credential,
        options: AdministrationOptions,
    ) -> Result<Self, AdministrationError> {
        AdministrationClients::new(options).connect(namespace, credential)
    }

    /// Where it asks.
    pub fn namespace(&self) -> &Namespace {
        self.0.namespace()
    }

    /// Describes one queue, its counts included. A missing queue is [`AdministrationError::NotFound`].
    pub async fn queue(&self, name: &str) -> Result<EntityDescription, AdministrationError> {
        self.describe(EntityName::queue(name)).await
    }

    /// Describes one subscription, its counts included. A missing one, or a missing topic, is
    /// [`AdministrationError::NotFound`].
    pub async fn subscription(&self, topic: &str, name: &str) -> Result<EntityDescription, AdministrationError> {
        self.describe(EntityName::subscription(topic, name)).await
    }

    /// Lists all queues, a page at a time.
    pub fn queues(&self) -> EntityPages {
        EntityPages::new(self.0.clone(), Scope::Queues)
    }

    /// Lists all subscriptions of a topic, a page at a time. A missing topic is [`AdministrationError::NotFound`].
    pub fn subscriptions(&self, topic: &str) -> EntityPages {
        EntityPages::new(self.0.clone(), Scope::Subscriptions { topic: topic.to_owned() })
    }

    /// Makes a queue. One of that name is [`AdministrationError::AlreadyExists`].
    pub async fn create_queue(
        &self,
        name: &str,
        settings: &EntitySettings,
    ) -> Result<EntityDescription, AdministrationError> {
        self.put(EntityName::queue(name), Change::Create, atom::queue(settings)).await
    }

    /// Changes a queue. A missing queue is [`AdministrationError::NotFound`].
    pub async fn update_queue(
        &self,
        name: &str,
        settings: &EntitySettings,
    ) -> Result<EntityDescription, AdministrationError> {
        self.put(EntityName::queue(name), Change::Update, atom::queue(settings)).await
    }

    /// Makes a subscription of an existing topic. One of that name is [`AdministrationError::AlreadyExists`].
    pub async fn create_subscription(
        &self,
        topic: &str,
        name: &str,
        settings: &EntitySettings,
    ) -> Result<EntityDescription, AdministrationError> {
        self.put(EntityName::subscription(topic, name), Change::Create, atom::subscription(settings)).await
    }

    /// Changes a subscription. A missing one is [`AdministrationError::NotFound`].
    pub async fn update_subscription(
        &self,
        topic: &str,
        name: &str,
        settings: &EntitySettings,
    ) -> Result<EntityDescription, AdministrationError> {
        self.put(EntityName::subscription(topic, name), Change::Update, atom::subscription(settings)).await
    }

    /// Makes a topic, without subscriptions. One of that name is [`AdministrationError::AlreadyExists`].
    pub async fn create_topic(&self, name: &str) -> Result<(), AdministrationError> {
        let body = atom::topic().map_err(|error| self.0.malformed(error.to_string()))?;
        self.0.send(Request::Put(Change::Create, body), &Scope::One(EntityName::topic(name))).await.map(drop)
    }

    /// Removes a queue and all it holds. A missing queue is [`AdministrationError::NotFound`].
    pub async fn delete_queue(&self, name: &str) -> Result<(), AdministrationError> {
        self.delete(EntityName::queue(name)).await
    }

    /// Removes a topic, its subscriptions and all they hold. A missing topic is [`AdministrationError::NotFound`].
    pub async fn delete_topic(&self, name: &str) -> Result<(), AdministrationError> {
        self.delete(EntityName::topic(name)).await
    }

    /// Removes a subscription and all it holds. A missing one is [`AdministrationError::NotFound`].
    pub async fn delete_subscription(&self, topic: &str, name: &str) -> Result<(), AdministrationError> {
        self.delete(EntityName::subscription(topic, name)).await
    }

    async fn describe(&self, entity: EntityName) -> Result<EntityDescription, AdministrationError> {
        let scope = Scope::One(entity);
        let body = self.0.send(Request::Get, &scope).await?;
        match atom::read(&body).map_err(|why| self.0.malformed(why))? {
            Document::Entry(description) => Ok(description),
            Document::Feed { .. } => Err(self.0.not_found(&scope)),
        }
    }

    async fn put(
        &self,
        entity: EntityName,
        change: Change,
        body: std::io::Result<Vec<u8>>,
    ) -> Result<EntityDescription, AdministrationError> {
        let body = body.map_err(|error| self.0.malformed(error.to_string()))?;
        let body = self.0.send(Request::Put(change, body), &Scope::One(entity)).await?;
        match atom::read(&body).map_err(|why| self.0.malformed(why))? {
            Document::Entry(description) => Ok(description),
            Document::Feed { .. } => Err(self.0.malformed("the answer to a change is a feed")),
        }
    }

    async fn delete(&self, entity: EntityName) -> Result<(), AdministrationError> {
        self.0.send(Request::Delete, &Scope::One(entity)).await.map(drop)
    }
}
