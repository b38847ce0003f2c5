//! The descriptions of queues, topics, subscriptions and rules, element by element in the order that strict readers demand.
//!
//! Pure. `CountDetails` has exactly one attribute, its namespace, because the JavaScript SDK insists. What is the same for
//! all entities here (no sessions, no partitions, no idle deletion) is written as the service writes it.

use std::io;
use std::time::Duration;

use quick_xml::Writer;
use quick_xml::events::{BytesStart, Event};

use super::document::SERVICE;
use super::xml::{INSTANCE, Scene, boolean, close, leaf, open, timestamp};
use crate::durations::{NEVER, write_iso};
use crate::hub::system_time;
use crate::state::{Counts, EntityName, QueueSnapshot, Timestamp, TopicSnapshot};

/// The service's default; without effect, as duplicates are not detected here.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(10);
const COUNTS: &str = "http://schemas.microsoft.com/netservices/2011/06/servicebus";
/// .NET's `DateTime.MinValue`, the service's "never accessed".
const NEVER_ACCESSED: &str = "0001-01-01T00:00:00Z";
/// Bytes in what the API calls a megabyte.
pub(super) const MEGABYTE: u64 = 1024 * 1024;

type Xml = Writer<Vec<u8>>;

/// `QueueDescription`.
pub(super) fn write_queue(xml: &mut Xml, scene: &Scene<'_>, queue: &QueueSnapshot) -> io::Result<()> {
    let properties = &queue.properties;
    open(xml, "QueueDescription", &[("xmlns", SERVICE), ("xmlns:i", INSTANCE)])?;
    leaf(xml, "LockDuration", &write_iso(properties.lock_duration))?;
    leaf(xml, "MaxSizeInMegabytes", &(properties.max_size_bytes / MEGABYTE).to_string())?;
    leaf(xml, "RequiresDuplicateDetection", boolean(false))?;
    leaf(xml, "RequiresSession", boolean(false))?;
    leaf(xml, "DefaultMessageTimeToLive", &write_iso(properties.default_time_to_live.unwrap_or(NEVER)))?;
    leaf(xml, "DeadLetteringOnMessageExpiration", boolean(properties.dead_letter_on_expiration))?;
    leaf(xml, "DuplicateDetectionHistoryTimeWindow", &write_iso(DUPLICATE_WINDOW))?;
    leaf(xml, "MaxDeliveryCount", &properties.max_delivery_count.to_string())?;
    leaf(xml, "EnableBatchedOperations", boolean(true))?;
    leaf(xml, "SizeInBytes", &queue.size_bytes.to_string())?;
    leaf(xml, "MessageCount", &queue.counts.total().to_string())?;
    leaf(xml, "IsAnonymousAccessible", boolean(false))?;
    xml.write_event(Event::Empty(BytesStart::new("AuthorizationRules")))?;
    leaf(xml, "Status", properties.status.as_str())?;
    target(xml, scene, "ForwardTo", properties.forward_to.as_ref())?;
    metadata(xml, properties.user_metadata.as_deref())?;
    times(xml, queue.created_at, queue.updated_at, queue.accessed_at)?;
    leaf(xml, "SupportOrdering", boolean(true))?;
    counts(xml, &queue.counts)?;
    leaf(xml, "AutoDeleteOnIdle", &write_iso(NEVER))?;
    leaf(xml, "EnablePartitioning", boolean(false))?;
    leaf(xml, "EntityAvailabilityStatus", "Available")?;
    target(xml, scene, "ForwardDeadLetteredMessagesTo", properties.forward_dead_letters_to.as_ref())?;
    leaf(xml, "EnableExpress", boolean(false))?;
    leaf(xml, "MaxMessageSizeInKilobytes", "256")?;
    close(xml, "QueueDescription")
}

/// `TopicDescription`.
pub(super) fn write_topic(xml: &mut Xml, topic: &TopicSnapshot) -> io::Result<()> {
    let properties = &topic.properties;
    open(xml, "TopicDescription", &[("xmlns", SERVICE), ("xmlns:i", INSTANCE)])?;
    leaf(xml, "DefaultMessageTimeToLive", &write_iso(properties.default_time_to_live.unwrap_or(NEVER)))?;
    leaf(xml, "MaxSizeInMegabytes", &(properties.max_size_bytes / MEGABYTE).to_string())?;
    leaf(xml, "RequiresDuplicateDetection", boolean(false))?;
    leaf(xml, "DuplicateDetectionHistoryTimeWindow", &write_iso(DUPLICATE_WINDOW))?;
    leaf(xml, "EnableBatchedOperations", boolean(true))?;
    leaf(xml, "SizeInBytes", &topic.size_bytes.to_string())?;
    leaf(xml, "FilteringMessagesBeforePublishing", boolean(false))?;
    leaf(xml, "IsAnonymousAccessible", boolean(false))?;
    xml.write_event(Event::Empty(BytesStart::new("AuthorizationRules")))?;
    leaf(xml, "Status", properties.status.as_str())?;
    metadata(xml, properties.user_metadata.as_deref())?;
    times(xml, topic.created_at, topic.updated_at, topic.accessed_at)?;
    leaf(xml, "SupportOrdering", boolean(true))?;
    counts(xml, &topic.counts)?;
    leaf(xml, "SubscriptionCount", &topic.subscriptions.to_string())?;
    leaf(xml, "AutoDeleteOnIdle", &write_iso(NEVER))?;
    leaf(xml, "EnablePartitioning", boolean(false))?;
    leaf(xml, "EntityAvailabilityStatus", "Available")?;
    leaf(xml, "EnableSubscriptionPartitioning", boolean(false))?;
    leaf(xml, "EnableExpress", boolean(false))?;
    leaf(xml, "MaxMessageSizeInKilobytes", "256")?;
    close(xml, "TopicDescription")
}

