//! Writing the Atom documents of the administration API: entries, feeds, errors. `description.rs` writes what is in them.
//!
//! Pure: it is given everything it writes, the time included. An id ends in the path of what it names, because the
//! JavaScript SDK reads names from there; the others read them from the title.

use std::io;
use std::time::SystemTime;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use quick_xml::Writer;
use quick_xml::events::{BytesStart, BytesText, Event};

use super::description::{write_queue, write_subscription, write_topic, write_true_rule};
use super::document::{ATOM, SERVICE};
use super::xml::{INSTANCE, Scene, close, leaf, open, timestamp};
use crate::hub::system_time;
use crate::state::{QueueSnapshot, TopicSnapshot};

/// What the namespace calls itself, the name the emulator uses too.
const NAMESPACE_NAME: &str = "sbemulatorns";
/// The name of a new subscription's rule.
pub(super) const DEFAULT_RULE: &str = "$Default";
/// What stays as it is in a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b'$');

/// What an entry is about.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    Queue(QueueSnapshot),
    Topic(TopicSnapshot),
    Subscription(QueueSnapshot),
    /// The only rule of a subscription.
    TrueRule(QueueSnapshot),
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

/// One entry.
pub(crate) fn entry(scene: &Scene<'_>, subject: &Subject) -> io::Result<Vec<u8>> {
    let mut xml = Writer::new(Vec::with_capacity(3 * 1024));
    write_entry(&mut xml, scene, subject)?;
    Ok(xml.into_inner())
}

/// A page of a listing; without entries it is the "empty feed" that ends one.
pub(crate) fn feed(scene: &Scene<'_>, page: &Page<'_>, subjects: &[Subject]) -> io::Result<Vec<u8>> {
    let mut xml = Writer::new(Vec::with_capacity(1024 + subjects.len() * 3 * 1024));
    let path = utf8_percent_encode(page.path, PATH);
    let at = |skip| format!("{}/{path}?$skip={skip}&$top={}&api-version={}", scene.base, page.top, scene.api_version);
    open(&mut xml, "feed", &[("xmlns", ATOM)])?;
    write_title(&mut xml, page.title)?;
    leaf(&mut xml, "id", &at(page.skip))?;
    leaf(&mut xml, "updated", &timestamp(scene.now))?;
    link(&mut xml, "self", &at(page.skip))?;
    if page.more {
        link(&mut xml, "next", &at(page.skip.saturating_add(page.top)))?;
    }
    for subject in subjects {
        write_entry(&mut xml, scene, subject)?;
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

fn write_entry(xml: &mut Writer<Vec<u8>>, scene: &Scene<'_>, subject: &Subject) -> io::Result<()> {
    let (path, title, created, updated) = match subject {
        Subject::Queue(queue) | Subject::Subscription(queue) => {
            (queue.name.to_string(), queue.name.own_name(), queue.created_at, queue.updated_at)
        }
        Subject::Topic(topic) => (topic.name.to_string(), topic.name.as_str(), topic.created_at, topic.updated_at),
        Subject::TrueRule(queue) => {
            let path = format!("{}/Rules/{DEFAULT_RULE}", queue.name);
            (path, DEFAULT_RULE, queue.created_at, queue.created_at)
        }
    };
    open(xml, "entry", &[("xmlns", ATOM)])?;
    write_head(xml, scene, &path, title, system_time(created), system_time(updated))?;
    open(xml, "content", &[("type", "application/xml")])?;
    match subject {
        Subject::Queue(queue) => write_queue(xml, scene, queue)?,
        Subject::Topic(topic) => write_topic(xml, topic)?,
        Subject::Subscription(queue) => write_subscription(xml, scene, queue)?,
        Subject::TrueRule(queue) => write_true_rule(xml, DEFAULT_RULE, queue.created_at)?,
    }
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
