//! Writing the Atom documents of the administration API, element by element in the order that strict readers demand.
//!
//! Pure: it is given everything it writes, the time included. `CountDetails` has exactly one attribute, its namespace,
//! because the JavaScript SDK insists; the id ends in the queue's name, because that SDK reads names from there.

use std::io;
use std::time::{Duration, SystemTime};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use quick_xml::Writer;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::document::{ATOM, SERVICE};
use crate::durations::write_iso;

/// The service's default; without effect, as duplicates are not detected here.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(10);
const INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";
const COUNTS: &str = "http://schemas.microsoft.com/netservices/2011/06/servicebus";
/// What the namespace calls itself, the name the emulator uses too.
pub(super) const NAMESPACE_NAME: &str = "sbemulatorns";
/// .NET's `DateTime.MinValue`, the service's "never accessed".
const NEVER_ACCESSED: &str = "0001-01-01T00:00:00Z";
/// What stays as it is in a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b'$');

/// Everything a queue's entry says that is not the same for all queues here.
#[derive(Clone, Debug)]
pub(crate) struct QueueEntry {
    /// In the spelling it was created with.
    pub(crate) name: String,
    pub(crate) lock_duration: Duration,
    pub(crate) max_size_in_megabytes: u64,
    pub(crate) default_message_time_to_live: Duration,
    pub(crate) dead_lettering_on_message_expiration: bool,
    pub(crate) max_delivery_count: u32,
    pub(crate) size_in_bytes: u64,
    pub(crate) status: &'static str,
    pub(crate) user_metadata: Option<String>,
    pub(crate) created: SystemTime,
    pub(crate) updated: SystemTime,
    /// `None` when nobody has used the queue.
    pub(crate) accessed: Option<SystemTime>,
    /// Deliverable and locked messages.
    pub(crate) active: u64,
    pub(crate) dead_letter: u64,
    pub(crate) scheduled: u64,
    /// All of them.
    pub(crate) total: u64,
}

/// What all documents of one request share.
pub(crate) struct Scene<'a> {
    /// Scheme and authority the client used, such as `http://127.0.0.1:5672`.
    pub(crate) base: &'a str,
    /// The `api-version` the client asked for.
    pub(crate) api_version: &'a str,
    pub(crate) now: SystemTime,
}

/// A page of a listing.
pub(crate) struct Page<'a> {
    /// The listing's own path, such as `$Resources/Queues`.
    pub(crate) path: &'a str,
    /// What it is called in the feed's title.
    pub(crate) title: &'a str,
    pub(crate) skip: usize,
    pub(crate) top: usize,
    /// Whether more follow; a next link is written only then.
    pub(crate) more: bool,
}

/// The entry of one queue.
pub(crate) fn queue_entry(scene: &Scene<'_>, queue: &QueueEntry) -> io::Result<Vec<u8>> {
    let mut xml = Writer::new(Vec::with_capacity(3 * 1024));
    write_entry(&mut xml, scene, queue)?;
    Ok(xml.into_inner())
}

/// A page of queues; without entries it is the "empty feed" that ends a listing.
pub(crate) fn queue_feed(scene: &Scene<'_>, page: &Page<'_>, queues: &[QueueEntry]) -> io::Result<Vec<u8>> {
    let mut xml = Writer::new(Vec::with_capacity(1024 + queues.len() * 3 * 1024));
    open(&mut xml, "feed", &[("xmlns", ATOM)])?;
    write_title(&mut xml, page.title)?;
    let this =
        format!("{}/{}?$skip={}&$top={}&api-version={}", scene.base, page.path, page.skip, page.top, scene.api_version);
    leaf(&mut xml, "id", &this)?;
    leaf(&mut xml, "updated", &timestamp(scene.now))?;
    link(&mut xml, "self", &this)?;
    if page.more {
        let next = page.skip.saturating_add(page.top);
        let next =
            format!("{}/{}?$skip={next}&$top={}&api-version={}", scene.base, page.path, page.top, scene.api_version);
        link(&mut xml, "next", &next)?;
    }
    for queue in queues {
        write_entry(&mut xml, scene, queue)?;
    }
    close(&mut xml, "feed")?;
    Ok(xml.into_inner())
}

