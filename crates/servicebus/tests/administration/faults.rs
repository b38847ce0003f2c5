//! What the broker does wrong on demand, as the client tells it.

use std::time::Duration;

use broker::{Broker, Options, QueueOptions, SubscriptionOptions};
use servicebus::{AdministrationError, AdministrationOptions};

use crate::{client, patient};

/// What a read of the queue says under a fault, and that of the subscription and both listings.
async fn under(fault: &str, options: AdministrationOptions) -> Vec<AdministrationError> {
    let broker = Broker::start(Options {
        queues: vec![QueueOptions::new("orders")],
        topics: vec!["events".to_owned()],
        subscriptions: vec![SubscriptionOptions::new("events", "audit")],
        faults: vec![fault.parse().expect("a fault")],
        ..Options::default()
    });
    let broker = broker.await.expect("a broker");
    let client = client(broker.connection_string(), options);
    vec![
        client.queue("orders").await.expect_err(fault),
        client.subscription("events", "audit").await.expect_err(fault),
        client.queues().next().await.expect_err(fault),
        client.subscriptions("events").next().await.expect_err(fault),
    ]
}

#[tokio::test]
async fn throttling_comes_with_the_time_to_wait() {
    for (fault, status, wait) in
        [("throttle=30s", 429, Some(Duration::from_secs(30))), ("busy=50009", 503, None), ("busy=50004", 503, None)]
    {
        for error in under(fault, patient()).await {
            assert!(error.is_transient());
            let AdministrationError::Throttled { status: got, retry_after, .. } = error else { panic!("{error:?}") };
            assert_eq!((got, retry_after.is_some()), (status, wait.is_some()), "{fault}");
            assert_eq!(retry_after.or(wait), wait, "{fault}");
        }
    }
}

#[tokio::test]
async fn a_wrong_key_and_a_redirect_stay_and_are_told_apart() {
    for error in under("wrong-key", patient()).await {
        assert!(matches!(error, AdministrationError::Unauthorized { status: 401, .. }), "{error:?}");
        assert!(!error.is_transient());
    }
    for error in under("status=307,location=https://evil.example/orders", patient()).await {
        let AdministrationError::Redirected { status: 307, target, .. } = &error else { panic!("{error:?}") };
        assert_eq!(target, "evil.example:443");
        assert!(!error.is_transient());
    }
}

#[tokio::test]
async fn silence_and_resets_end_in_time() {
    let brief = AdministrationOptions { timeout: Duration::from_millis(200), ..AdministrationOptions::default() };
    for fault in ["stall", "latency=1h"] {
        for error in under(fault, brief.clone()).await {
            assert!(matches!(error, AdministrationError::Timeout { .. }) && error.is_transient(), "{fault}: {error:?}");
        }
    }
    for error in under("reset", patient()).await {
        assert!(matches!(error, AdministrationError::Unavailable { .. }) && error.is_transient(), "{error:?}");
    }
}