/// `SubscriptionDescription`.
pub(super) fn write_subscription(xml: &mut Xml, scene: &Scene<'_>, subscription: &QueueSnapshot) -> io::Result<()> {
    let properties = &subscription.properties;
    open(xml, "SubscriptionDescription", &[("xmlns", SERVICE), ("xmlns:i", INSTANCE)])?;
    leaf(xml, "LockDuration", &write_iso(properties.lock_duration))?;
    leaf(xml, "RequiresSession", boolean(false))?;
    leaf(xml, "DefaultMessageTimeToLive", &write_iso(properties.default_time_to_live.unwrap_or(NEVER)))?;
    leaf(xml, "DeadLetteringOnMessageExpiration", boolean(properties.dead_letter_on_expiration))?;
    // The rule that is always true cannot fail, so nothing is dead-lettered by it.
    leaf(xml, "DeadLetteringOnFilterEvaluationExceptions", boolean(true))?;
    leaf(xml, "MessageCount", &subscription.counts.total().to_string())?;
    leaf(xml, "MaxDeliveryCount", &properties.max_delivery_count.to_string())?;
    leaf(xml, "EnableBatchedOperations", boolean(true))?;
    leaf(xml, "Status", properties.status.as_str())?;
    target(xml, scene, "ForwardTo", properties.forward_to.as_ref())?;
    times(xml, subscription.created_at, subscription.updated_at, subscription.accessed_at)?;
    counts(xml, &subscription.counts)?;
    metadata(xml, properties.user_metadata.as_deref())?;
    target(xml, scene, "ForwardDeadLetteredMessagesTo", properties.forward_dead_letters_to.as_ref())?;
    leaf(xml, "AutoDeleteOnIdle", &write_iso(NEVER))?;
    leaf(xml, "EntityAvailabilityStatus", "Available")?;
    close(xml, "SubscriptionDescription")
}

/// `RuleDescription` of the only rule there is, which is always true. JavaScript wants a prefix of four letters in types
/// of filter values; there are none here.
pub(super) fn write_true_rule(xml: &mut Xml, name: &str, created_at: Timestamp) -> io::Result<()> {
    open(xml, "RuleDescription", &[("xmlns", SERVICE), ("xmlns:i", INSTANCE)])?;
    open(xml, "Filter", &[("i:type", "TrueFilter")])?;
    leaf(xml, "SqlExpression", "1=1")?;
    leaf(xml, "CompatibilityLevel", "20")?;
    close(xml, "Filter")?;
    let mut action = BytesStart::new("Action");
    action.push_attribute(("i:type", "EmptyRuleAction"));
    xml.write_event(Event::Empty(action))?;
    leaf(xml, "CreatedAt", &timestamp(system_time(created_at)))?;
    leaf(xml, "Name", name)?;
    close(xml, "RuleDescription")
}

fn counts(xml: &mut Xml, counts: &Counts) -> io::Result<()> {
    open(xml, "CountDetails", &[("xmlns:d2p1", COUNTS)])?;
    for (name, count) in [
        ("d2p1:ActiveMessageCount", counts.active),
        ("d2p1:DeadLetterMessageCount", counts.dead_letter),
        ("d2p1:ScheduledMessageCount", counts.scheduled),
        ("d2p1:TransferMessageCount", counts.transfer),
        ("d2p1:TransferDeadLetterMessageCount", counts.transfer_dead_letter),
    ] {
        leaf(xml, name, &count.to_string())?;
    }
    close(xml, "CountDetails")
}

fn times(xml: &mut Xml, created: Timestamp, updated: Timestamp, accessed: Option<Timestamp>) -> io::Result<()> {
    leaf(xml, "CreatedAt", &timestamp(system_time(created)))?;
    leaf(xml, "UpdatedAt", &timestamp(system_time(updated)))?;
    let accessed = accessed.map_or_else(|| NEVER_ACCESSED.to_owned(), |at| timestamp(system_time(at)));
    leaf(xml, "AccessedAt", &accessed)
}

fn metadata(xml: &mut Xml, metadata: Option<&str>) -> io::Result<()> {
    metadata.map_or(Ok(()), |metadata| leaf(xml, "UserMetadata", metadata))
}

/// A destination of forwarding, as the absolute address the service shows it as.
fn target(xml: &mut Xml, scene: &Scene<'_>, element: &str, target: Option<&EntityName>) -> io::Result<()> {
    let host = scene.base.split_once("://").map_or(scene.base, |(_, host)| host);
    target.map_or(Ok(()), |target| leaf(xml, element, &format!("sb://{host}/{target}")))
}
