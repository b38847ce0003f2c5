//! The live picture. Draws with ratatui on the alternate screen and reads the keys that end the run.
//!
//! In raw mode Ctrl-C is a key, not a signal: it is turned into the signal, so that there is one way to stop. ratatui's
//! panic hook gives the terminal back when something goes wrong.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph, Wrap};
use ratatui::{DefaultTerminal, Frame};

use super::{Picture, WorkerMark};
use crate::chart::scale;

/// How often the key reader looks whether it is still wanted.
const KEY_LOOK: Duration = Duration::from_millis(100);

const MESSAGES: Color = Color::LightBlue;
const REPLICAS: Color = Color::Yellow;
const DONE: Color = Color::Green;
const FAINT: Color = Color::DarkGray;

/// The terminal while the picture is on it. Dropping it gives the terminal back.
#[derive(Debug)]
pub(super) struct Terminal {
    screen: DefaultTerminal,
    is_open: Arc<AtomicBool>,
    keys: Option<std::thread::JoinHandle<()>>,
}

impl Terminal {
    /// Takes the terminal.
    pub(super) fn enter() -> io::Result<Self> {
        let screen = ratatui::try_init()?;
        let is_open = Arc::new(AtomicBool::new(true));
        let watched = Arc::clone(&is_open);
        let keys = std::thread::Builder::new().name("keys".to_owned()).spawn(move || watch_keys(&watched));
        let keys = keys.inspect_err(|_| ratatui::restore())?;
        Ok(Self { screen, is_open, keys: Some(keys) })
    }

    pub(super) fn draw(&mut self, picture: &Picture, events: &[String]) -> io::Result<()> {
        self.screen.draw(|frame| draw(frame, picture, events)).map(|_| ())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.is_open.store(false, Ordering::Relaxed);
        if let Some(keys) = self.keys.take() {
            // It ends within KEY_LOOK. If it panicked, the panic hook has said so.
            let _ = keys.join();
        }
        // While panicking, ratatui's hook has done it already; twice would move the cursor into the message.
        if !std::thread::panicking() {
            ratatui::restore();
        }
    }
}

/// Turns Ctrl-C, `q` and Escape into SIGINT to ourselves.
fn watch_keys(is_open: &AtomicBool) {
    while is_open.load(Ordering::Relaxed) {
        match event::poll(KEY_LOOK) {
            Ok(false) => continue,
            Ok(true) => {}
            // The terminal went away; drawing will fail too, and the view falls back to plain lines.
            Err(_) => return,
        }
        if let Ok(Event::Key(key)) = event::read()
            && key.kind == KeyEventKind::Press
            && (matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
                || (key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL)))
        {
            // Signalling ourselves cannot fail.
            let _ = kill(Pid::this(), Signal::SIGINT);
        }
    }
}

fn draw(frame: &mut Frame<'_>, picture: &Picture, events: &[String]) {
    let workers_height = 3;
    let [title, progress, charts, workers, decision, log] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Min(8),
        Constraint::Length(workers_height),
        Constraint::Length(6),
        Constraint::Fill(1),
    ])
    .areas(frame.area());
    draw_title(frame, title, picture);
    draw_progress(frame, progress, picture);
    let [messages, replicas] =
        Layout::horizontal([Constraint::Percentage(60), Constraint::Percentage(40)]).areas(charts);
    let depth = format!("messages in {}", picture.queue);
    draw_series(frame, messages, &depth, &picture.depth, picture.elapsed, 1.0, MESSAGES);
    let most = f64::from(picture.max_replicas);
    draw_series(frame, replicas, "workers ready", &picture.replicas, picture.elapsed, most, REPLICAS);
    draw_workers(frame, workers, picture);
    draw_decision(frame, decision, picture);
    draw_events(frame, log, events);
}

fn draw_title(frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
    let left = Line::from(vec![
        Span::styled(" servicebus-scaler demo ", Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED)),
        Span::raw(format!("  {}", picture.phase)),
    ]);
    let right = format!("{:>5.1} s   Ctrl-C stops ", picture.elapsed.as_secs_f64());
    frame.render_widget(left, area);
    frame.render_widget(Line::from(Span::styled(right, Style::new().fg(FAINT))).alignment(Alignment::Right), area);
}

fn draw_progress(frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
    let Picture { messages, sent, handled, throughput, counts, .. } = picture;
    let share = if *messages == 0 { 0.0 } else { (*handled as f64 / *messages as f64).clamp(0.0, 1.0) };
    let title = format!(
        " sent {}   in the queue {}   scheduled {}   dead-lettered {}   throughput {throughput:.1}/s ",
        scale::grouped(*sent),
        scale::grouped(counts.active),
        scale::grouped(counts.scheduled),
        scale::grouped(counts.dead_letter),
    );
    let gauge = Gauge::default()
        .block(Block::bordered().border_style(Style::new().fg(FAINT)).title(title))
        .gauge_style(Style::new().fg(DONE).bg(Color::Black))
        .use_unicode(true)
        .ratio(share)
        .label(format!("handled {} of {}", scale::grouped(*handled), scale::grouped(*messages)));
    frame.render_widget(gauge, area);
}

