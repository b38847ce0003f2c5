//! Sending: what arrives, how much fits, what is refused.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use servicebus::{Adapter, Batch, FailureKind, OutgoingMessage, Settlement};

use crate::scene::{ORDERS, Scene, message, receive_one, send};

pub(crate) async fn a_single_message_arrives_whole(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    let before = SystemTime::now() - Duration::from_secs(1);
    send(&*client, 7..8).await;
    let received = receive_one(&*client).await;
    assert_eq!(received.message_id.as_deref(), Some("m-7"));
    assert_eq!(&received.body[..], b"{\"id\":7}");
    assert_eq!(received.delivery_count, 0);
    assert!(received.sequence_number > 0);
    assert!(received.enqueued_time.is_some_and(|time| time > before));
    let lock = received.locked_until.duration_since(before).expect("in the future");
    assert!(lock > Duration::from_secs(50) && lock < Duration::from_secs(70), "{lock:?}");
}

pub(crate) async fn a_batch_up_to_the_limit_is_accepted(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    let limit = client.max_batch_bytes().await.expect("a limit");
    assert!(limit >= 256 << 10, "{limit}");
    let mut batch = Batch::new(limit);
    let sized = |id: usize, size: usize| OutgoingMessage { body: Bytes::from(vec![b'x'; size]), ..message(id) };
    while batch.try_add(sized(batch.len(), 5_000)) {}
    // The rest, to the last byte that fits.
    let id = batch.len();
    let fits = (0..=5_000).rev().find(|size| batch.clone().try_add(sized(id, *size)));
    if let Some(size) = fits {
        assert!(batch.try_add(sized(id, size)));
    }
    assert!(batch.encoded_bytes() <= limit && batch.encoded_bytes() > limit - 200, "{}", batch.encoded_bytes());
    client.send(batch.messages()).await.expect("accepted");
    assert_eq!(scene.counts(ORDERS).await.active, batch.len() as u64);
}

pub(crate) async fn a_message_over_the_limit_is_refused_and_the_client_lives_on(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    let limit = client.max_batch_bytes().await.expect("a limit");
    let big = OutgoingMessage { body: Bytes::from(vec![b'x'; limit + 1]), ..message(1) };
    for messages in [vec![big.clone()], vec![message(2), big]] {
        let error = client.send(&messages).await.expect_err("too large");
        assert_eq!(error.kind, FailureKind::TooLarge, "{error:?}");
        assert!(!error.is_transient());
    }
    send(&*client, 3..4).await;
    assert_eq!(scene.counts(ORDERS).await.active, 1);
}

pub(crate) async fn nothing_to_send_is_sent_at_once(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    scene.client(ORDERS).send(&[]).await.expect("nothing is sent");
    assert_eq!(scene.counts(ORDERS).await.active, 0);
}

/// Where the machine stood still until the message was due, nobody saw it wait: that try is made anew.
pub(crate) async fn a_scheduled_message_comes_at_its_time(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    loop {
        let due = SystemTime::now() + Duration::from_secs(2);
        client.send(&[OutgoingMessage { scheduled_enqueue_time: Some(due), ..message(1) }]).await.expect("accepted");
        let counts = scene.counts(ORDERS).await;
        let is_early = SystemTime::now() < due;
        if is_early {
            assert_eq!((counts.active, counts.scheduled), (0, 1));
        }
        let received = receive_one(&*client).await;
        // The wire carries whole milliseconds.
        let early = due.duration_since(SystemTime::now()).unwrap_or_default();
        assert!(early <= Duration::from_millis(1), "it came {early:?} early");
        client.settle(received.lock_token, Settlement::Complete).await.expect("completed");
        if is_early {
            break;
        }
    }
}
