//! Documents as the service writes them, and documents that it would not write.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::administration::description::{EntitySettings, EntityStatus};

/// An entry with every element of a real one, prefixes included.
fn entry(name: &str, description: &str) -> String {
    format!(
        r#"<entry xmlns="http://www.w3.org/2005/Atom"><id>https://h/{name}?api-version=2021-05</id>
        <title type="text">{name}</title><published>2026-01-01T00:00:00Z</published><updated>2026-01-01T00:00:00Z</updated>
        <author><name>h</name></author><link rel="self" href="../{name}?api-version=2021-05"/>
        <content type="application/xml"><QueueDescription
        xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"
        xmlns:i="http://www.w3.org/2001/XMLSchema-instance">{description}</QueueDescription></content></entry>"#
    )
}

const DESCRIPTION: &str = r#"<LockDuration>PT1M</LockDuration><MaxSizeInMegabytes>1024</MaxSizeInMegabytes>
    <RequiresSession>false</RequiresSession><DefaultMessageTimeToLive>P10675199DT2H48M5.4775807S</DefaultMessageTimeToLive>
    <MaxDeliveryCount>10</MaxDeliveryCount><MessageCount>6</MessageCount><AuthorizationRules/><Status>Active</Status>
    <CountDetails xmlns:d2p1="http://schemas.microsoft.com/netservices/2011/06/servicebus">
    <d2p1:ActiveMessageCount>4</d2p1:ActiveMessageCount><d2p1:DeadLetterMessageCount>1</d2p1:DeadLetterMessageCount>
    <d2p1:ScheduledMessageCount>2</d2p1:ScheduledMessageCount><d2p1:TransferMessageCount>3</d2p1:TransferMessageCount>
    <d2p1:TransferDeadLetterMessageCount>5</d2p1:TransferDeadLetterMessageCount></CountDetails>"#;

fn read_entry(text: &str) -> EntityDescription {
    match read(text) {
        Ok(Document::Entry(queue)) => queue,
        Ok(Document::Feed { .. }) => panic!("read as a feed"),
        Err(why) => panic!("{why}"),
    }
}

#[test]
fn an_entry_gives_the_counts_whatever_its_prefixes() {
    let text = entry("orders/eu", DESCRIPTION);
    let queue = read_entry(&text);
    assert_eq!(queue.name, "orders/eu");
    let counts = EntityCounts { active: 4, dead_letter: 1, scheduled: 2, transfer: 3, transfer_dead_letter: 5 };
    assert_eq!(queue.counts, counts);
    assert_eq!(queue.status, EntityStatus::Active);
    assert_eq!(queue.lock_duration, Duration::from_mins(1));
    assert_eq!((queue.max_delivery_count, queue.requires_session), (10, false));
    assert_eq!(read_entry(&text.replace("d2p1:", "a:").replace("xmlns:d2p1", "xmlns:a")).counts, counts);
}

#[test]
fn names_and_values_may_be_escaped_and_come_in_pieces() {
    let text = entry("a&amp;b&#x20;c<![CDATA[<d>]]>", &DESCRIPTION.replace(">10<", "> 1<!-- and -->0 <"));
    let queue = read_entry(&text);
    assert_eq!((queue.name.as_str(), queue.max_delivery_count), ("a&b c<d>", 10));
}

#[test]
fn a_subscription_is_read_as_a_queue_is() {
    let text = entry("audit", DESCRIPTION).replace("QueueDescription", "SubscriptionDescription");
    let subscription = read_entry(&text);
    assert_eq!((subscription.name.as_str(), subscription.counts.active), ("audit", 4));
}

#[test]
fn a_status_outside_the_four_is_kept_as_a_word() {
    let queue = read_entry(&entry("q", &DESCRIPTION.replace(">Active<", ">Restoring<")));
    assert_eq!(queue.status, EntityStatus::Other("Restoring".to_owned()));
}

