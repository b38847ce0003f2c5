//! One entity is deleted, disabled, or cannot be read though others can.

use std::time::Duration;

use servicebus::{EntitySettings, EntityStatus};
use testbench::within;
use tonic::Code;

use crate::log::Log;
use crate::scene::{Scene, queue};

const QUICK: &str = "{cacheTtlSeconds: 0.1, maxStalenessSeconds: 60, creditsPerSecond: 100000}";

#[tokio::test]
async fn a_deleted_queue_is_not_found_at_the_next_refresh_and_no_reading_stands_in() {
    let log = Log::collect();
    let scene = Scene::start(3, QUICK).await;
    let (gone, stays) = (scene.trigger(&queue(0)), scene.trigger(&queue(1)));
    for trigger in [&gone, &stays] {
        assert_eq!(scene.metric(trigger).await.expect("it can be read"), 0);
    }
    scene.administration().delete_queue(&queue(0)).await.expect("it is deleted");
    tokio::time::sleep(Duration::from_millis(150)).await;
    for _ in 0..20 {
        let refusal = scene.metric(&gone).await.expect_err("it is gone");
        assert_eq!(refusal.code(), Code::NotFound, "{refusal}");
        assert_eq!(scene.metric(&stays).await.expect("the other is there"), 0);
    }
    log.assert_one_warning(&["NotFound", &queue(0)]);
    scene.administration().create_queue(&queue(0), &EntitySettings::default()).await.expect("it is made again");
    within("the new queue", async {
        while scene.metric(&gone).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_disabled_queue_is_zero_and_comes_back_when_it_is_enabled() {
    let scene = Scene::start(1, QUICK).await;
    let orders = scene.trigger(testbench::QUEUE);
    scene.bench.fill(0..4).await;
    assert_eq!(scene.metric(&orders).await.expect("it can be read"), 4);
    for (status, value) in [(EntityStatus::Disabled, 0), (EntityStatus::Active, 4), (EntityStatus::ReceiveDisabled, 0)]
    {
        let settings = EntitySettings { status: Some(status.clone()), ..EntitySettings::default() };
        scene.administration().update_queue(testbench::QUEUE, &settings).await.expect("the status is changed");
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(scene.metric(&orders).await.expect("it can be read"), value, "{status:?}");
    }
}

#[tokio::test]
async fn one_queue_that_cannot_be_read_does_not_hold_up_the_others() {
    let log = Log::collect();
    let scene = Scene::start(5, QUICK).await;
    scene.bench.inject(&format!("status=500,entity={}", queue(0)));
    let (broken, others) = (scene.trigger(&queue(0)), [1, 2, 3, 4].map(|number| scene.trigger(&queue(number))));
    // Listings would show it all the same.
    scene.bench.inject("status=500,operation=list-queues");
    for _ in 0..12 {
        for other in &others {
            assert_eq!(scene.metric(other).await.expect("the others can be read"), 0);
        }
        let refusal = scene.metric(&broken).await.expect_err("it cannot be read");
        assert_eq!(refusal.code(), Code::Unavailable, "{refusal}");
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    let lines = log.lines();
    assert!(lines.len() <= 3, "{lines:#?}");
}
