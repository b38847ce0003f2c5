//! The log lines of a test, by a subscriber of its own thread: the tests here run on one thread each.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// The lines at INFO and above of the scaler, until it is dropped.
pub(crate) struct Log {
    lines: Arc<Mutex<Vec<(Level, String)>>>,
    _guard: DefaultGuard,
}

struct Collect(Arc<Mutex<Vec<(Level, String)>>>);

impl<S: Subscriber> Layer<S> for Collect {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() <= Level::INFO && metadata.target().starts_with("scaler") {
            let mut text = Text(String::new());
            event.record(&mut text);
            self.0.lock().expect("no test panicked with it").push((*metadata.level(), text.0));
        }
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

impl Log {
    /// Collects from now on, on this thread.
    pub(crate) fn collect() -> Self {
        let lines = Arc::default();
        let subscriber = tracing_subscriber::registry().with(Collect(Arc::clone(&lines)));
        Self { lines, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// The lines so far.
    pub(crate) fn lines(&self) -> Vec<(Level, String)> {
        self.lines.lock().expect("no test panicked with it").clone()
    }

    /// That there is one warning so far, with these words.
    pub(crate) fn assert_one_warning(&self, words: &[&str]) {
        let lines = self.lines();
        let warnings: Vec<_> = lines.iter().filter(|(level, _)| *level <= Level::WARN).collect();
        assert_eq!(warnings.len(), 1, "{lines:#?}");
        for word in words {
            assert!(warnings[0].1.contains(word), "{word:?} is missing in {warnings:?}");
        }
    }

    /// That the end was told once, with these words.
    pub(crate) fn assert_one_end(&self, words: &[&str]) {
        let lines = self.lines();
        let ends: Vec<_> = lines.iter().filter(|(_, text)| text.contains("reads succeed again")).collect();
        assert_eq!(ends.len(), 1, "{lines:#?}");
        for word in words {
            assert!(ends[0].1.contains(word), "{word:?} is missing in {ends:?}");
        }
    }
}
