//! The metrics as text, for as many as ask: a large text that somebody takes his time to read is not made again and again.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::body::Bytes;

use crate::metrics::Metrics;

/// Most texts in memory at a time. With 10,000 triggers one has some megabytes; two Prometheuses need two.
const MAX_TEXTS: usize = 3;

/// Makes the texts, and knows which are still being read. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct Expositions {
    metrics: Metrics,
    texts: Arc<Mutex<Vec<Weak<Text>>>>,
}

struct Text(String);

/// One reader's hold on a text.
struct Reading(Arc<Text>);

impl AsRef<[u8]> for Reading {
    fn as_ref(&self) -> &[u8] {
        self.0.0.as_bytes()
    }
}

impl Expositions {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { metrics, texts: Arc::default() }
    }

    /// The metrics as they are now; or, while as many texts as may be are still being read, the newest of those.
    pub(super) fn text(&self) -> Bytes {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.retain(|text| text.strong_count() > 0);
        let newest = if texts.len() < MAX_TEXTS { None } else { texts.last().and_then(Weak::upgrade) };
        let text = newest.unwrap_or_else(|| {
            let text = Arc::new(Text(self.metrics.exposition()));
            texts.push(Arc::downgrade(&text));
            text
        });
        Bytes::from_owner(Reading(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_slowly_does_not_cost_a_text_of_his_own_and_everybody_else_gets_a_new_one() {
        let metrics = Metrics::new();
        let expositions = Expositions::new(metrics.clone());
        let asked = || {
            metrics.handshake_failed();
            expositions.text()
        };
        let mut slow: Vec<_> = (0..64).map(|_| asked()).collect();
        let distinct =
            |texts: &[Bytes]| texts.iter().map(|text| text.as_ptr()).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(distinct(&slow).len(), MAX_TEXTS);
        let first = slow.remove(0);
        drop(first);
        let now = asked();
        let count = "servicebus_scaler_tls_handshakes_failed_total 65\n";
        assert!(String::from_utf8_lossy(&now).contains(count), "one was let go of, and this one is as of now");
    }
}
