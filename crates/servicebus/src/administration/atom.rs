//! Atom documents of the administration API: reading entries and feeds; [`writing`] has the entries that make them.
//!
//! Read in one pass, by local element names, since prefixes differ between services; what is not asked for is passed over.
//! A listing is read often and its pages are long, so nothing is built that is not kept. The text is data from outside: it
//! is bounded before it comes here, and anything unexpected is an error in words, never a panic. Depth costs no stack.

use std::borrow::Cow;
use std::str::FromStr;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::description::{EntityCounts, EntityDescription};
use super::duration;
use crate::said::said;

mod writing;

pub(super) use writing::{queue, subscription, topic};

/// The title of the feed by which the service says that there is nothing under a path.
const NOTHING_HERE: &str = "Publicly Listed Services";

/// The longest name of an entity, in characters; the service allows no longer one.
const MOST_NAME: usize = 260;
/// No status of the service comes near it. Both are kept for long, so a peer must not choose their lengths.
const MOST_STATUS: usize = 64;

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

/// Reads an entry or a feed, whichever it is.
pub(super) fn read(text: &str) -> Result<Document, String> {
    let mut walk = Walk { reader: Reader::from_str(text) };
    let root = walk.root()?;
    match root.local_name().as_ref() {
        "entry" => Ok(Document::Entry(walk.entry()?)),
        "feed" => walk.feed(),
        other => Err(format!("its root element is {:?}, not `entry` or `feed`", short(other))),
    }
}

/// What an error document says, on one line: its `Detail`, or nothing where the body is something else.
pub(super) fn error_detail(text: &str) -> Option<String> {
    let mut walk = Walk { reader: Reader::from_str(text) };
    walk.root().ok().filter(|root| root.local_name().as_ref() == "Error")?;
    while let Some(child) = walk.child().ok()? {
        let Child::Open(start) = child else { continue };
        if start.local_name().as_ref() != "Detail" {
            walk.skip(&start).ok()?;
            continue;
        }
        let detail = said(&walk.text().ok()?);
        return (!detail.is_empty()).then_some(detail);
    }
    None
}

/// The way through a document, one event at a time. Each method but `root` is called just after the start of the element it
/// is named after, and returns just after its end.
struct Walk<'a> {
    reader: Reader<&'a [u8]>,
}

/// An element inside another.
enum Child<'a> {
    /// With content to come.
    Open(BytesStart<'a>),
    /// Without.
    Empty(BytesStart<'a>),
}

impl<'a> Walk<'a> {
    fn event(&mut self) -> Result<Event<'a>, String> {
        match self.reader.read_event() {
            Ok(Event::Eof) => Err("it breaks off".to_owned()),
            Ok(event) => Ok(event),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The first element, which has to have content.
    fn root(&mut self) -> Result<BytesStart<'a>, String> {
        loop {
            match self.reader.read_event().map_err(|error| error.to_string())? {
                Event::Start(start) => return Ok(start),
                Event::Empty(start) => {
                    return Err(format!("its root element {:?} is empty", short(start.local_name().as_ref())));
                }
                Event::Eof => return Err("it is not XML".to_owned()),
                _ => {}
            }
        }
    }

    /// The next element inside this one; `None` at its end.
    fn child(&mut self) -> Result<Option<Child<'a>>, String> {
        loop {
            match self.event()? {
                Event::Start(start) => return Ok(Some(Child::Open(start))),
                Event::Empty(start) => return Ok(Some(Child::Empty(start))),
                Event::End(_) => return Ok(None),
                _ => {}
            }
        }
    }

    /// Passes over an element, whatever is in it.
    fn skip(&mut self, start: &BytesStart<'_>) -> Result<(), String> {
        self.reader.read_to_end(start.name()).map(drop).map_err(|error| error.to_string())
    }

    /// An element's text.
    fn text(&mut self) -> Result<Cow<'a, str>, String> {
        let mut text = Cow::Borrowed("");
        loop {
            let more = match self.event()? {
                Event::Text(more) => more.xml10_content(),
                Event::CData(more) => more.xml10_content(),
                Event::GeneralRef(name) => {
                    if let Some(character) = name.resolve_char_ref().map_err(|error| error.to_string())? {
                        character.to_string().into()
                    } else {
                        let resolved = quick_xml::escape::resolve_xml_entity(&name.xml10_content());
                        resolved.ok_or_else(|| "it has an entity that XML does not define".to_owned())?.into()
                    }
                }
                Event::End(_) => return Ok(text),
                Event::Start(_) | Event::Empty(_) => return Err("an element stands where a value should".to_owned()),
                _ => continue,
            };
            if text.is_empty() { text = more } else { text.to_mut().push_str(&more) }
        }
    }

    fn value<T: FromStr>(&mut self, element: &str) -> Result<T, String> {
        let text = self.text()?;
        text.trim().parse().map_err(|_| format!("{element} is {:?}", short(&text)))
    }

    fn feed(&mut self) -> Result<Document, String> {
        let (mut entities, mut has_next, mut is_nothing_here) = (Vec::new(), false, false);
        while let Some(child) = self.child()? {
            match child {
                Child::Open(start) => match start.local_name().as_ref() {
                    "entry" => entities.push(self.entry()?),
                    "title" => is_nothing_here = self.text()? == NOTHING_HERE,
                    name => {
                        has_next |= name == "link" && is_next(&start)?;
                        self.skip(&start)?;
                    }
                },
                Child::Empty(start) => has_next |= start.local_name().as_ref() == "link" && is_next(&start)?,
            }
        }
        is_nothing_here &= entities.is_empty();
        Ok(Document::Feed { entities, is_nothing_here, has_next })
    }

    fn entry(&mut self) -> Result<EntityDescription, String> {
        let (mut name, mut parts) = (None, None);
        while let Some(child) = self.child()? {
            let Child::Open(start) = child else { continue };
            match start.local_name().as_ref() {
                "title" => name = Some(within(MOST_NAME, "an entry's title", self.text()?)?.into_owned()),
                "content" => parts = self.content()?,
                _ => self.skip(&start)?,
            }
        }
        let name = name.ok_or("an entry has no title")?;
        let parts = parts.ok_or_else(|| {
            format!("the entry {name:?} has neither a QueueDescription nor a SubscriptionDescription")
        })?;
        parts.describe(name)
    }

    fn content(&mut self) -> Result<Option<Parts<'a>>, String> {
        let mut parts = None;
        while let Some(child) = self.child()? {
            let Child::Open(start) = child else { continue };
            match start.local_name().as_ref() {
                "QueueDescription" | "SubscriptionDescription" => parts = Some(self.description()?),
                _ => self.skip(&start)?,
            }
        }
        Ok(parts)
    }

    fn description(&mut self) -> Result<Parts<'a>, String> {
        let mut parts = Parts::default();
        while let Some(child) = self.child()? {
            let Child::Open(start) = child else { continue };
            match start.local_name().as_ref() {
                "LockDuration" => parts.lock_duration = Some(self.text()?),
                "MaxDeliveryCount" => parts.max_delivery_count = Some(self.value("MaxDeliveryCount")?),
                "RequiresSession" => parts.requires_session = Some(self.value("RequiresSession")?),
                "Status" => parts.status = Some(within(MOST_STATUS, "Status", self.text()?)?),
                "CountDetails" => parts.counts = self.counts()?,
                _ => self.skip(&start)?,
            }
        }
        Ok(parts)
    }

    fn counts(&mut self) -> Result<[Option<u64>; 5], String> {
        let mut counts = [None; 5];
        while let Some(child) = self.child()? {
            let Child::Open(start) = child else { continue };
            match COUNTS.iter().position(|name| *name == start.local_name().as_ref()) {
                Some(index) => counts[index] = Some(self.value(COUNTS[index])?),
                None => self.skip(&start)?,
            }
        }
        Ok(counts)
    }
}

