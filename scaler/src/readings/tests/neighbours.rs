//! What one credential's trouble is to the others of its Service Bus namespace: nothing.

use super::*;

/// Whatever is read with the key `bad` fails like this; everything else has seven messages. Nothing can be listed.
struct Neighbours {
    trouble: ReadFailure,
    reads_of_the_bad: AtomicUsize,
}

impl Neighbours {
    fn with(trouble: ReadFailure) -> Arc<Self> {
        Arc::new(Self { trouble, reads_of_the_bad: AtomicUsize::default() })
    }
}

impl Source for Neighbours {
    fn read<'a>(&'a self, of: &'a Access, _: &'a Entity) -> Read<'a, Observed> {
        let is_bad = of.digest() == access("bad").digest();
        let result = if is_bad { Err(self.trouble.clone()) } else { Ok(Observed::of_test(7)) };
        self.reads_of_the_bad.fetch_add(usize::from(is_bad), Ordering::SeqCst);
        async move {
            tokio::time::sleep(READ_TIME).await;
            result
        }
        .boxed()
    }

    fn page<'a>(&'a self, _: &'a Access, _: &'a Listing, _: usize) -> Read<'a, Page> {
        std::future::ready(Err(ReadFailure::Unauthorized("no Manage claim".to_owned()))).boxed()
    }
}

/// So many queues are asked for with the bad key, each once a second for ten minutes, and one with a good key every
/// `period`. Gives how old the good one's readings were.
async fn ages_beside(readings: &Readings, queues: usize, period: Duration) -> Vec<Duration> {
    let until = Instant::now() + Duration::from_mins(10);
    let bad = async {
        while Instant::now() < until {
            let asking = (0..queues).map(|number| async move {
                let asked = query("bad", &format!("queue-{number}"));
                readings.newest(&asked, FRESHNESS).await.expect_err("it fails")
            });
            join_all(asking).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let good = async {
        let mut ages = Vec::new();
        while Instant::now() < until {
            ages.push(readings.newest(&query("good", "orders"), FRESHNESS).await.expect("it can be read").age);
            tokio::time::sleep(period).await;
        }
        ages
    };
    tokio::join!(bad, good).1
}

#[tokio::test(start_paused = true)]
async fn what_is_no_queue_is_no_outage_for_the_others() {
    let topic = ReadFailure::Unexpected("it is a topic".to_owned());
    let readings = readings(&Neighbours::with(topic));
    for age in ages_beside(&readings, 3, Duration::from_secs(30)).await {
        assert!(age <= READ_TIME, "an older one stood in: {age:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_gets_no_token_costs_the_others_nothing_and_is_no_outage() {
    let no_token = ReadFailure::NoToken("Entra is not to be reached".to_owned());
    let readings = readings(&Neighbours::with(no_token));
    for age in ages_beside(&readings, 100, Duration::from_secs(5)).await {
        assert!(age <= FRESHNESS.cache_ttl + Duration::from_secs(1), "{age:?}");
    }
    let exposition = readings.0.metrics.exposition();
    let line = |outcome: &str| {
        let name = "servicebus_scaler_management_operations_total{";
        exposition.lines().find(|line| line.starts_with(name) && line.contains(outcome)).map(ToOwned::to_owned)
    };
    assert!(line("\"ok\"").is_some(), "the good one was read");
    assert_eq!((line("unreachable"), line("unexpected")), (None, None), "nobody asked the namespace");
    assert!((stretch(&readings) - 1.0).abs() < f64::EPSILON);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_queues_with_a_revoked_key_do_not_starve_one_with_a_good_one() {
    let neighbours = Neighbours::with(ReadFailure::Unauthorized("no such key".to_owned()));
    let readings = readings(&neighbours);
    let ages = ages_beside(&readings, 1_000, Duration::from_secs(5)).await;
    // Where credits are short an older reading is given at once, and the next is wanted from then on.
    assert!(ages.iter().all(|age| *age <= 2 * FRESHNESS.cache_ttl), "{ages:?}");
    let wasted = neighbours.reads_of_the_bad.load(Ordering::SeqCst);
    assert!(wasted > 2_000, "what nobody else wants is theirs: {wasted} operations");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_looked_at_now_and_then_for_a_push_stream() {
    for trouble in [ReadFailure::NotFound("no such queue".to_owned()), ReadFailure::Unauthorized("no".to_owned())] {
        let neighbours = Neighbours::with(trouble);
        let readings = readings(&neighbours);
        let followed = readings.follow(&query("bad", "orders")).await;
        for _ in 0..60 {
            followed.look(Duration::from_millis(250), Duration::from_secs(1));
            followed.begin();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let reads = neighbours.reads_of_the_bad.load(Ordering::SeqCst);
        assert!((10..=13).contains(&reads), "{reads} reads in a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_went_away_stretches_nothing_any_more() {
    let readings = readings(&Neighbours::with(unreachable()));
    let asking = (0..100).map(|number| {
        let readings = &readings;
        async move { readings.newest(&query("good", &format!("queue-{number}")), FRESHNESS).await.is_ok() }
    });
    let answered = join_all(asking).await;
    assert!(answered.contains(&false), "there was enough for all");
    assert!(stretch(&readings) > 1.1, "{}", stretch(&readings));
    // Its entities are remembered, but nobody asks for them.
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert!((stretch(&readings) - 1.0).abs() < f64::EPSILON, "{}", stretch(&readings));
}