#[test]
fn a_feed_gives_its_entries_and_may_be_empty() {
    let head = r#"<?xml version="1.0" encoding="utf-8"?><feed xmlns="http://www.w3.org/2005/Atom">
        <title type="text">Queues</title><id>https://h/$Resources/Queues</id><updated>2026-01-01T00:00:00Z</updated>
        <link rel="self" href="https://h/$Resources/Queues"/>"#;
    let two = format!("{head}{}{}</feed>", entry("a", DESCRIPTION), entry("b", DESCRIPTION));
    let Ok(Document::Feed { entities: queues, has_next: false, .. }) = read(&two) else { panic!("a feed of two") };
    assert_eq!(queues.iter().map(|queue| queue.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let Ok(Document::Feed { entities: queues, has_next: false, .. }) = read(&format!("{head}</feed>")) else {
        panic!("a feed of none")
    };
    assert!(queues.is_empty());
    let next = r#"<link rel="next" href="https://h/$Resources/Queues?$skip=1"/>"#;
    let more = format!("{head}{next}{}</feed>", entry("a", DESCRIPTION));
    assert!(matches!(read(&more), Ok(Document::Feed { has_next: true, .. })));
}

#[test]
fn what_is_not_such_a_document_is_an_error_in_words() {
    for (text, expected) in [
        (String::new(), "not XML"),
        ("hello".to_owned(), "not XML"),
        ("<html><body/></html>".to_owned(), "root element is \"html\""),
        ("<entry/>".to_owned(), "root element \"entry\" is empty"),
        ("<entry>".to_owned(), "it breaks off"),
        (entry("q", DESCRIPTION).replace("<title type=\"text\">q</title>", ""), "an entry has no title"),
        (entry("q", DESCRIPTION).replace("</CountDetails>", "</CountDetail>"), ""),
        (entry("q", ""), "LockDuration of \"q\" is missing"),
        (entry("q", &DESCRIPTION.replace("<Status>Active</Status>", "")), "Status of \"q\" is missing"),
        (
            entry("q", &DESCRIPTION.replace("ScheduledMessageCount", "Other")),
            "ScheduledMessageCount of \"q\" is missing",
        ),
        (entry("q", &DESCRIPTION.replace(">10<", "><b>10</b><")), "an element stands where a value should"),
        (entry("q", &DESCRIPTION.replace(">10<", ">&ten;<")), "an entity that XML does not define"),
        (entry("q", &DESCRIPTION.replace("PT1M", "soon")), "LockDuration \"soon\" of \"q\""),
        (entry("q", &DESCRIPTION.replace(">4<", ">-4<")), "ActiveMessageCount is \"-4\""),
        (entry("q", DESCRIPTION).replace("QueueDescription", "TopicDescription"), "has neither a QueueDescription"),
        ("<a>".repeat(100_000), "root element is \"a\""),
        (format!("<entry>{}", "<a>".repeat(100_000)), ""),
        (format!("<entry>{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000)), "it breaks off"),
    ] {
        let Err(why) = read(&text) else { panic!("accepted: {}", &text[..text.len().min(200)]) };
        assert!(why.contains(expected), "{why:?} lacks {expected:?}");
    }
}

#[test]
fn a_new_queue_says_only_what_was_asked_for() {
    let new = EntitySettings {
        lock_duration: Some(Duration::from_secs(5)),
        max_delivery_count: Some(3),
        requires_session: None,
        default_message_time_to_live: Some(Duration::from_hours(24 * 14)),
        dead_lettering_on_message_expiration: Some(true),
        status: Some(EntityStatus::ReceiveDisabled),
    };
    let text = String::from_utf8(queue(&new).expect("written to memory")).expect("UTF-8");
    assert!(
        text.contains(
            "<LockDuration>PT5S</LockDuration><DefaultMessageTimeToLive>P14D</DefaultMessageTimeToLive>\
             <DeadLetteringOnMessageExpiration>true</DeadLetteringOnMessageExpiration><MaxDeliveryCount>3</MaxDeliveryCount>\
             <Status>ReceiveDisabled</Status>"
        ),
        "{text}"
    );
    assert!(!text.contains("RequiresSession"), "{text}");
}

#[test]
fn an_error_document_gives_one_line() {
    let text =
        "<Error><Code>401</Code><Detail>InvalidSignature:\n The token has an invalid signature. </Detail></Error>";
    assert_eq!(error_detail(text).as_deref(), Some("InvalidSignature:  The token has an invalid signature."));
    assert_eq!(error_detail("<html/>"), None);
    assert_eq!(error_detail("nothing"), None);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>(), inner in "[<>/a-zA-Z&;! \\[\\]=\"-]{0,200}") {
        let _ = read(&text);
        let _ = read(&format!("<entry>{inner}"));
        let _ = error_detail(&inner);
    }
}

#[test]
fn no_name_and_no_status_is_longer_than_the_services() {
    let path = "q".repeat(260);
    assert_eq!(read_entry(&entry(&path, DESCRIPTION)).name, path);
    let status = DESCRIPTION.replace("Active</Status>", &format!("{}</Status>", "A".repeat(65)));
    for text in [entry(&"q".repeat(261), DESCRIPTION), entry("orders", &status)] {
        let why = read(&text).err().expect("nothing that the service writes");
        assert!(why.contains("longer than"), "{why}");
    }
}
