//! The chart of a run: queue depth above, replicas below, on one time axis. Pure: data in, SVG text out.
//!
//! Written by hand because it must look the same on every run and in every viewer, load nothing and follow the reader's
//! light or dark mode. It decides nothing about the run; the summary does.

pub mod scale;
mod svg;

use scale::{Scale, Tick};
use svg::{Anchor, Svg};

/// What is drawn. All times are seconds since the run began and must rise within a series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// The heading.
    pub title: String,
    /// One line under the heading.
    pub subtitle: String,
    /// How long the run took, in seconds: the width of the time axis.
    pub seconds: f64,
    /// Messages in the queue (seconds, count), joined by straight lines.
    pub depth: Vec<(f64, f64)>,
    /// Messages handled so far (seconds, count), joined by straight lines.
    pub handled: Vec<(f64, f64)>,
    /// Replicas the autoscaler wanted (seconds, count): each value holds until the next.
    pub wanted: Vec<(f64, f64)>,
    /// Workers ready (seconds, count): each value holds until the next.
    pub ready: Vec<(f64, f64)>,
    /// Things that happened, in order of time.
    pub marks: Vec<Mark>,
}

/// Something that happened at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Seconds since the run began.
    pub at: f64,
    /// A few words.
    pub label: String,
}

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 560.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 928.0;
/// Top and bottom of the panel with the messages, and of the panel with the replicas.
const MESSAGES: (f64, f64) = (104.0, 330.0);
const REPLICAS: (f64, f64) = (372.0, 500.0);
/// Width of a character of a mark's label, in user units, for keeping labels apart. Over-estimated on purpose.
const LABEL_CHARACTER: f64 = 6.4;

