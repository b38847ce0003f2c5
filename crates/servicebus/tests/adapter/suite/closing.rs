//! Closing: what was not handed out goes back, and nothing hangs afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use servicebus::Adapter;

use crate::scene::{AT_ONCE, LONG_WAIT, ORDERS, Scene, expected_ids, ids, receive, send};

/// Makes the client hold five messages that no caller has: waits until nobody else can have them, then drops the wait
/// that they came for.
async fn hold_five(scene: &Scene, client: &Arc<dyn servicebus::QueueClient>) {
    let bystander = scene.bystander(ORDERS);
    let mut wait = client.receive(5, LONG_WAIT);
    assert!(tokio::time::timeout(Duration::ZERO, &mut wait).await.is_err());
    // The wait was announced; whether the broker knows of it yet shows in who gets the messages.
    loop {
        send(&*bystander, 0..5).await;
        let taken = bystander.receive(5, Duration::from_millis(300)).await.expect("received");
        if taken.is_empty() {
            break;
        }
        for message in taken {
            bystander.settle(message.lock_token, servicebus::Settlement::Complete).await.expect("completed");
        }
    }
    drop(wait);
    bystander.close().await.expect("closed");
}

pub(crate) async fn closing_gives_back_what_was_not_handed_out(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    hold_five(&scene, &client).await;
    let started = Instant::now();
    client.close().await.expect("closed in peace");
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    let messages = receive(&*scene.bystander(ORDERS), 5).await;
    assert_eq!(ids(&messages), expected_ids(0..5));
    assert!(messages.iter().all(|message| message.delivery_count == 0), "none was counted as failed");
}

pub(crate) async fn closing_twice_and_calls_after_closing_end_at_once(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    send(&*client, 0..1).await;
    client.close().await.expect("closed");
    client.close().await.expect("closed before");
    let started = Instant::now();
    client.send(&[crate::scene::message(1)]).await.expect_err("closed");
    client.receive(1, LONG_WAIT).await.expect_err("closed");
    client.peek(0, 1).await.expect_err("closed");
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    let unused = scene.client(ORDERS);
    unused.close().await.expect("a client that never connected");
}

pub(crate) async fn closing_ends_a_wait(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    send(&*client, 0..1).await;
    receive(&*client, 1).await;
    let waiting = {
        let client = Arc::clone(&client);
        tokio::spawn(async move { client.receive(1, LONG_WAIT).await })
    };
    let started = Instant::now();
    client.close().await.expect("closed");
    match waiting.await.expect("no panic") {
        Ok(messages) => assert!(messages.is_empty()),
        Err(error) => assert!(!error.is_transient(), "{error:?}"),
    }
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
}

pub(crate) async fn a_client_dropped_without_closing_gives_back(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    hold_five(&scene, &client).await;
    drop(client);
    let messages = receive(&*scene.bystander(ORDERS), 5).await;
    assert_eq!(ids(&messages), expected_ids(0..5));
}
