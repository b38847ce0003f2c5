//! What a request names: the place its path leads to, and the parts of its query that matter.
//!
//! Pure. A path is compared without regard to letter case; a queue's or topic's name may contain `/`.

use hyper::StatusCode;
use percent_encoding::percent_decode_str;

use super::answer::Failure;
use crate::state::{EntityName, InvalidName};

/// Entities on a page, and the most a client can ask for.
const PAGE: usize = 100;
const DEFAULT_API_VERSION: &str = "2021-05";

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Health,
    NamespaceInfo,
    Queues,
    Topics,
    /// A queue or a topic.
    Entity(EntityName),
    /// The subscriptions of a topic.
    Subscriptions(EntityName),
    Subscription(EntityName),
    /// The rules of a subscription.
    Rules(EntityName),
    /// One of its rules.
    Rule(EntityName, String),
}

impl Place {
    /// Reads a path without its outer slashes, percent-decoded.
    pub(super) fn of(path: &str) -> Result<Self, Failure> {
        match path.to_ascii_lowercase().as_str() {
            "health" => return Ok(Self::Health),
            "$namespaceinfo" => return Ok(Self::NamespaceInfo),
            "$resources/queues" => return Ok(Self::Queues),
            "$resources/topics" => return Ok(Self::Topics),
            "" => return Err(Failure::not_found()),
            "$servicebus/websocket" => return Err(Failure::not_supported("AMQP over WebSocket")),
            _ => {}
        }
        let Some((topic, below)) = EntityName::split_subscription(path) else {
            return EntityName::new(path).map(Self::Entity).map_err(|error| bad_name(&error));
        };
        let topic = EntityName::new(topic).map_err(|error| bad_name(&error))?;
        let mut parts = below.split('/').filter(|part| !part.is_empty());
        let Some(name) = parts.next() else { return Ok(Self::Subscriptions(topic)) };
        let subscription = EntityName::subscription(&topic, name).map_err(|error| bad_name(&error))?;
        match (parts.next(), parts.next(), parts.next()) {
            (None, _, _) => Ok(Self::Subscription(subscription)),
            (Some(rules), None, _) if rules.eq_ignore_ascii_case("rules") => Ok(Self::Rules(subscription)),
            (Some(rules), Some(rule), None) if rules.eq_ignore_ascii_case("rules") => {
                Ok(Self::Rule(subscription, rule.to_owned()))
            }
            _ => Err(Failure::not_found()),
        }
    }
}

fn bad_name(error: &InvalidName) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, &format!("SubCode=40000. {error}."))
}

/// The query's parts that matter here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) api_version: String,
    /// Entities to leave out, from the first on.
    pub(super) skip: usize,
    /// Entities wanted: 1 to 100.
    pub(super) top: usize,
}

impl Query {
    /// Reads a query, which may be empty.
    pub(super) fn of(query: &str) -> Result<Self, Failure> {
        let mut wanted = Self { api_version: DEFAULT_API_VERSION.to_owned(), skip: 0, top: PAGE };
        for part in query.split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = percent_decode_str(name).decode_utf8_lossy();
            let number = || {
                value.parse::<usize>().map_err(|_| {
                    Failure::new(StatusCode::BAD_REQUEST, &format!("SubCode=40000. {name} is not a whole number."))
                })
            };
            match name.to_ascii_lowercase().as_str() {
                "$skip" => wanted.skip = number()?,
                "$top" => wanted.top = number()?.clamp(1, PAGE),
                "api-version" if value.len() <= 16 => {
                    wanted.api_version = percent_decode_str(value).decode_utf8_lossy().into_owned();
                }
                _ => {}
            }
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_path_names_its_place() {
        let topic = EntityName::new("a/T").expect("a name");
        let subscription = EntityName::subscription(&topic, "s").expect("a name");
        for (path, place) in [
            ("HEALTH", Place::Health),
            ("$resources/topics", Place::Topics),
            ("a/t", Place::Entity(topic.clone())),
            ("a/t/subscriptions", Place::Subscriptions(topic.clone())),
            ("a/t/Subscriptions/S", Place::Subscription(subscription.clone())),
            ("a/t/subscriptions/s/RULES", Place::Rules(subscription.clone())),
            ("a/t/Subscriptions/s/rules/$Default", Place::Rule(subscription.clone(), "$Default".to_owned())),
        ] {
            assert_eq!(Place::of(path).expect(path), place, "{path}");
        }
        for (path, status) in [
            ("", 404),
            ("a b", 400),
            ("t/Subscriptions/a b", 400),
            ("t/Subscriptions/s/other", 404),
            ("t/Subscriptions/s/Rules/r/more", 404),
        ] {
            assert_eq!(Place::of(path).expect_err(path).status.as_u16(), status, "{path}");
        }
    }

    #[test]
    fn a_page_has_a_hundred_at_most() {
        let query = Query::of("$skip=5&%24top=1000&api-version=2024-05&enrich=false").expect("valid");
        assert_eq!(query, Query { api_version: "2024-05".to_owned(), skip: 5, top: 100 });
        assert_eq!(Query::of("$top=0").expect("valid").top, 1);
        assert_eq!(Query::of("").expect("valid").top, 100);
        assert!(Query::of("$skip=-1").is_err());
    }
}