/// The entry of `$namespaceinfo`.
pub(crate) fn namespace_entry(scene: &Scene<'_>, created: SystemTime) -> io::Result<Vec<u8>> {
    let mut xml = Writer::new(Vec::with_capacity(1024));
    open(&mut xml, "entry", &[("xmlns", ATOM)])?;
    write_head(&mut xml, scene, "$namespaceinfo", NAMESPACE_NAME, created, created)?;
    open(&mut xml, "content", &[("type", "application/xml")])?;
    open(&mut xml, "NamespaceInfo", &[("xmlns", SERVICE), ("xmlns:i", INSTANCE)])?;
    leaf(&mut xml, "CreatedTime", &timestamp(created))?;
    leaf(&mut xml, "MessagingSKU", "Standard")?;
    leaf(&mut xml, "ModifiedTime", &timestamp(created))?;
    leaf(&mut xml, "Name", NAMESPACE_NAME)?;
    leaf(&mut xml, "NamespaceType", "Messaging")?;
    for name in ["NamespaceInfo", "content", "entry"] {
        close(&mut xml, name)?;
    }
    Ok(xml.into_inner())
}

/// The body of every failure.
pub(crate) fn error_body(code: u16, detail: &str) -> io::Result<Vec<u8>> {
    let mut xml = Writer::new(Vec::with_capacity(256));
    open(&mut xml, "Error", &[])?;
    leaf(&mut xml, "Code", &code.to_string())?;
    leaf(&mut xml, "Detail", detail)?;
    close(&mut xml, "Error")?;
    Ok(xml.into_inner())
}

/// RFC 3339 in UTC. A clock outside the years 1 to 9999 reads as the epoch.
pub(crate) fn timestamp(at: SystemTime) -> String {
    // Whole milliseconds: nine decimals are more than .NET's seven.
    let at = OffsetDateTime::from(at);
    let at = at.replace_millisecond(at.millisecond()).unwrap_or(at);
    at.format(&Rfc3339).unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}

fn write_entry(xml: &mut Writer<Vec<u8>>, scene: &Scene<'_>, queue: &QueueEntry) -> io::Result<()> {
    open(xml, "entry", &[("xmlns", ATOM)])?;
    write_head(xml, scene, &queue.name, &queue.name, queue.created, queue.updated)?;
    open(xml, "content", &[("type", "application/xml")])?;
    write_description(xml, queue)?;
    close(xml, "content")?;
    close(xml, "entry")
}

fn write_head(
    xml: &mut Writer<Vec<u8>>,
    scene: &Scene<'_>,
    path: &str,
    title: &str,
    published: SystemTime,
    updated: SystemTime,
) -> io::Result<()> {
    let path = utf8_percent_encode(path, PATH);
    leaf(xml, "id", &format!("{}/{path}?api-version={}", scene.base, scene.api_version))?;
    write_title(xml, title)?;
    leaf(xml, "published", &timestamp(published))?;
    leaf(xml, "updated", &timestamp(updated))?;
    open(xml, "author", &[])?;
    leaf(xml, "name", NAMESPACE_NAME)?;
    close(xml, "author")?;
    link(xml, "self", &format!("../{path}?api-version={}", scene.api_version))
}

