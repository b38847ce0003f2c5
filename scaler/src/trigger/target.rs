//! What a trigger counts, from the keys that say so: a queue, a subscription, or all whose names match a pattern.

use std::collections::HashMap;

use scaling::Key;

use super::keys::{OPERATION, QUEUE_NAME, SUBSCRIPTION_NAME, TOPIC_NAME, USE_REGEX};
use super::value::{boolean, shown, text, wrong};
use super::{TriggerError, Warning};
use crate::entity::{Entity, Listing, Matching, NamePattern, Operation, Target};

/// Longest name of a queue or topic that Service Bus allows, in characters.
const MAX_PATH: usize = 260;
/// Longest name of a subscription, in characters.
const MAX_SUBSCRIPTION: usize = 50;

/// Reads the keys of the entity.
pub(super) fn target(metadata: &HashMap<String, String>, warnings: &mut Vec<Warning>) -> Result<Target, TriggerError> {
    let use_regex = boolean(metadata, &USE_REGEX)?;
    let operation = operation(metadata)?;
    if !use_regex && text(metadata, &OPERATION).is_some_and(|written| written != OPERATION.default) {
        warnings.push(Warning::WithoutEffect { key: OPERATION.name, why: "it counts only with useRegex: true" });
    }
    let names = [&QUEUE_NAME, &TOPIC_NAME, &SUBSCRIPTION_NAME].map(|key| text(metadata, key));
    let exclusive = |other: &Key| TriggerError::Exclusive { first: QUEUE_NAME.name, second: other.name };
    match names {
        [Some(_), Some(_), _] => Err(exclusive(&TOPIC_NAME)),
        [Some(_), None, Some(_)] => Err(exclusive(&SUBSCRIPTION_NAME)),
        [Some(queue), None, None] if use_regex => {
            let pattern = pattern(&QUEUE_NAME, queue)?;
            Ok(Target::Matching(Matching { listing: Listing::Queues, pattern, operation }))
        }
        [Some(queue), None, None] => Ok(Target::Entity(Entity::Queue(path(&QUEUE_NAME, queue)?))),
        [None, Some(topic), Some(subscription)] if use_regex => {
            let listing = Listing::Subscriptions { topic: path(&TOPIC_NAME, topic)? };
            let pattern = pattern(&SUBSCRIPTION_NAME, subscription)?;
            Ok(Target::Matching(Matching { listing, pattern, operation }))
        }
        [None, Some(topic), Some(subscription)] => Ok(Target::Entity(Entity::Subscription {
            topic: path(&TOPIC_NAME, topic)?,
            subscription: subscription_name(subscription)?,
        })),
        [None, Some(_), None] => Err(TriggerError::missing(&SUBSCRIPTION_NAME, metadata)),
        [None, None, Some(_)] => Err(TriggerError::missing(&TOPIC_NAME, metadata)),
        [None, None, None] => Err(TriggerError::missing(&QUEUE_NAME, metadata)),
    }
}

fn operation(metadata: &HashMap<String, String>) -> Result<Operation, TriggerError> {
    match text(metadata, &OPERATION) {
        None | Some("sum") => Ok(Operation::Sum),
        Some("max") => Ok(Operation::Max),
        Some("avg") => Ok(Operation::Average),
        Some(other) => Err(wrong(&OPERATION, other)),
    }
}

/// The name of a queue or topic, which may have folders.
fn path(key: &Key, name: &str) -> Result<String, TriggerError> {
    let is_allowed = |character: char| is_name_character(character) || character == '/';
    let has_good_parts = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if name.chars().count() > MAX_PATH || !name.chars().all(is_allowed) || !has_good_parts {
        return Err(wrong(key, name));
    }
    Ok(name.to_owned())
}

fn subscription_name(name: &str) -> Result<String, TriggerError> {
    let is_special = matches!(name, "." | "..");
    if name.chars().count() > MAX_SUBSCRIPTION || !name.chars().all(is_name_character) || is_special {
        return Err(wrong(&SUBSCRIPTION_NAME, name));
    }
    Ok(name.to_owned())
}

fn is_name_character(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '.' | '-' | '_')
}

fn pattern(key: &Key, text: &str) -> Result<NamePattern, TriggerError> {
    NamePattern::new(text).map_err(|problem| TriggerError::Pattern { key: key.name, value: shown(text), problem })
}
