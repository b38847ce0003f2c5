//! The entries that make and change entities, written in the order of elements that the service insists on.

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use crate::administration::description::EntitySettings;
use crate::administration::duration;

const ATOM: &str = "http://www.w3.org/2005/Atom";
const SERVICE_BUS: &str = "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect";
const XML_SCHEMA_INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// The body of the PUT that makes or changes a queue.
pub(in crate::administration) fn queue(settings: &EntitySettings) -> std::io::Result<Vec<u8>> {
    entry("QueueDescription", &elements(settings))
}

/// The body of the PUT that makes a topic.
pub(in crate::administration) fn topic() -> std::io::Result<Vec<u8>> {
    entry("TopicDescription", &[])
}

/// The body of the PUT that makes or changes a subscription. Without a rule in it the service adds the one that lets all
/// through.
pub(in crate::administration) fn subscription(settings: &EntitySettings) -> std::io::Result<Vec<u8>> {
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
