//! Push streams: the state at once, then edges, `true` repeated, silence on what is unknown, and an end with OK.

use std::time::{Duration, Instant};

use externalscaler::IsActiveResponse;
use servicebus::EntitySettings;
use tonic::Code;

use crate::support::{Scaler, broker_with, eventually, next, quick, send, trigger, within};

#[tokio::test]
async fn the_state_comes_at_once_and_the_edge_soon_after() {
    let broker = broker_with(&["orders"]).await;
    let scaler = Scaler::start("cacheTtlSeconds: 300").await;
    let trigger = trigger(broker.connection_string(), &[("queueName", "orders")]);
    let mut stream = scaler.watch(&trigger).await.expect("the stream opens");
    assert!(!next(&mut stream).await, "an empty queue is inactive");
    send(broker.connection_string(), "orders", 1).await;
    // It is not waited for until the reading is as old as `cacheTtl` allows.
    assert!(next(&mut stream).await, "the next message is the edge");
}

#[tokio::test]
async fn true_is_repeated_and_false_is_not() {
    let broker = broker_with(&["orders", "empty"]).await;
    send(broker.connection_string(), "orders", 1).await;
    let scaler = Scaler::start("").await;
    let mut idle =
        scaler.watch(&trigger(broker.connection_string(), &[("queueName", "empty")])).await.expect("the stream opens");
    assert!(!next(&mut idle).await);
    // Before the scaler can have told anything.
    let begun = Instant::now();
    let mut busy =
        scaler.watch(&trigger(broker.connection_string(), &[("queueName", "orders")])).await.expect("the stream opens");
    for _ in 0..4 {
        assert!(next(&mut busy).await);
    }
    assert!(begun.elapsed() >= 3 * quick().heartbeat, "four messages within {:?}", begun.elapsed());
    // Over the same time, nothing more came about the queue that is still empty.
    let more: Result<Result<Option<IsActiveResponse>, _>, _> =
        tokio::time::timeout(Duration::from_millis(1), idle.message()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn streams_of_one_queue_share_one_poller_which_ends_with_the_last_of_them() {
    let broker = broker_with(&["orders"]).await;
    let scaler = Scaler::start("cacheTtlSeconds: 300").await;
    let first = trigger(broker.connection_string(), &[("queueName", "orders")]);
    let other = trigger(broker.connection_string(), &[("queueName", "orders"), ("activationMessageCount", "1")]);
    let mut streams = Vec::new();
    for trigger in [&first, &other, &first, &other, &first, &other, &first, &other] {
        let mut stream = scaler.watch(trigger).await.expect("the stream opens");
        assert!(!next(&mut stream).await);
        streams.push(stream);
    }
    let (begun, before) = (Instant::now(), scaler.reads());
    eventually("twenty more reads", || std::future::ready((scaler.reads() >= before + 20).then_some(()))).await;
    let fair = begun.elapsed().as_millis() / quick().watch_interval.as_millis() + 2;
    let reads = scaler.reads() - before;
    assert!(reads as u128 <= fair, "{reads} reads in {:?}: more than one poller's", begun.elapsed());

    send(broker.connection_string(), "orders", 1).await;
    assert!(next(&mut streams[0]).await, "one message activates the first");
    // What was told on the same connection before this has arrived with it.
    let mut newcomer = scaler.watch(&other).await.expect("the stream opens");
    assert!(!next(&mut newcomer).await, "one message is not more than one");
    let still_inactive = tokio::time::timeout(Duration::from_millis(1), streams[1].message()).await;
    assert!(still_inactive.is_err(), "but not the one with activationMessageCount 1");
    drop((streams, newcomer));
    let (mut last, mut quiet) = (scaler.reads(), 0);
    // One time without a read may be one in which the machine stood still.
    eventually("the reads to stop", async || {
        tokio::time::sleep(4 * quick().watch_interval).await;
        let now = scaler.reads();
        quiet = if std::mem::replace(&mut last, now) == now { quiet + 1 } else { 0 };
        (quiet == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_unknown_is_not_told_and_the_stream_stays() {
    let broker = broker_with(&[]).await;
    let scaler = Scaler::start("").await;
    let mut stream = scaler
        .watch(&trigger(broker.connection_string(), &[("queueName", "later")]))
        .await
        .expect("the stream opens before the queue is there");
    eventually("two reads", || std::future::ready((scaler.reads() >= 2).then_some(()))).await;
    let administration = testbench::administration(broker.connection_string());
    administration.create_queue("later", &EntitySettings::default()).await.expect("the queue is made");
    assert!(!next(&mut stream).await, "the first message is about the queue that is there now");
}

#[tokio::test]
async fn streams_end_with_ok_when_the_scaler_stops() {
    let broker = broker_with(&["orders"]).await;
    let scaler = Scaler::start("").await;
    let trigger = trigger(broker.connection_string(), &[("queueName", "orders")]);
    let mut activity = scaler.watch(&trigger).await.expect("the stream opens");
    assert!(!next(&mut activity).await);
    let mut specifications =
        scaler.client.clone().stream_metric_spec(trigger.clone()).await.expect("the stream opens").into_inner();
    assert!(within("the specification", specifications.message()).await.expect("no error").is_some());
    scaler.shutdown.cancel();
    // Nothing is cut off: the deadlines are far longer than this may take.
    assert_eq!(within("the end", activity.message()).await.map_err(|status| status.code()), Ok::<_, Code>(None));
    assert_eq!(within("the end", specifications.message()).await.map_err(|status| status.code()), Ok::<_, Code>(None));
    scaler.stop().await;
}