/// A line over the whole run; `least` is the smallest top of the value axis.
fn draw_series(
    frame: &mut Frame<'_>,
    area: Rect,
    name: &str,
    points: &[(f64, f64)],
    elapsed: Duration,
    least: f64,
    colour: Color,
) {
    let largest = points.iter().map(|(_, value)| *value).fold(least, f64::max);
    let now = points.last().map_or(0.0, |(_, value)| *value);
    let values = scale::count_ticks(largest, 2);
    let top = values.last().map_or(1.0, |tick| tick.value);
    let end = elapsed.as_secs_f64().max(10.0);
    let dataset = Dataset::default()
        .marker(Marker::Braille)
        .graph_type(GraphType::Line)
        .style(Style::new().fg(colour))
        .data(points);
    let faint = Style::new().fg(FAINT);
    let chart = Chart::new(vec![dataset])
        .block(Block::bordered().border_style(faint).title(Line::from(vec![
            Span::raw(format!(" {name} ")),
            Span::styled(
                format!("{} ", scale::grouped(now as u64)),
                Style::new().fg(colour).add_modifier(Modifier::BOLD),
            ),
        ])))
        .x_axis(Axis::default().style(faint).bounds([0.0, end]).labels(["0 s".to_owned(), format!("{end:.0} s")]))
        .y_axis(Axis::default().style(faint).bounds([0.0, top]).labels(values.into_iter().map(|tick| tick.label)));
    frame.render_widget(chart, area);
}

fn draw_workers(frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
    let Picture { workers, wanted, ready, max_replicas, .. } = picture;
    let marks = workers.iter().map(|mark| match mark {
        WorkerMark::Starting => Span::styled("◌ ", Style::new().fg(FAINT)),
        WorkerMark::Ready => Span::styled("● ", Style::new().fg(REPLICAS)),
        WorkerMark::Stopping => Span::styled("◍ ", Style::new().fg(FAINT)),
    });
    let title =
        format!(" workers: {ready} ready, {wanted} wanted, {max_replicas} at most   ◌ starting ● ready ◍ stopping ");
    let block = Block::bordered().border_style(Style::new().fg(FAINT)).title(title);
    let line = Line::from(std::iter::once(Span::raw(" ")).chain(marks).collect::<Vec<_>>());
    frame.render_widget(Paragraph::new(line).block(block), area);
}

fn draw_decision(frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
    let Picture { decision, why, answer, policy, .. } = picture;
    let faint = Style::new().fg(FAINT);
    let row = |name: &'static str, text: &str| {
        Line::from(vec![Span::styled(format!(" {name:<9}"), faint), Span::raw(text.to_owned())])
    };
    let text = vec![row("scaler", answer), row("decision", decision), row("why", why)];
    let block = Block::bordered().border_style(faint).title(format!(" KEDA and HPA, policy {policy} "));
    frame.render_widget(Paragraph::new(text).block(block).wrap(Wrap { trim: false }), area);
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, events: &[String]) {
    let rows = usize::from(area.height.saturating_sub(2));
    let newest = events[events.len().saturating_sub(rows)..].iter().map(|line| Line::raw(line.clone()));
    let block = Block::bordered().border_style(Style::new().fg(FAINT)).title(" events ");
    // Not wrapped: a line that takes two rows would push the newest out of sight. The timeline file has them whole.
    frame.render_widget(Paragraph::new(newest.collect::<Vec<_>>()).block(block), area);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::backend::TestBackend;

    fn picture() -> Picture {
        Picture {
            elapsed: Duration::from_millis(12_300),
            phase: "working".to_owned(),
            queue: "queue demo".to_owned(),
            policy: "messageCount".to_owned(),
            messages: 1_000,
            sent: 1_000,
            handled: 266,
            counts: servicebus::EntityCounts { active: 734, ..Default::default() },
            wanted: 8,
            ready: 7,
            processes: 8,
            max_replicas: 8,
            workers: vec![WorkerMark::Ready, WorkerMark::Starting],
            decision: "HPA: 7 → 8".to_owned(),
            why: "734 / 40 = 19, at most 8".to_owned(),
            depth: vec![(0.0, 0.0), (5.0, 1_000.0), (12.0, 734.0)],
            replicas: vec![(0.0, 0.0), (4.0, 1.0), (6.0, 7.0)],
            ..Picture::default()
        }
    }

    fn drawn(width: u16, height: u16) -> String {
        let mut terminal = ratatui::Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
        terminal.draw(|frame| draw(frame, &picture(), &["  12.0 s  worker-7 is ready".to_owned()])).expect("drawn");
        terminal.backend().to_string()
    }

    #[test]
    fn the_picture_shows_queue_replicas_decision_and_events() {
        let screen = drawn(110, 40);
        for wanted in [
            "handled 266 of 1,000",
            "in the queue 734",
            "7 ready, 8 wanted",
            "HPA: 7 → 8",
            "at most 8",
            "worker-7 is ready",
        ] {
            assert!(screen.contains(wanted), "{wanted} is not in\n{screen}");
        }
    }

    #[test]
    fn a_terminal_of_any_size_is_drawn_on() {
        for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 100)] {
            drawn(width, height);
        }
    }
}
