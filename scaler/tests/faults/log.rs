//! The log lines of a test: of its thread, since each test here that looks at them runs on one.
//!
//! One subscriber for the whole process, from before its first line. One for each test would not do: tracing remembers for
//! every place in the code whether anybody wants its lines, and with subscribers that come and go beside threads that have
//! none, what it remembers can be wrong for a test that does.

use std::cell::RefCell;
use std::fmt::{Debug, Write as _};
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

type Lines = Vec<(Level, String)>;

thread_local! {
    /// The lines of this thread, once they are collected.
    static LINES: RefCell<Option<Lines>> = const { RefCell::new(None) };
}

/// The lines at INFO and above of the scaler on this thread.
pub(crate) struct Log(());

struct Collect;

impl<S: Subscriber> Layer<S> for Collect {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() <= Level::INFO && metadata.target().starts_with("scaler") {
            LINES.with_borrow_mut(|lines| {
                if let Some(lines) = lines {
                    let mut text = Text(String::new());
                    event.record(&mut text);
                    lines.push((*metadata.level(), text.0));
                }
            });
        }
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

/// Every scaler of these tests starts after this.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(Collect);
        tracing::subscriber::set_global_default(subscriber).expect("it is the only one");
    });
}

impl Log {
    /// Collects from now on, on this thread.
    pub(crate) fn collect() -> Self {
        install();
        LINES.set(Some(Vec::new()));
        Self(())
    }

    /// The lines so far.
    #[expect(clippy::unused_self, reason = "whoever has it collects")]
    pub(crate) fn lines(&self) -> Lines {
        LINES.with_borrow(|lines| lines.clone().expect("they are collected on this thread"))
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
