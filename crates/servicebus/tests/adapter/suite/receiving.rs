//! Receiving and peeking: when a call returns, what it gives, and that nothing is lost on the way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use servicebus::{Adapter, Settlement};
use tokio::task::JoinSet;

use crate::scene::{AT_ONCE, LONG_WAIT, ORDERS, Scene, expected_ids, ids, receive, send};

pub(crate) async fn receiving_returns_at_the_first_message(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    send(&*client, 0..1).await;
    let started = Instant::now();
    let messages = client.receive(100, LONG_WAIT).await.expect("received");
    assert_eq!(messages.len(), 1);
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
}

pub(crate) async fn receiving_returns_as_soon_as_a_message_is_sent(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    let waiting = tokio::spawn(async move { client.receive(100, LONG_WAIT).await });
    let started = Instant::now();
    send(&*scene.bystander(ORDERS), 0..1).await;
    let messages = waiting.await.expect("no panic").expect("received");
    assert_eq!(ids(&messages), expected_ids(0..1));
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
}

pub(crate) async fn receiving_returns_empty_when_the_wait_is_over(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    let wait = Duration::from_millis(600);
    for _ in 0..2 {
        let started = Instant::now();
        assert!(client.receive(5, wait).await.expect("no error").is_empty());
        let took = started.elapsed();
        assert!(took >= wait && took < wait + AT_ONCE, "{took:?}");
    }
    assert!(client.receive(0, LONG_WAIT).await.expect("no error").is_empty(), "nothing was asked for");
}

pub(crate) async fn receiving_never_gives_more_than_asked_for(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    send(&*client, 0..50).await;
    let mut all = Vec::new();
    while all.len() < 50 {
        let messages = client.receive(7, LONG_WAIT).await.expect("received");
        assert!((1..=7).contains(&messages.len()), "{}", messages.len());
        all.extend(messages);
    }
    assert_eq!(ids(&all), expected_ids(0..50));
    assert_eq!(all.len(), 50, "each came once");
}

pub(crate) async fn callers_side_by_side_share_the_messages(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let client = Arc::clone(&client);
        callers.spawn(async move { receive(&*client, 25).await });
    }
    send(&*scene.bystander(ORDERS), 0..200).await;
    let all: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    assert_eq!(all.len(), 200, "each came once");
    assert_eq!(ids(&all), expected_ids(0..200));
}

/// The locks outlast the test, so what was lost on the way would not come again.
pub(crate) async fn a_dropped_receive_loses_nothing(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    let sender = scene.bystander(ORDERS);
    let mut all = client.receive(1, Duration::from_millis(1)).await.unwrap_or_default();
    for round in 0..40_usize {
        send(&*sender, round * 5..round * 5 + 5).await;
        // Dropped at another moment each time: before, while and after the messages arrive.
        let cut_off = Duration::from_micros(100 * round as u64);
        if let Ok(messages) = tokio::time::timeout(cut_off, client.receive(5, LONG_WAIT)).await {
            all.extend(messages.expect("received"));
        }
    }
    let rest = 200 - all.len();
    all.extend(receive(&*client, rest).await);
    assert_eq!(ids(&all), expected_ids(0..200));
    assert!(all.iter().all(|message| message.delivery_count == 0), "none was counted as failed");
}

pub(crate) async fn what_was_on_the_way_to_a_dropped_receive_goes_to_the_next(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let (client, bystander) = (scene.client(ORDERS), scene.bystander(ORDERS));
    let mut abandoned = client.receive(5, LONG_WAIT);
    // Asked for once, so that the wait is known, and never again.
    assert!(tokio::time::timeout(Duration::ZERO, &mut abandoned).await.is_err());
    send(&*bystander, 0..5).await;
    drop(abandoned);
    let messages = receive(&*client, 5).await;
    assert_eq!(ids(&messages), expected_ids(0..5));
}

pub(crate) async fn peeking_locks_nothing(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    assert!(client.peek(0, 10).await.expect("peeked").is_empty(), "an empty queue");
    send(&*client, 0..10).await;
    let first = client.peek(0, 4).await.expect("peeked");
    assert_eq!(first.len(), 4);
    let ids_of = |messages: &[servicebus::PeekedMessage]| -> Vec<Option<String>> {
        messages.iter().map(|message| message.message_id.clone()).collect()
    };
    assert_eq!(ids_of(&client.peek(0, 4).await.expect("peeked")), ids_of(&first), "the same again");
    let rest = client.peek(first[3].sequence_number + 1, 100).await.expect("peeked");
    assert_eq!(rest.len(), 6);
    assert_eq!(&rest[0].body[..], b"{\"id\":4}");
    let received = receive(&*client, 10).await;
    assert_eq!(ids(&received), expected_ids(0..10), "all can still be received");
    client.settle(received[0].lock_token, Settlement::Complete).await.expect("completed");
    assert_eq!(client.peek(0, 100).await.expect("peeked").len(), 9, "locked ones are seen, too");
}
