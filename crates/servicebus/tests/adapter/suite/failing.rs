//! When the network, the broker or the configuration fails: errors in time, recovery at the next call, nothing lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use servicebus::{Adapter, FailureKind, Settlement};
use testbench::Nobody;

use crate::scene::{
    AT_ONCE, BRIEF, LONG_WAIT, ORDERS, Scene, complete_once, complete_stubbornly, expected_ids, message,
    patient_client, receive_one, send, start_broker, until_ok,
};

/// From the moment a connection is cut to the next success.
const RECOVERY: Duration = Duration::from_secs(2);

/// The quickest of three counts: a machine that stands still for a moment is no fault of the adapter.
pub(crate) async fn a_cut_connection_recovers_within_two_seconds(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    send(&*client, 0..3).await;
    let (mut settling, mut receiving, mut sending, mut renewing) = (vec![], vec![], vec![], vec![]);
    for round in 0..3 {
        let held = receive_one(&*client).await;
        scene.proxy.cut();
        let (_, took) = until_ok(|| client.renew(held.lock_token)).await;
        renewing.push(took);
        let before = scene.counts(ORDERS).await.active;
        scene.proxy.cut();
        let ((), took) = until_ok(|| complete_once(&*client, &held)).await;
        settling.push(took);
        assert_eq!(scene.counts(ORDERS).await.active, before - 1, "the lock outlived the connection it came on");
        scene.proxy.cut();
        let outgoing = [message(3 + round)];
        let ((), took) = until_ok(|| client.send(&outgoing)).await;
        sending.push(took);
        scene.proxy.cut();
        let (messages, took) = until_ok(|| client.receive(1, LONG_WAIT)).await;
        receiving.push(took);
        client.settle(messages[0].lock_token, Settlement::Release).await.expect("given back");
    }
    for (what, took) in [("settling", settling), ("receiving", receiving), ("sending", sending), ("renewing", renewing)]
    {
        assert!(took.iter().min() < Some(&RECOVERY), "{what} took {took:?}");
    }
}

/// Cuts come with progress, not with time: after every forty messages handled.
pub(crate) async fn nothing_is_lost_when_the_connection_is_cut_again_and_again(adapter: Adapter) {
    const TOTAL: usize = 200;
    let scene = Scene::new(adapter).await;
    let client = scene.client(BRIEF);
    for first in (0..TOTAL).step_by(50) {
        let batch: Vec<_> = (first..first + 50).map(message).collect();
        if first % 100 == 0 {
            scene.proxy.cut();
        }
        until_ok(|| client.send(&batch)).await;
    }
    let mut handled = BTreeSet::new();
    let mut next_cut = 40;
    while handled.len() < TOTAL || scene.counts(BRIEF).await.active > 0 {
        let (messages, _) = until_ok(|| client.receive(10, Duration::from_millis(500))).await;
        for message in messages {
            handled.insert(message.message_id.clone().expect("an id"));
            if handled.len() >= next_cut {
                scene.proxy.cut();
                next_cut += 40;
            }
            complete_stubbornly(&*client, &message).await;
        }
    }
    assert_eq!(handled, expected_ids(0..TOTAL));
    assert_eq!(scene.counts(BRIEF).await.dead_letter, 0);
}

