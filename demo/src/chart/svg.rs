//! A small SVG writer: elements, attributes, text, paths; everything that comes from outside is escaped.
//!
//! Numbers are written with one decimal, so that the same run gives the same bytes.

use std::fmt::Write as _;

/// An SVG document under construction.
#[derive(Debug)]
pub(super) struct Svg {
    text: String,
}

/// Where a text stands relative to its place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    /// A document of this size, with a style sheet and, for readers who cannot see it, a title and description.
    pub(super) fn new(width: f64, height: f64, style: &str, title: &str, description: &str) -> Self {
        let mut text = String::with_capacity(32 * 1024);
        let (title, description, style) = (escaped(title), escaped(description), escaped(style));
        put(
            &mut text,
            format_args!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
                 height=\"{height:.0}\" role=\"img\" aria-labelledby=\"title description\">\n<title \
                 id=\"title\">{title}</title>\n<desc id=\"description\">{description}</desc>\n<style>{style}</style>\n"
            ),
        );
        Self { text }
    }

    pub(super) fn rectangle(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        let class = escaped(class);
        put(
            &mut self.text,
            format_args!(
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>\n"
            ),
        );
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let (class, (x1, y1), (x2, y2)) = (escaped(class), from, to);
        put(
            &mut self.text,
            format_args!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>\n"),
        );
    }

    /// A line through the points; nothing for fewer than two.
    pub(super) fn polyline(&mut self, class: &str, points: &[(f64, f64)]) {
        if points.len() >= 2 {
            let (class, path) = (escaped(class), path(points));
            put(&mut self.text, format_args!("<path class=\"{class}\" d=\"{path}\"/>\n"));
        }
    }

    /// The area between the points and a horizontal base line; nothing for fewer than two points.
    pub(super) fn area(&mut self, class: &str, points: &[(f64, f64)], base: f64) {
        if let ([(first, _), ..], [.., (last, _)]) = (points, points)
            && points.len() >= 2
        {
            let (class, path) = (escaped(class), path(points));
            put(
                &mut self.text,
                format_args!("<path class=\"{class}\" d=\"{path}L{last:.1},{base:.1}L{first:.1},{base:.1}Z\"/>\n"),
            );
        }
    }

    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (class, text) = (escaped(class), escaped(text));
        put(
            &mut self.text,
            format_args!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n"),
        );
    }

    pub(super) fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

fn path(points: &[(f64, f64)]) -> String {
    let mut path = String::with_capacity(points.len() * 12);
    for (index, (x, y)) in points.iter().enumerate() {
        put(&mut path, format_args!("{}{x:.1},{y:.1}", if index == 0 { 'M' } else { 'L' }));
    }
    path
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing into a String has no error to report.
    let _ = text.write_fmt(arguments);
}

/// XML 1.0 text and attribute values: the five special characters escaped, characters that XML forbids left out.
fn escaped(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => result.push_str("&amp;"),
            '<' => result.push_str("&lt;"),
            '>' => result.push_str("&gt;"),
            '"' => result.push_str("&quot;"),
            '\'' => result.push_str("&#39;"),
            '\t' | '\n' | '\r' => result.push(character),
            forbidden if forbidden.is_control() || matches!(forbidden, '\u{fffe}' | '\u{ffff}') => {}
            other => result.push(other),
        }
    }
    result
}
