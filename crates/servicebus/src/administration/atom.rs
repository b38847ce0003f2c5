//! Atom documents of the administration API: reading entries and feeds, writing the entries that make them.
//!
//! Read by local element names, since prefixes differ between services. The text is data from outside: it is bounded
//! before it comes here, and anything unexpected is an error in words, never a panic.

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};
use serde::Deserialize;

use super::description::{EntityCounts, EntityDescription, EntitySettings};
use super::duration;

const ATOM: &str = "http://www.w3.org/2005/Atom";
const SERVICE_BUS: &str = "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect";
const XML_SCHEMA_INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// The title of the feed by which the service says that there is nothing under a path.
const NOTHING_HERE: &str = "Publicly Listed Services";

/// The answer to a GET.
pub(super) enum Document {
    /// One queue or subscription.
    Entry(EntityDescription),
    /// A feed: the answer to a listing, and to a GET of an entity that does not exist.
    Feed {
        /// The entities on this page.
        entities: Vec<EntityDescription>,
        /// Whether it is no listing: nothing is under the path that was asked for.
        is_nothing_here: bool,
        /// Whether the service says that there is another page.
        has_next: bool,
    },
}

#[derive(Deserialize)]
struct Feed {
    #[serde(default)]
    title: Title,
    #[serde(default)]
    link: Vec<Link>,
    #[serde(default)]
    entry: Vec<Entry>,
}

#[derive(Deserialize)]
struct Link {
    #[serde(rename = "@rel", default)]
    rel: String,
}

#[derive(Deserialize)]
struct Entry {
    title: Title,
    content: Content,
}

#[derive(Deserialize, Default)]
struct Title {
    #[serde(rename = "$text", default)]
    text: String,
}

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "QueueDescription", alias = "SubscriptionDescription")]
    entity: Option<Entity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entity {
    lock_duration: String,
    max_delivery_count: u32,
    requires_session: bool,
    status: String,
    count_details: CountDetails,
}

#[expect(clippy::struct_field_names, reason = "the names of the elements")]
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CountDetails {
    active_message_count: u64,
    dead_letter_message_count: u64,
    scheduled_message_count: u64,
    transfer_message_count: u64,
    transfer_dead_letter_message_count: u64,
}

/// Reads an entry or a feed, whichever it is.
pub(super) fn read(text: &str) -> Result<Document, String> {
    match root_name(text)?.as_str() {
        "entry" => {
            let entry: Entry = quick_xml::de::from_str(text).map_err(|error| error.to_string())?;
            Ok(Document::Entry(entry.describe()?))
        }
        "feed" => {
            let feed: Feed = quick_xml::de::from_str(text).map_err(|error| error.to_string())?;
            let has_next = feed.link.iter().any(|link| link.rel == "next");
            Ok(Document::Feed {
                is_nothing_here: feed.entry.is_empty() && feed.title.text == NOTHING_HERE,
                entities: feed.entry.into_iter().map(Entry::describe).collect::<Result<_, _>>()?,
                has_next,
            })
        }
        other => Err(format!("its root element is {other:?}, not `entry` or `feed`")),
    }
}

fn root_name(text: &str) -> Result<String, String> {
    let mut reader = quick_xml::Reader::from_str(text);
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(start) | Event::Empty(start) => {
                let name: String = start.local_name().as_ref().chars().take(60).collect();
                return Ok(name);
            }
            Event::Eof => return Err("it is not XML".to_owned()),
            _ => {}
        }
    }
}

impl Entry {
    fn describe(self) -> Result<EntityDescription, String> {
        let name = self.title.text;
        let entity = self.content.entity.ok_or_else(|| {
            format!("the entry {name:?} has neither a QueueDescription nor a SubscriptionDescription")
        })?;
        let lock_duration = duration::parse(&entity.lock_duration).ok_or_else(|| {
            format!("LockDuration {:?} of {name:?} is not a duration such as PT1M", entity.lock_duration)
        })?;
        let counts = entity.count_details;
        Ok(EntityDescription {
            name,
            counts: EntityCounts {
                active: counts.active_message_count,
                dead_letter: counts.dead_letter_message_count,
                scheduled: counts.scheduled_message_count,
                transfer: counts.transfer_message_count,
                transfer_dead_letter: counts.transfer_dead_letter_message_count,
            },
            status: entity.status.into(),
            lock_duration,
            max_delivery_count: entity.max_delivery_count,
            requires_session: entity.requires_session,
        })
    }
}

/// The body of the PUT that makes or changes a queue.
pub(super) fn queue(settings: &EntitySettings) -> std::io::Result<Vec<u8>> {
    entry("QueueDescription", &elements(settings))
}

/// The body of the PUT that makes a topic.
pub(super) fn topic() -> std::io::Result<Vec<u8>> {
    entry("TopicDescription", &[])
}

/// The body of the PUT that makes or changes a subscription. Without a rule in it the service adds the one that lets all
/// through.
pub(super) fn subscription(settings: &EntitySettings) -> std::io::Result<Vec<u8>> {
    entry("SubscriptionDescription", &elements(settings))
}

/// In the service's order, which it insists on; of these it is the same for queues and subscriptions.
fn elements(settings: &EntitySettings) -> [(&'static str, Option<String>); 6] {
    let EntitySettings {
        lock_duration,
        max_delivery_count,
        requires_session,
        default_message_time_to_live,
        dead_lettering_on_message_expiration,
        status,
    } = settings;
    [
        ("LockDuration", lock_duration.map(duration::format)),
        ("RequiresSession", requires_session.map(|value| value.to_string())),
        ("DefaultMessageTimeToLive", default_message_time_to_live.map(duration::format)),
        ("DeadLetteringOnMessageExpiration", dead_lettering_on_message_expiration.map(|value| value.to_string())),
        ("MaxDeliveryCount", max_delivery_count.map(|value| value.to_string())),
        ("Status", status.as_ref().map(|status| status.as_str().to_owned())),
    ]
}

fn entry(description: &str, elements: &[(&str, Option<String>)]) -> std::io::Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new());
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("utf-8"), None)))?;
    writer.create_element("entry").with_attribute(("xmlns", ATOM)).write_inner_content(|writer| {
        writer.create_element("content").with_attribute(("type", "application/xml")).write_inner_content(|writer| {
            writer
                .create_element(description)
                .with_attributes([("xmlns", SERVICE_BUS), ("xmlns:i", XML_SCHEMA_INSTANCE)])
                .write_inner_content(|writer| {
                    for (name, value) in elements {
                        if let Some(value) = value {
                            writer.create_element(*name).write_text_content(BytesText::new(value))?;
                        }
                    }
                    Ok(())
                })?;
            Ok(())
        })?;
        Ok(())
    })?;
    Ok(writer.into_inner())
}

/// What an error document says, on one line: its `Detail`, or nothing where the body is something else.
pub(super) fn error_detail(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Error {
        #[serde(rename = "Detail")]
        detail: String,
    }
    let detail = quick_xml::de::from_str::<Error>(text).ok()?.detail;
    let line: String = detail.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    let line = line.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests;