/// The elements of `CountDetails`.
const COUNTS: [&str; 5] = [
    "ActiveMessageCount",
    "DeadLetterMessageCount",
    "ScheduledMessageCount",
    "TransferMessageCount",
    "TransferDeadLetterMessageCount",
];

/// What is kept of a description.
#[derive(Default)]
struct Parts<'a> {
    lock_duration: Option<Cow<'a, str>>,
    max_delivery_count: Option<u32>,
    requires_session: Option<bool>,
    status: Option<Cow<'a, str>>,
    counts: [Option<u64>; 5],
}

impl Parts<'_> {
    fn describe(self, name: String) -> Result<EntityDescription, String> {
        let missing = |element: &str| format!("{element} of {name:?} is missing");
        let lock_duration = self.lock_duration.ok_or_else(|| missing("LockDuration"))?;
        let lock_duration = duration::parse(&lock_duration)
            .ok_or_else(|| format!("LockDuration {lock_duration:?} of {name:?} is not a duration such as PT1M"))?;
        let count = |index: usize| self.counts[index].ok_or_else(|| missing(COUNTS[index]));
        Ok(EntityDescription {
            counts: EntityCounts {
                active: count(0)?,
                dead_letter: count(1)?,
                scheduled: count(2)?,
                transfer: count(3)?,
                transfer_dead_letter: count(4)?,
            },
            status: self.status.ok_or_else(|| missing("Status"))?.into_owned().into(),
            lock_duration,
            max_delivery_count: self.max_delivery_count.ok_or_else(|| missing("MaxDeliveryCount"))?,
            requires_session: self.requires_session.ok_or_else(|| missing("RequiresSession"))?,
            name,
        })
    }
}

fn is_next(link: &BytesStart<'_>) -> Result<bool, String> {
    let rel = link.try_get_attribute("rel").map_err(|error| error.to_string())?;
    Ok(rel.is_some_and(|rel| rel.value.as_ref() == "next"))
}

/// A text that is kept: only one that is not longer than it may be.
fn within<'a>(most: usize, what: &str, text: Cow<'a, str>) -> Result<Cow<'a, str>, String> {
    if text.chars().nth(most).is_some() { Err(format!("{what} is longer than {most} characters")) } else { Ok(text) }
}

/// Of what an error repeats, as much as helps.
fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests;
