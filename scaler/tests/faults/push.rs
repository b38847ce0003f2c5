//! Push streams: edges in time, thousands at once, and a short budget.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use scaler::serve::Timings;
use servicebus::{Adapter, ConnectionString, OutgoingMessage};
use testbench::within;

use crate::scene::{Scene, queue};

async fn send(scene: &Scene, queue: &str) -> Instant {
    let connection = ConnectionString::parse(scene.bench.connection_string()).expect("the broker's own");
    let client = servicebus::connect(&connection, queue, Adapter::Ours).expect("a client");
    let message = OutgoingMessage {
        message_id: "edge".to_owned(),
        content_type: None,
        body: bytes::Bytes::from_static(b"{}"),
        scheduled_enqueue_time: None,
    };
    client.send(&[message]).await.expect("the broker accepts it");
    let accepted = Instant::now();
    client.close().await.expect("the client closes");
    accepted
}

#[tokio::test]
async fn an_edge_comes_within_one_interval_and_one_read_among_a_hundred_idle_queues() {
    let interval = Duration::from_millis(500);
    let timings = Timings { watch_interval: interval, ..Timings::default() };
    let scene = Scene::start_with(100, "cacheTtlSeconds: 300", timings).await;
    let mut streams = Vec::new();
    for number in 0..100 {
        let mut stream = scene.watch(&scene.trigger(&queue(number))).await;
        let first = within("the present state", stream.message()).await.expect("no error").expect("it is open");
        assert!(!first.result);
        streams.push(stream);
    }
    for number in [0, 50, 99] {
        let accepted = send(&scene, &queue(number)).await;
        let edge = within("the edge", streams[number].message()).await.expect("no error").expect("it is open");
        assert!(edge.result);
        assert!(accepted.elapsed() < interval + Duration::from_secs(1), "{:?}", accepted.elapsed());
    }
}

#[tokio::test]
async fn what_is_active_is_looked_at_no_more_often_than_its_cache_ttl() {
    let scene = Scene::start(1, "{cacheTtlSeconds: 300, creditsPerSecond: 100000}").await;
    let trigger = scene.trigger(testbench::QUEUE);
    scene.bench.fill(0..1).await;
    let mut stream = scene.watch(&trigger).await;
    assert!(within("the present state", stream.message()).await.expect("no error").expect("it is open").result);
    let mut idle = scene.watch(&scene.trigger(&queue(0))).await;
    assert!(!within("the present state", idle.message()).await.expect("no error").expect("it is open").result);
    // The idle queue is alone in being read, so it is read alone.
    scene.bench.broker().reset_counters();
    testbench::until("ten more reads", || async { scene.operations() >= 10 }).await;
    let counts = scene.bench.broker().counters();
    assert_eq!(counts.of(testbench::broker::Operation::ListQueues).operations, 0, "{counts:?}");
}

#[tokio::test]
async fn a_thousand_idle_streams_stretch_the_interval_as_the_budget_says() {
    // Ten pages five times a second would be fifty operations a second; five may be had.
    let scene = Scene::start(1_000, "{cacheTtlSeconds: 5, creditsPerSecond: 50}").await;
    let begun = Instant::now();
    let mut streams = join_all((0..1_000).map(|number| {
        let scene = &scene;
        async move { scene.watch(&scene.trigger(&queue(number))).await }
    }))
    .await;
    for stream in &mut streams {
        let first = within("the present state", stream.message()).await.expect("no error").expect("it is open");
        assert!(!first.result);
    }
    testbench::until("the stretched interval to show", || async { scene.stretch() > 3.0 }).await;
    let most = 20.0 + begun.elapsed().as_secs_f64() * 5.0 + 1.0;
    assert!((scene.operations() as f64) <= most, "{} operations, {most} are paid for", scene.operations());
    let accepted = send(&scene, &queue(777)).await;
    let edge = within("the edge", streams[777].message()).await.expect("no error").expect("it is open");
    assert!(edge.result);
    assert!(accepted.elapsed() < Duration::from_secs(10), "{:?}", accepted.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_streams_on_one_connection_do_not_hold_up_calls() {
    let scene = Scene::start_with(20, "cacheTtlSeconds: 300", Timings::default()).await;
    let mut streams = join_all((0..2_000).map(|number| {
        let scene = &scene;
        async move { scene.watch(&scene.trigger(&queue(number % 20))).await }
    }))
    .await;
    for stream in &mut streams {
        let first = within("the present state", stream.message()).await.expect("no error").expect("it is open");
        assert!(!first.result);
    }
    let trigger = scene.trigger(&queue(3));
    scene.metric(&trigger).await.expect("it can be read");
    let mut took = Vec::new();
    for _ in 0..100 {
        let asked = Instant::now();
        scene.metric(&trigger).await.expect("it can be read");
        took.push(asked.elapsed());
    }
    took.sort_unstable();
    // Two calls each, in a debug build, beside other tests; a shared queue of two thousand would show as seconds.
    assert!(took[50] < Duration::from_millis(100), "median {:?}, worst {:?}", took[50], took[99]);
}
