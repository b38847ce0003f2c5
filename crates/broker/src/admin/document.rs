//! Reading the Atom documents of the administration API: the body of a PUT to the kind of entity and the settings it asks
//! for.
//!
//! Namespaces decide, prefixes do not: Python writes `ns0:entry`, JavaScript `entry`. Elements are optional and their
//! order is free; read-only ones (counts, dates) come along in updates and are ignored.

use std::time::Duration;

use quick_xml::NsReader;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};

use crate::durations;

/// The namespace of `entry` and `feed`.
pub(super) const ATOM: &str = "http://www.w3.org/2005/Atom";
/// The namespace of the descriptions.
pub(super) const SERVICE: &str = "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect";

const DEFAULT_RULE: &str = "DefaultRuleDescription";
/// The largest nesting of a body; real ones have six levels.
const MAX_DEPTH: usize = 32;

/// Why a body was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DocumentError {
    #[error("the body is not well-formed XML: {0}")]
    Xml(String),
    #[error(
        "the body is not an Atom entry whose content is a QueueDescription, TopicDescription or SubscriptionDescription"
    )]
    Shape,
    #[error("{0} is not supported by this broker: it serves queues, topics and subscriptions")]
    Kind(String),
    #[error("{element}: {value:?} is not allowed; {allowed}")]
    Value { element: String, value: String, allowed: &'static str },
}

/// The kinds of entities that can be described.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Queue,
    Topic,
    Subscription,
}

impl Kind {
    fn of(element: &str) -> Option<Self> {
        match element {
            "QueueDescription" => Some(Self::Queue),
            "TopicDescription" => Some(Self::Topic),
            "SubscriptionDescription" => Some(Self::Subscription),
            _ => None,
        }
    }
}

/// What a PUT asks of an entity; `None` where the body was silent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requested {
    pub(crate) kind: Kind,
    pub(crate) lock_duration: Option<Duration>,
    pub(crate) max_size_in_megabytes: Option<u32>,
    pub(crate) requires_duplicate_detection: Option<bool>,
    pub(crate) requires_session: Option<bool>,
    pub(crate) default_message_time_to_live: Option<Duration>,
    pub(crate) dead_lettering_on_message_expiration: Option<bool>,
    pub(crate) max_delivery_count: Option<u32>,
    pub(crate) status: Option<String>,
    pub(crate) forward_to: Option<String>,
    pub(crate) user_metadata: Option<String>,
    pub(crate) auto_delete_on_idle: Option<Duration>,
    pub(crate) enable_partitioning: Option<bool>,
    pub(crate) forward_dead_lettered_messages_to: Option<String>,
    pub(crate) enable_express: Option<bool>,
    pub(crate) max_message_size_in_kilobytes: Option<u64>,
    pub(crate) filtering_messages_before_publishing: Option<bool>,
    pub(crate) default_rule: Option<RequestedRule>,
}

/// What `DefaultRuleDescription` asks for; types without their prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestedRule {
    pub(crate) name: Option<String>,
    pub(crate) filter: Option<String>,
    pub(crate) sql_expression: Option<String>,
    pub(crate) action: Option<String>,
}

impl Requested {
    /// Reads the body of a PUT.
    pub(crate) fn parse(body: &str) -> Result<Self, DocumentError> {
        let mut reader = NsReader::from_str(body);
        let mut requested = Self::default();
        // The open elements: their local names, and whether each is in the namespace its place demands.
        let mut path: Vec<(String, bool)> = Vec::new();
        let mut text = String::new();
        let mut found = false;
        loop {
            let (namespace, event) =
                reader.read_resolved_event().map_err(|error| DocumentError::Xml(error.to_string()))?;
            match event {
                Event::Start(_) | Event::Empty(_) if path.len() >= MAX_DEPTH => return Err(DocumentError::Shape),
                Event::Start(ref start) | Event::Empty(ref start) => {
                    let local = start.local_name();
                    let name = String::from(AsRef::<str>::as_ref(&local));
                    let wanted = if path.len() < 2 { ATOM } else { SERVICE };
                    let fits = matches!(namespace, ResolveResult::Bound(Namespace(bound)) if bound == wanted);
                    if is_description(&path, fits) {
                        requested.kind = Kind::of(&name).ok_or_else(|| DocumentError::Kind(name.clone()))?;
                        found = true;
                    }
                    text.clear();
                    let empty = matches!(event, Event::Empty(_));
                    path.push((name, fits));
                    requested.open(&path, start);
                    if empty {
                        requested.close(&path, "")?;
                        path.pop();
                    }
                }
                Event::End(_) => {
                    requested.close(&path, &text)?;
                    path.pop();
                    text.clear();
                }
                Event::Text(part) => text.push_str(&part.xml10_content()),
                Event::CData(part) => text.push_str(&part.xml10_content()),
                Event::GeneralRef(reference) => text.push(resolve(&reference)?),
                Event::Eof => break,
                Event::DocType(_) => return Err(DocumentError::Xml("a document type is not allowed".to_owned())),
                _ => {}
            }
        }
        if found { Ok(requested) } else { Err(DocumentError::Shape) }
    }

