//! What callers can make the metrics hold.

use futures_util::{StreamExt as _, stream};
use scaler::metrics::MAX_TRIGGERS;

use crate::support::{Scaler, scaled_object};

#[tokio::test]
async fn a_caller_with_endless_names_does_not_make_endless_series() {
    let scaler = Scaler::start().await;
    let client = scaler.client().await;
    let asked = MAX_TRIGGERS + 100;
    let calls = (0..asked).map(|number| {
        let mut client = client.clone();
        async move { client.is_active(scaled_object(&format!("receiver-{number}"))).await.map(drop) }
    });
    let failed =
        stream::iter(calls).buffer_unordered(64).filter(|answer| std::future::ready(answer.is_err())).count().await;
    assert_eq!(failed, 0, "calls are answered with or without series");
    let exposition = scaler.metrics.exposition();
    for family in ["value", "target", "active"] {
        let series =
            exposition.lines().filter(|line| line.starts_with(&format!("servicebus_scaler_trigger_{family}{{")));
        assert_eq!(series.count(), MAX_TRIGGERS + 1, "{family}");
    }
    assert_eq!(scaler.count("servicebus_scaler_label_cap_hits_total{label=\"trigger\"}"), 100);
    assert!(!exposition.contains("PLANTED-KEY"));
}