fn write_description(xml: &mut Writer<Vec<u8>>, queue: &QueueEntry) -> io::Result<()> {
    open(xml, "QueueDescription", &[("xmlns", SERVICE), ("xmlns:i", INSTANCE)])?;
    leaf(xml, "LockDuration", &write_iso(queue.lock_duration))?;
    leaf(xml, "MaxSizeInMegabytes", &queue.max_size_in_megabytes.to_string())?;
    leaf(xml, "RequiresDuplicateDetection", boolean(false))?;
    leaf(xml, "RequiresSession", boolean(false))?;
    leaf(xml, "DefaultMessageTimeToLive", &write_iso(queue.default_message_time_to_live))?;
    leaf(xml, "DeadLetteringOnMessageExpiration", boolean(queue.dead_lettering_on_message_expiration))?;
    leaf(xml, "DuplicateDetectionHistoryTimeWindow", &write_iso(DUPLICATE_WINDOW))?;
    leaf(xml, "MaxDeliveryCount", &queue.max_delivery_count.to_string())?;
    leaf(xml, "EnableBatchedOperations", boolean(true))?;
    leaf(xml, "SizeInBytes", &queue.size_in_bytes.to_string())?;
    leaf(xml, "MessageCount", &queue.total.to_string())?;
    leaf(xml, "IsAnonymousAccessible", boolean(false))?;
    xml.write_event(Event::Empty(BytesStart::new("AuthorizationRules")))?;
    leaf(xml, "Status", queue.status)?;
    if let Some(metadata) = &queue.user_metadata {
        leaf(xml, "UserMetadata", metadata)?;
    }
    leaf(xml, "CreatedAt", &timestamp(queue.created))?;
    leaf(xml, "UpdatedAt", &timestamp(queue.updated))?;
    leaf(xml, "AccessedAt", &queue.accessed.map_or_else(|| NEVER_ACCESSED.to_owned(), timestamp))?;
    leaf(xml, "SupportOrdering", boolean(true))?;
    open(xml, "CountDetails", &[("xmlns:d2p1", COUNTS)])?;
    for (name, count) in [
        ("d2p1:ActiveMessageCount", queue.active),
        ("d2p1:DeadLetterMessageCount", queue.dead_letter),
        ("d2p1:ScheduledMessageCount", queue.scheduled),
        ("d2p1:TransferMessageCount", 0),
        ("d2p1:TransferDeadLetterMessageCount", 0),
    ] {
        leaf(xml, name, &count.to_string())?;
    }
    close(xml, "CountDetails")?;
    leaf(xml, "AutoDeleteOnIdle", &write_iso(crate::durations::NEVER))?;
    leaf(xml, "EnablePartitioning", boolean(false))?;
    leaf(xml, "EntityAvailabilityStatus", "Available")?;
    leaf(xml, "EnableExpress", boolean(false))?;
    leaf(xml, "MaxMessageSizeInKilobytes", "256")?;
    close(xml, "QueueDescription")
}

fn write_title(xml: &mut Writer<Vec<u8>>, title: &str) -> io::Result<()> {
    open(xml, "title", &[("type", "text")])?;
    xml.write_event(Event::Text(BytesText::new(title)))?;
    close(xml, "title")
}

fn link(xml: &mut Writer<Vec<u8>>, rel: &str, href: &str) -> io::Result<()> {
    let mut start = BytesStart::new("link");
    start.push_attribute(("rel", rel));
    start.push_attribute(("href", href));
    xml.write_event(Event::Empty(start))
}

fn open(xml: &mut Writer<Vec<u8>>, name: &str, attributes: &[(&str, &str)]) -> io::Result<()> {
    let mut start = BytesStart::new(name);
    for attribute in attributes {
        start.push_attribute(*attribute);
    }
    xml.write_event(Event::Start(start))
}

fn close(xml: &mut Writer<Vec<u8>>, name: &str) -> io::Result<()> {
    xml.write_event(Event::End(BytesEnd::new(name)))
}

fn leaf(xml: &mut Writer<Vec<u8>>, name: &str, text: &str) -> io::Result<()> {
    open(xml, name, &[])?;
    xml.write_event(Event::Text(BytesText::new(text)))?;
    close(xml, name)
}

fn boolean(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}