    /// Notes the types of a default rule's filter and action, which are attributes.
    fn open(&mut self, path: &[(String, bool)], start: &BytesStart<'_>) {
        let Some([rule, part]) = inside_description(path).and_then(|below| <[&str; 2]>::try_from(below).ok()) else {
            return;
        };
        if rule != DEFAULT_RULE {
            return;
        }
        let kind = start.attributes().flatten().find(|attribute| {
            let key = attribute.key.local_name();
            AsRef::<str>::as_ref(&key) == "type"
        });
        let kind = kind.map(|attribute| String::from(AsRef::<str>::as_ref(&attribute.value)));
        let kind = kind.map(|kind| kind.rsplit(':').next().unwrap_or_default().to_owned());
        let rule = self.default_rule.get_or_insert_default();
        match part {
            "Filter" => rule.filter = kind,
            "Action" => rule.action = kind,
            _ => {}
        }
    }

    /// Takes the value of an element that ends; elements elsewhere or unknown are ignored.
    fn close(&mut self, path: &[(String, bool)], text: &str) -> Result<(), DocumentError> {
        if let Some(character) = text.chars().find(|character| !is_xml(*character)) {
            return Err(DocumentError::Xml(format!("the character {character:?} is not allowed")));
        }
        let text = text.trim();
        let element = match inside_description(path).as_deref() {
            Some([element]) => *element,
            Some([DEFAULT_RULE, "Name"]) => {
                self.default_rule.get_or_insert_default().name = Some(text.to_owned());
                return Ok(());
            }
            Some([DEFAULT_RULE, "Filter", "SqlExpression"]) => {
                self.default_rule.get_or_insert_default().sql_expression = Some(text.to_owned());
                return Ok(());
            }
            _ => return Ok(()),
        };
        let at = Field { element, text };
        match element {
            "LockDuration" => self.lock_duration = Some(at.duration()?),
            "MaxSizeInMegabytes" => self.max_size_in_megabytes = Some(at.number()?),
            "RequiresDuplicateDetection" => self.requires_duplicate_detection = Some(at.boolean()?),
            "RequiresSession" => self.requires_session = Some(at.boolean()?),
            "DefaultMessageTimeToLive" => self.default_message_time_to_live = Some(at.duration()?),
            "DeadLetteringOnMessageExpiration" => self.dead_lettering_on_message_expiration = Some(at.boolean()?),
            "MaxDeliveryCount" => self.max_delivery_count = Some(at.number()?),
            "Status" => self.status = Some(text.to_owned()),
            "ForwardTo" => self.forward_to = Some(text.to_owned()),
            "UserMetadata" => self.user_metadata = Some(text.to_owned()),
            "AutoDeleteOnIdle" => self.auto_delete_on_idle = Some(at.duration()?),
            "EnablePartitioning" => self.enable_partitioning = Some(at.boolean()?),
            "ForwardDeadLetteredMessagesTo" => self.forward_dead_lettered_messages_to = Some(text.to_owned()),
            "EnableExpress" => self.enable_express = Some(at.boolean()?),
            "MaxMessageSizeInKilobytes" => self.max_message_size_in_kilobytes = Some(at.number()?),
            "FilteringMessagesBeforePublishing" => self.filtering_messages_before_publishing = Some(at.boolean()?),
            _ => {}
        }
        Ok(())
    }
}

/// Whether an element that opens inside `path` is the description: the child of `entry/content`.
fn is_description(path: &[(String, bool)], in_service_namespace: bool) -> bool {
    in_service_namespace && matches!(path, [(entry, true), (content, true)] if entry == "entry" && content == "content")
}

/// The elements below the description, when a path leads there.
fn inside_description(path: &[(String, bool)]) -> Option<Vec<&str>> {
    let [(entry, true), (content, true), (_, true), below @ ..] = path else { return None };
    let here = entry == "entry" && content == "content" && below.iter().all(|(_, fits)| *fits);
    here.then(|| below.iter().map(|(name, _)| name.as_str()).collect())
}

/// Whether XML 1.0 has this character at all; what does not would make every document unreadable that it is written to.
fn is_xml(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn resolve(reference: &quick_xml::events::BytesRef<'_>) -> Result<char, DocumentError> {
    let unknown = || DocumentError::Xml("an unknown entity reference".to_owned());
    if let Some(character) = reference.resolve_char_ref().map_err(|_| unknown())? {
        return Ok(character);
    }
    match AsRef::<str>::as_ref(reference) {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ => Err(unknown()),
    }
}

/// One element's text, with its name for errors.
struct Field<'a> {
    element: &'a str,
    text: &'a str,
}