pub(crate) async fn a_stalled_network_ends_in_a_deadline(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.impatient_client(ORDERS);
    // Two seconds are short on a machine that stands still for a moment; nothing is asserted of them yet.
    let outgoing = [message(0), message(1)];
    until_ok(|| client.send(&outgoing)).await;
    let (received, _) = until_ok(|| client.receive(1, LONG_WAIT)).await;
    let held = received.first().expect("it waits for one");
    scene.proxy.hold_back(true);
    let started = Instant::now();
    let outgoing = [message(3)];
    let (settled, renewed, sent) = tokio::join!(
        client.settle(held.lock_token, Settlement::Abandon),
        client.renew(held.lock_token),
        client.send(&outgoing)
    );
    for error in [settled.expect_err("stalled"), renewed.expect_err("stalled"), sent.expect_err("stalled")] {
        assert!(matches!(error.kind, FailureKind::Timeout | FailureKind::ConnectionLost), "{error:?}");
    }
    let error = client.peek(0, 1).await.expect_err("connecting stalls, too");
    assert!(error.is_transient(), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
    scene.proxy.hold_back(false);
    let (_, took) = until_ok(|| client.peek(0, 1)).await;
    assert!(took < AT_ONCE, "back after {took:?}");
}

/// The quickest of three counts, as above.
pub(crate) async fn a_broker_that_comes_back_is_found_again(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    let nobody = Nobody::start();
    let Scene { mut broker, proxy, .. } = scene;
    let mut took = Vec::new();
    for round in 0..3 {
        send(&*client, round..round + 1).await;
        receive_one(&*client).await;
        let waiting = {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.receive(1, LONG_WAIT).await })
        };
        // Its port may be another's as soon as it has gone.
        proxy.lead_to(nobody.address());
        broker.shutdown().await;
        let error = waiting.await.expect("no panic").expect_err("the broker has gone");
        assert!(error.is_transient(), "{error:?}");
        let error = client.send(&[message(1)]).await.expect_err("nobody is there");
        assert!(error.is_transient(), "{error:?}");
        broker = start_broker().await;
        proxy.lead_to(broker.addresses()[0]);
        let outgoing = [message(100 + round)];
        let ((), back_after) = until_ok(|| client.send(&outgoing)).await;
        took.push(back_after);
        let received = receive_one(&*client).await;
        assert_eq!(received.message_id, Some(format!("m-{}", 100 + round)));
        client.settle(received.lock_token, Settlement::Complete).await.expect("completed");
    }
    assert!(took.iter().min() < Some(&(RECOVERY + Duration::from_secs(1))), "back after {took:?}");
}

pub(crate) async fn a_link_that_the_broker_closed_is_made_again(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client(ORDERS);
    send(&*client, 0..1).await;
    let received = receive_one(&*client).await;
    client.settle(received.lock_token, Settlement::Complete).await.expect("completed");
    let waiting = {
        let client = Arc::clone(&client);
        tokio::spawn(async move { client.receive(1, LONG_WAIT).await })
    };
    let administration = scene.administration();
    administration.delete_queue(ORDERS).await.expect("deleted");
    waiting.await.expect("no panic").expect_err("the queue has gone, and with it the link");
    let error = client.send(&[message(1)]).await.expect_err("no queue");
    assert_eq!(error.kind, FailureKind::NotFound, "{error:?}");
    administration.create_queue(ORDERS, &servicebus::EntitySettings::default()).await.expect("created");
    send(&*client, 2..3).await;
    assert_eq!(receive_one(&*client).await.message_id.as_deref(), Some("m-2"));
}

pub(crate) async fn an_unknown_queue_is_not_found(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let client = scene.client("nowhere");
    let started = Instant::now();
    let limit = client.max_batch_bytes().await.map(drop);
    let sent = client.send(&[message(1)]).await;
    let received = client.receive(1, LONG_WAIT).await.map(drop);
    let peeked = client.peek(0, 1).await.map(drop);
    for (call, result) in [("limit", limit), ("send", sent), ("receive", received), ("peek", peeked)] {
        let error = result.expect_err(call);
        assert_eq!(error.kind, FailureKind::NotFound, "{call}: {error:?}");
        assert!(!error.is_transient());
        assert!(!error.to_string().contains('\n'));
    }
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
}

pub(crate) async fn a_wrong_key_is_unauthorized(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let connection = scene.through_proxy();
    let (before, after) = connection.split_once("SharedAccessKey=").expect("a key");
    let (_, after) = after.split_once(';').expect("more parts");
    let connection = format!("{before}SharedAccessKey=V1JPTkctS0VZ;{after}");
    let client = patient_client(&connection, ORDERS, adapter);
    for _ in 0..2 {
        let error = client.send(&[message(1)]).await.expect_err("a wrong key");
        assert_eq!(error.kind, FailureKind::Unauthorized, "{error:?}");
        assert!(!format!("{error:?}").contains("V1JPTkctS0VZ"), "{error:?}");
    }
    let error = client.receive(1, LONG_WAIT).await.expect_err("a wrong key");
    assert_eq!(error.kind, FailureKind::Unauthorized, "{error:?}");
}

pub(crate) async fn an_unreachable_broker_is_an_error(adapter: Adapter) {
    let nobody = Nobody::start();
    let address = nobody.address();
    let text = format!("Endpoint=sb://{address};SharedAccessKeyName=n;SharedAccessKey=k;UseDevelopmentEmulator=true");
    let client = patient_client(&text, ORDERS, adapter);
    let started = Instant::now();
    let error = client.send(&[message(1)]).await.expect_err("nobody is there");
    assert!(error.is_transient(), "{error:?}");
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    client.close().await.expect("nothing to give back");
}
