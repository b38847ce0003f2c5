//! What entries, feeds and descriptions are written with: elements, truth values, times.

use std::io;
use std::time::SystemTime;

use quick_xml::Writer;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(super) const INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// What all documents of one request share.
pub(crate) struct Scene<'a> {
    /// Scheme and authority the client used, such as `http://127.0.0.1:5672`.
    pub(crate) base: &'a str,
    /// The `api-version` the client asked for.
    pub(crate) api_version: &'a str,
    pub(crate) now: SystemTime,
}

/// RFC 3339 in UTC. A clock outside the years 1 to 9999 reads as the epoch.
pub(crate) fn timestamp(at: SystemTime) -> String {
    // Whole milliseconds: nine decimals are more than .NET's seven.
    let at = OffsetDateTime::from(at);
    let at = at.replace_millisecond(at.millisecond()).unwrap_or(at);
    at.format(&Rfc3339).unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}

pub(super) fn open(xml: &mut Writer<Vec<u8>>, name: &str, attributes: &[(&str, &str)]) -> io::Result<()> {
    let mut start = BytesStart::new(name);
    for attribute in attributes {
        start.push_attribute(*attribute);
    }
    xml.write_event(Event::Start(start))
}

pub(super) fn close(xml: &mut Writer<Vec<u8>>, name: &str) -> io::Result<()> {
    xml.write_event(Event::End(BytesEnd::new(name)))
}

pub(super) fn leaf(xml: &mut Writer<Vec<u8>>, name: &str, text: &str) -> io::Result<()> {
    open(xml, name, &[])?;
    xml.write_event(Event::Text(BytesText::new(text)))?;
    close(xml, name)
}

pub(super) fn boolean(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}
