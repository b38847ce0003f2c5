//! The kinds of operations that are counted, and how a request is known to be of one.
//!
//! Pure. Whether a name belongs to a queue or a topic is the state's business: a request for one entity counts as
//! `get-queue` until its caller says otherwise.

use hyper::Method;
use serde::Serialize;

use crate::address::scope_of;

/// A kind of operation. The administration API's cost 10 credits, the others one a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Reading one queue, or an entity that does not exist.
    GetQueue,
    /// Reading one topic.
    GetTopic,
    /// Reading one subscription.
    GetSubscription,
    /// A page of queues.
    ListQueues,
    /// A page of topics.
    ListTopics,
    /// A page of a topic's subscriptions.
    ListSubscriptions,
    /// Creating an entity.
    Create,
    /// Changing an entity.
    Update,
    /// Deleting an entity.
    Delete,
    /// Reading the namespace's description.
    Namespace,
    /// Anything about a subscription's rules.
    Rules,
    /// Any other request to the administration API.
    Other,
    /// Messages sent or scheduled over AMQP.
    Send,
    /// Messages delivered over AMQP.
    Receive,
    /// Messages looked at over AMQP; a look that found none costs one credit.
    Peek,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::GetQueue,
        Self::GetTopic,
        Self::GetSubscription,
        Self::ListQueues,
        Self::ListTopics,
        Self::ListSubscriptions,
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Namespace,
        Self::Rules,
        Self::Other,
        Self::Send,
        Self::Receive,
        Self::Peek,
    ];

    /// Its name in `/$counters` and in faults.
    pub fn name(self) -> &'static str {
        match self {
            Self::GetQueue => "get-queue",
            Self::GetTopic => "get-topic",
            Self::GetSubscription => "get-subscription",
            Self::ListQueues => "list-queues",
            Self::ListTopics => "list-topics",
            Self::ListSubscriptions => "list-subscriptions",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Namespace => "namespace",
            Self::Rules => "rules",
            Self::Other => "other",
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Peek => "peek",
        }
    }

    /// Whether it belongs to the administration API.
    pub fn is_administration(self) -> bool {
        !matches!(self, Self::Send | Self::Receive | Self::Peek)
    }

    /// What it costs, on so many messages.
    pub(crate) fn credits(self, messages: u64) -> u64 {
        if self.is_administration() { 10 } else { messages.max(1) }
    }

    /// What an AMQP `$management` request does; nothing that costs credits in most cases.
    pub(crate) fn of_management(operation: &str) -> Option<Self> {
        match operation.strip_prefix("com.microsoft:")? {
            "peek-message" => Some(Self::Peek),
            "schedule-message" => Some(Self::Send),
            "receive-by-sequence-number" => Some(Self::Receive),
            _ => None,
        }
    }

    /// What a request to the administration API does, and on which entity. The path is decoded. Health is none of it.
    pub(crate) fn of_request(method: &Method, path: &str, has_if_match: bool) -> Option<(Self, Option<String>)> {
        let path = scope_of(path);
        let segments: Vec<&str> = path.split('/').collect();
        let is_read = *method == Method::GET;
        let (kind, entity) = match segments.as_slice() {
            ["health" | "$servicebus", ..] => return None,
            ["$namespaceinfo"] => (Self::Namespace, None),
            ["$resources", "queues"] if is_read => (Self::ListQueues, None),
            ["$resources", "topics"] if is_read => (Self::ListTopics, None),
            ["$resources", ..] => (Self::Other, None),
            [topic @ .., "subscriptions"] if is_read && !topic.is_empty() => {
                (Self::ListSubscriptions, Some(topic.join("/")))
            }
            [subscription @ .., "rules"] | [subscription @ .., "rules", _] if names_subscription(subscription) => {
                (Self::Rules, Some(subscription.join("/")))
            }
            _ => {
                let kind = match *method {
                    Method::GET if names_subscription(&segments) => Self::GetSubscription,
                    Method::GET => Self::GetQueue,
                    Method::PUT if has_if_match => Self::Update,
                    Method::PUT => Self::Create,
                    Method::DELETE => Self::Delete,
                    _ => Self::Other,
                };
                (kind, Some(path))
            }
        };
        Some((kind, entity))
    }
}

fn names_subscription(segments: &[&str]) -> bool {
    matches!(segments, [topic @ .., "subscriptions", _] if !topic.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        let get = Method::GET;
        for (method, path, has_if_match, kind, entity) in [
            (&get, "/Orders", false, Operation::GetQueue, Some("orders")),
            (&get, "/a/b/", false, Operation::GetQueue, Some("a/b")),
            (&get, "/subscriptions", false, Operation::GetQueue, Some("subscriptions")),
            (&get, "/t/Subscriptions/s", false, Operation::GetSubscription, Some("t/subscriptions/s")),
            (&get, "/a/t/Subscriptions/", false, Operation::ListSubscriptions, Some("a/t")),
            (&get, "/t/subscriptions/s/rules", false, Operation::Rules, Some("t/subscriptions/s")),
            (&Method::PUT, "/t/subscriptions/s/rules/r", false, Operation::Rules, Some("t/subscriptions/s")),
            (&get, "/$Resources/Queues", false, Operation::ListQueues, None),
            (&get, "/$Resources/topics", false, Operation::ListTopics, None),
            (&get, "/$namespaceinfo", false, Operation::Namespace, None),
            (&Method::PUT, "/q", false, Operation::Create, Some("q")),
            (&Method::PUT, "/q", true, Operation::Update, Some("q")),
            (&Method::DELETE, "/q", false, Operation::Delete, Some("q")),
            (&Method::POST, "/q/messages", false, Operation::Other, Some("q/messages")),
        ] {
            let wanted = Some((kind, entity.map(str::to_owned)));
            assert_eq!(Operation::of_request(method, path, has_if_match), wanted, "{method} {path}");
        }
        assert_eq!(Operation::of_request(&get, "/health", false), None);
    }

    #[test]
    fn the_list_of_all_is_in_order_so_that_each_indexes_its_own_place() {
        for (index, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, index);
            assert_eq!(serde_json::to_value(operation).expect("a name"), operation.name());
        }
        for (index, outcome) in super::super::Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
    }
}