impl Field<'_> {
    fn refuse(&self, allowed: &'static str) -> DocumentError {
        let value = self.text.chars().take(64).collect();
        DocumentError::Value { element: self.element.to_owned(), value, allowed }
    }

    fn duration(&self) -> Result<Duration, DocumentError> {
        durations::parse_iso(self.text).map_err(|_| self.refuse("write a duration in ISO 8601, such as PT1M or P14D"))
    }

    fn number<N: std::str::FromStr>(&self) -> Result<N, DocumentError> {
        self.text.parse().map_err(|_| self.refuse("write a whole number"))
    }

    fn boolean(&self) -> Result<bool, DocumentError> {
        match self.text {
            "true" | "True" | "1" => Ok(true),
            "false" | "False" | "0" => Ok(false),
            _ => Err(self.refuse("write true or false")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(inner: &str) -> String {
        format!("<entry xmlns=\"{ATOM}\"><content type=\"application/xml\">{inner}</content></entry>")
    }

    #[test]
    fn prefixes_do_not_matter_namespaces_do() {
        let python = format!(
            "<ns0:entry xmlns:ns0=\"{ATOM}\" xmlns=\"{SERVICE}\"><ns0:content type=\"application/xml\">\
             <QueueDescription><LockDuration>PT30S</LockDuration><MaxDeliveryCount>3</MaxDeliveryCount>\
             </QueueDescription></ns0:content></ns0:entry>"
        );
        let requested = Requested::parse(&python).expect("valid");
        assert_eq!(requested.lock_duration, Some(Duration::from_secs(30)));
        assert_eq!(requested.max_delivery_count, Some(3));
        let script = entry(&format!(
            "<QueueDescription xmlns=\"{SERVICE}\" xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\">\
             <UserMetadata>a &lt;&amp;&#x41; b</UserMetadata><RequiresSession>true</RequiresSession><ForwardTo/>\
             <CountDetails xmlns:d=\"urn:x\"><d:MaxDeliveryCount>9</d:MaxDeliveryCount></CountDetails>\
             </QueueDescription>"
        ));
        let requested = Requested::parse(&script).expect("valid");
        assert_eq!(requested.user_metadata.as_deref(), Some("a <&A b"));
        assert_eq!(requested.requires_session, Some(true));
        assert_eq!(requested.forward_to.as_deref(), Some(""));
        assert_eq!(requested.max_delivery_count, None);
        let foreign = entry("<QueueDescription xmlns=\"urn:other\"/>");
        assert_eq!(Requested::parse(&foreign), Err(DocumentError::Shape));
    }

    #[test]
    fn other_kinds_and_bad_values_are_named() {
        for (element, kind) in [("TopicDescription", Kind::Topic), ("SubscriptionDescription", Kind::Subscription)] {
            let described = entry(&format!("<{element} xmlns=\"{SERVICE}\"/>"));
            assert_eq!(Requested::parse(&described).map(|requested| requested.kind), Ok(kind));
        }
        let rule = entry(&format!("<RuleDescription xmlns=\"{SERVICE}\"/>"));
        assert_eq!(Requested::parse(&rule), Err(DocumentError::Kind("RuleDescription".to_owned())));
        let bad = entry(&format!(
            "<QueueDescription xmlns=\"{SERVICE}\"><LockDuration>soon</LockDuration></QueueDescription>"
        ));
        let error = Requested::parse(&bad).expect_err("not a duration");
        assert!(error.to_string().starts_with("LockDuration: \"soon\""), "{error}");
        for text in ["", "{}", "<a", "<entry/>", "<a></b>", "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>"] {
            assert!(Requested::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Requested::parse(&"<a>".repeat(100_000)), Err(DocumentError::Shape));
    }

    #[test]
    fn a_default_rule_is_read_with_its_types() {
        let body = entry(&format!(
            "<SubscriptionDescription xmlns=\"{SERVICE}\" xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\">\
             <DefaultRuleDescription><Filter i:type=\"x:SqlFilter\"><SqlExpression>a = 1</SqlExpression></Filter>\
             <Action i:type=\"EmptyRuleAction\"/><Name>$Default</Name></DefaultRuleDescription>\
             <MaxDeliveryCount>4</MaxDeliveryCount></SubscriptionDescription>"
        ));
        let requested = Requested::parse(&body).expect("valid");
        let text = |text: &str| Some(text.to_owned());
        let (filter, sql_expression) = (text("SqlFilter"), text("a = 1"));
        let rule = RequestedRule { name: text("$Default"), filter, sql_expression, action: text("EmptyRuleAction") };
        assert_eq!((requested.default_rule, requested.max_delivery_count), (Some(rule), Some(4)));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[<>/a-z&;:=\" ]{0,60}") {
            let _ = Requested::parse(&text);
            let _ = Requested::parse(&entry(&text));
        }
    }
}
