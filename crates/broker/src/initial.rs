//! The entities a broker has from the start, as its options name them.

use crate::hub::Hub;
use crate::options::{QueueOptions, SubscriptionOptions};
use crate::server::StartError;
use crate::state::{Effect, EntityName, Event, InvalidName, QueueProperties, RequestId, TopicProperties};

/// Creates the entities: queues, topics, subscriptions, in this order.
pub(crate) fn create(
    hub: &Hub,
    queues: Vec<QueueOptions>,
    topics: Vec<String>,
    subscriptions: Vec<SubscriptionOptions>,
) -> Result<(), StartError> {
    for QueueOptions { name, lock_duration, max_delivery_count } in queues {
        let properties = QueueProperties { lock_duration, max_delivery_count, ..QueueProperties::default() };
        let entity = named("queue", &name, EntityName::new(&name))?;
        administer(hub, "queue", entity, |request, name| Event::CreateQueue { request, name, properties })?;
    }
    for name in topics {
        let properties = TopicProperties::default();
        let entity = named("topic", &name, EntityName::new(&name))?;
        administer(hub, "topic", entity, |request, name| Event::CreateTopic { request, name, properties })?;
    }
    for SubscriptionOptions { topic, name, lock_duration, max_delivery_count } in subscriptions {
        let properties = QueueProperties { lock_duration, max_delivery_count, ..QueueProperties::default() };
        let topic = named("topic", &topic, EntityName::new(&topic))?;
        let entity = named("subscription", &name, EntityName::subscription(&topic, &name))?;
        administer(hub, "subscription", entity, |request, name| Event::CreateQueue { request, name, properties })?;
    }
    Ok(())
}

fn named(kind: &'static str, name: &str, checked: Result<EntityName, InvalidName>) -> Result<EntityName, StartError> {
    checked.map_err(|source| StartError::EntityName { kind, name: name.to_owned(), source })
}

fn administer(
    hub: &Hub,
    kind: &'static str,
    name: EntityName,
    make: impl FnOnce(RequestId, EntityName) -> Event<crate::content::StoredMessage>,
) -> Result<(), StartError> {
    let result = hub.request(
        |request| make(request, name.clone()),
        |effect| match effect {
            Effect::Administered { result, .. } => Some(result),
            _ => None,
        },
    );
    result.map_err(|source| StartError::Entity { kind, name, source: Box::new(source) })
}
