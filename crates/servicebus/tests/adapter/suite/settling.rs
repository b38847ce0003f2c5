//! Settling and renewing: the outcome is the broker's own word.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use servicebus::{Adapter, FailureKind, Settlement};
use tokio::task::JoinSet;

use crate::scene::{AT_ONCE, BRIEF, ORDERS, RENEWED, RENEWED_LOCK, Scene, receive, receive_one, send};

pub(crate) async fn completing_removes_a_message(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    send(&*client, 0..2).await;
    let message = receive_one(&*client).await;
    client.settle(message.lock_token, Settlement::Complete).await.expect("completed");
    assert_eq!(scene.counts(ORDERS).await.active, 1);
}

pub(crate) async fn abandoning_raises_the_delivery_count(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    send(&*client, 0..1).await;
    let first = receive_one(&*client).await;
    client.settle(first.lock_token, Settlement::Abandon).await.expect("abandoned");
    let second = receive_one(&*client).await;
    assert_eq!((second.sequence_number, second.delivery_count), (first.sequence_number, 1));
    assert_ne!(second.lock_token, first.lock_token);
}

pub(crate) async fn releasing_does_not_raise_the_delivery_count(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    send(&*client, 0..1).await;
    let first = receive_one(&*client).await;
    client.settle(first.lock_token, Settlement::Release).await.expect("released");
    let second = receive_one(&*client).await;
    assert_eq!((second.sequence_number, second.delivery_count), (first.sequence_number, 0));
}

pub(crate) async fn dead_lettering_moves_a_message(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    send(&*client, 3..4).await;
    let message = receive_one(&*client).await;
    let settlement = Settlement::DeadLetter { reason: "BadBody".to_owned(), description: "no JSON".to_owned() };
    client.settle(message.lock_token, settlement).await.expect("dead-lettered");
    let counts = scene.counts(ORDERS).await;
    assert_eq!((counts.active, counts.dead_letter), (0, 1));
    let dead_letters = scene.client(&format!("{ORDERS}/$DeadLetterQueue"));
    let message = receive_one(&*dead_letters).await;
    assert_eq!(message.message_id.as_deref(), Some("m-3"));
    dead_letters.settle(message.lock_token, Settlement::Complete).await.expect("completed");
    assert_eq!(scene.counts(ORDERS).await.dead_letter, 0);
}

pub(crate) async fn a_lost_lock_is_reported(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(BRIEF);
    send(&*client, 0..1).await;
    let lost = receive_one(&*client).await;
    // Only a lock that has run out lets somebody else have the message.
    let other = scene.bystander(BRIEF);
    let again = receive_one(&*other).await;
    assert_eq!((again.sequence_number, again.delivery_count), (lost.sequence_number, 1));
    for settlement in [Settlement::Complete, Settlement::Abandon] {
        let error = client.settle(lost.lock_token, settlement).await.expect_err("the lock is lost");
        assert_eq!(error.kind, FailureKind::LockLost, "{error:?}");
    }
    assert_eq!(scene.counts(BRIEF).await.active, 1, "the lost lock completed nothing");
}

pub(crate) async fn completing_twice_is_reported(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    send(&*client, 0..1).await;
    let message = receive_one(&*client).await;
    client.settle(message.lock_token, Settlement::Complete).await.expect("completed");
    let error = client.settle(message.lock_token, Settlement::Complete).await.expect_err("completed before");
    assert_eq!(error.kind, FailureKind::LockLost, "{error:?}");
}

/// A machine that stands still for as long as a lock lasts proves nothing about renewing, so such a try is made anew.
pub(crate) async fn renewing_extends_a_lock(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(RENEWED);
    send(&*client, 0..1).await;
    loop {
        let asked = Instant::now();
        let message = receive_one(&*client).await;
        let beyond = message.locked_until + RENEWED_LOCK / 2;
        let (mut locked_until, mut locked_at, mut in_time) = (message.locked_until, asked, true);
        while SystemTime::now() < beyond {
            // As a worker does: again when half of the lock is over.
            tokio::time::sleep(RENEWED_LOCK / 2).await;
            let asked = Instant::now();
            let renewed = client.renew(message.lock_token).await;
            in_time &= locked_at.elapsed() < RENEWED_LOCK;
            if !in_time {
                break;
            }
            let renewed = renewed.expect("renewed in time");
            assert!(renewed >= locked_until, "{renewed:?} after {locked_until:?}");
            (locked_until, locked_at) = (renewed, asked);
        }
        let completed = client.settle(message.lock_token, Settlement::Complete).await;
        if in_time && locked_at.elapsed() < RENEWED_LOCK {
            completed.expect("the lock held");
            break;
        }
        match completed {
            Ok(()) => send(&*client, 0..1).await,
            Err(error) => assert_eq!(error.kind, FailureKind::LockLost, "{error:?}"),
        }
    }
    assert_eq!(scene.counts(RENEWED).await.active, 0);
}

pub(crate) async fn renewing_a_lost_lock_is_reported(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    send(&*client, 0..1).await;
    let message = receive_one(&*client).await;
    client.settle(message.lock_token, Settlement::Complete).await.expect("completed");
    let started = Instant::now();
    let error = client.renew(message.lock_token).await.expect_err("no lock any more");
    assert_eq!(error.kind, FailureKind::LockLost, "{error:?}");
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
}

pub(crate) async fn two_hundred_settlements_side_by_side(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    send(&*client, 0..200).await;
    let mut settling = JoinSet::new();
    for (index, message) in receive(&*client, 200).await.into_iter().enumerate() {
        let client = Arc::clone(&client);
        settling.spawn(async move {
            let settlement = match index % 4 {
                0 => Settlement::DeadLetter { reason: "r".to_owned(), description: String::new() },
                _ => Settlement::Complete,
            };
            client.settle(message.lock_token, settlement).await
        });
    }
    for result in settling.join_all().await {
        result.expect("settled");
    }
    let counts = scene.counts(ORDERS).await;
    assert_eq!((counts.active, counts.dead_letter), (0, 50));
}

pub(crate) async fn another_client_settles_by_lock_token(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    send(&*client, 0..4).await;
    let messages = receive(&*scene.bystander(ORDERS), 4).await;
    let dead = Settlement::DeadLetter { reason: "r".to_owned(), description: "d".to_owned() };
    for (message, settlement) in
        messages.iter().zip([Settlement::Complete, Settlement::Abandon, Settlement::Release, dead])
    {
        client.settle(message.lock_token, settlement).await.expect("settled by its lock token");
    }
    let counts = scene.counts(ORDERS).await;
    assert_eq!((counts.active, counts.dead_letter), (2, 1));
}