/// Colours: blue for messages, orange for replicas, green for what is done; readable in light and dark, and told apart by
/// people who do not see red and green differently.
const STYLE: &str = "
.page { fill: #ffffff }
.title { font: 600 19px system-ui, sans-serif; fill: #1b1f24 }
.subtitle, .tick, .legend, .mark, .axis { font: 12px system-ui, sans-serif; fill: #57606a }
.axis { font-weight: 600 }
.mark { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round }
.panel { fill: none; stroke: #d0d7de }
.grid { stroke: #eaeef2 }
.event { stroke: #8c959f; stroke-dasharray: 3 3 }
.depth-area { fill: #2f7ed8; fill-opacity: 0.18 }
.depth { fill: none; stroke: #2f7ed8; stroke-width: 2 }
.handled { fill: none; stroke: #2a9d5c; stroke-width: 2; stroke-dasharray: 6 3 }
.ready-area { fill: #e07b00; fill-opacity: 0.20 }
.ready { fill: none; stroke: #e07b00; stroke-width: 2 }
.wanted { fill: none; stroke: #8250df; stroke-width: 1.5; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117 }
  .title { fill: #e6edf3 }
  .subtitle, .tick, .legend, .mark, .axis { fill: #9da7b3 }
  .panel { stroke: #30363d }
  .grid { stroke: #21262d }
  .mark { stroke: #0d1117 }
}
";

impl Chart {
    /// The chart as a whole SVG document.
    pub fn to_svg(&self) -> String {
        let mut svg = Svg::new(WIDTH, HEIGHT, STYLE, &self.title, &self.subtitle);
        svg.rectangle("page", 0.0, 0.0, WIDTH, HEIGHT);
        svg.text("title", (LEFT, 34.0), Anchor::Start, &self.title);
        svg.text("subtitle", (LEFT, 55.0), Anchor::Start, &self.subtitle);

        let time = Scale::new(self.seconds, LEFT, RIGHT);
        let time_ticks = scale::time_ticks(time.domain(), 10);
        let messages = panel(&mut svg, MESSAGES, time, &time_ticks, largest(&[&self.depth, &self.handled]), "messages");
        let replicas = panel(&mut svg, REPLICAS, time, &time_ticks, largest(&[&self.wanted, &self.ready]), "replicas");
        for tick in &time_ticks {
            svg.text("tick", (time.place(tick.value), REPLICAS.1 + 20.0), Anchor::Middle, &tick.label);
        }
        svg.text("axis", (RIGHT, REPLICAS.1 + 42.0), Anchor::End, "time since start");
        self.draw_marks(&mut svg, time);

        let depth = places(&self.depth, time, messages);
        svg.area("depth-area", &depth, MESSAGES.1);
        svg.polyline("depth", &depth);
        svg.polyline("handled", &places(&self.handled, time, messages));
        let ready = places(&steps(&self.ready, self.seconds), time, replicas);
        svg.area("ready-area", &ready, REPLICAS.1);
        svg.polyline("ready", &ready);
        svg.polyline("wanted", &places(&steps(&self.wanted, self.seconds), time, replicas));

        legend(&mut svg, MESSAGES.0 - 12.0, &[("depth", "in the queue"), ("handled", "handled so far")]);
        legend(&mut svg, REPLICAS.0 - 12.0, &[("ready", "workers ready"), ("wanted", "replicas wanted")]);
        svg.finish()
    }

    /// Draws each event as a dashed line with its label on top, on the lower of two rows where the upper is taken.
    fn draw_marks(&self, svg: &mut Svg, time: Scale) {
        let mut taken_until = [f64::NEG_INFINITY; 2];
        for mark in &self.marks {
            let x = time.place(mark.at);
            svg.line("event", (x, MESSAGES.0), (x, REPLICAS.1));
            let width = mark.label.chars().count() as f64 * LABEL_CHARACTER;
            let (from, anchor, at) = if x + width + 8.0 > RIGHT {
                (x - width - 4.0, Anchor::End, x - 4.0)
            } else {
                (x + 4.0, Anchor::Start, x + 4.0)
            };
            // Both rows taken: the line alone stays; the list of events is in the summary as well.
            if let Some(row) = taken_until.iter().position(|until| *until <= from) {
                taken_until[row] = from + width + 8.0;
                svg.text("mark", (at, MESSAGES.0 + 14.0 + 15.0 * row as f64), anchor, &mark.label);
            }
        }
    }
}

/// Draws the frame, grid and labels of one panel; returns its vertical scale.
fn panel(
    svg: &mut Svg,
    (top, bottom): (f64, f64),
    time: Scale,
    time_ticks: &[Tick],
    largest: f64,
    name: &str,
) -> Scale {
    let ticks = scale::count_ticks(largest, 4);
    let scale = Scale::new(ticks.last().map_or(1.0, |tick| tick.value), bottom, top);
    for tick in time_ticks {
        let x = time.place(tick.value);
        svg.line("grid", (x, top), (x, bottom));
    }
    for tick in &ticks {
        let y = scale.place(tick.value);
        svg.line("grid", (LEFT, y), (RIGHT, y));
        svg.text("tick", (LEFT - 8.0, y + 4.0), Anchor::End, &tick.label);
    }
    svg.rectangle("panel", LEFT, top, RIGHT - LEFT, bottom - top);
    svg.text("axis", (LEFT, top - 10.0), Anchor::Start, name);
    scale
}

/// Keys of the lines, right-aligned above a panel.
fn legend(svg: &mut Svg, y: f64, entries: &[(&str, &str)]) {
    let mut right = RIGHT;
    for (class, label) in entries.iter().rev() {
        let width = label.chars().count() as f64 * LABEL_CHARACTER;
        svg.text("legend", (right, y + 2.0), Anchor::End, label);
        svg.line(class, (right - width - 30.0, y - 2.0), (right - width - 8.0, y - 2.0));
        right -= width + 48.0;
    }
}

fn largest(series: &[&[(f64, f64)]]) -> f64 {
    series.iter().flat_map(|points| points.iter()).map(|(_, value)| *value).fold(1.0, f64::max)
}

/// Turns "holds until the next" into the corners of a staircase that ends at `end`.
pub fn steps(points: &[(f64, f64)], end: f64) -> Vec<(f64, f64)> {
    let mut corners: Vec<(f64, f64)> = Vec::with_capacity(points.len() * 2 + 1);
    for (at, value) in points {
        if let Some((_, before)) = corners.last().copied() {
            corners.push((*at, before));
        }
        corners.push((*at, *value));
    }
    if let Some((at, value)) = corners.last().copied()
        && at < end
    {
        corners.push((end, value));
    }
    corners
}

fn places(points: &[(f64, f64)], time: Scale, value: Scale) -> Vec<(f64, f64)> {
    points.iter().map(|(at, count)| (time.place(*at), value.place(*count))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quick_xml::events::Event;

    fn example() -> Chart {
        Chart {
            title: "0 → 8 → 0 & back".to_owned(),
            subtitle: "<1000> \"messages\"\u{0}".to_owned(),
            seconds: 42.0,
            depth: vec![(0.0, 0.0), (1.0, 1_000.0), (20.0, 300.0), (30.0, 0.0)],
            handled: vec![(0.0, 0.0), (30.0, 1_000.0)],
            wanted: vec![(0.0, 0.0), (2.0, 1.0), (4.0, 8.0), (36.0, 0.0)],
            ready: vec![(0.0, 0.0), (2.2, 1.0), (4.4, 8.0), (36.1, 0.0)],
            marks: vec![
                Mark { at: 15.0, label: "policy weighted".to_owned() },
                Mark { at: 41.0, label: "all handled".to_owned() },
            ],
        }
    }

    /// Reads the whole document, checking that every element is closed; returns the names of the elements.
    fn elements(svg: &str) -> Vec<String> {
        let mut reader = quick_xml::Reader::from_str(svg);
        reader.config_mut().check_end_names = true;
        let (mut names, mut open) = (Vec::new(), 0_i32);
        loop {
            match reader.read_event().expect("well-formed XML") {
                Event::Start(tag) => {
                    open += 1;
                    names.push(tag.name().as_ref().to_owned());
                    assert!(tag.attributes().all(|attribute| attribute.is_ok()), "attributes of {tag:?}");
                }
                Event::Empty(tag) => {
                    names.push(tag.name().as_ref().to_owned());
                    assert!(tag.attributes().all(|attribute| attribute.is_ok()), "attributes of {tag:?}");
                }
                Event::End(_) => open -= 1,
                Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!(open, 0, "every element is closed");
        names
    }

    #[test]
    fn a_chart_is_well_formed_whatever_the_texts_hold() {
        let svg = example().to_svg();
        let names = elements(&svg);
        assert_eq!(names.first().map(String::as_str), Some("svg"));
        assert_eq!(names.iter().filter(|name| *name == "path").count(), 6, "four lines and two areas");
        assert!(svg.contains("&lt;1000&gt; &quot;messages&quot;") && !svg.contains('\u{0}'));
    }

    #[test]
    fn a_run_without_samples_still_has_axes() {
        let svg = Chart::default().to_svg();
        assert!(elements(&svg).iter().any(|name| name == "text"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn the_same_run_gives_the_same_bytes() {
        assert_eq!(example().to_svg(), example().to_svg());
    }

    #[test]
    fn replicas_are_drawn_as_steps() {
        let corners = steps(&[(0.0, 0.0), (2.0, 1.0), (4.0, 8.0)], 10.0);
        assert_eq!(corners, [(0.0, 0.0), (2.0, 0.0), (2.0, 1.0), (4.0, 1.0), (4.0, 8.0), (10.0, 8.0)]);
        assert_eq!(steps(&[], 10.0), []);
    }

    #[test]
    fn labels_of_events_close_together_do_not_overlap() {
        let marks = |count: u32| Chart {
            marks: (0..count).map(|n| Mark { at: f64::from(n) * 0.1, label: format!("event {n}") }).collect(),
            ..example()
        };
        let labels = |chart: Chart| chart.to_svg().matches("class=\"mark\"").count();
        assert_eq!(labels(marks(2)), 2, "two rows");
        assert_eq!(labels(marks(5)), 2, "a third label would cover the others");
    }
}
