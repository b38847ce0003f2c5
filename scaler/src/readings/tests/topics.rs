//! Subscriptions of many topics: short listings, which save together what none of them could alone.

use super::*;

const TOPICS: usize = 50;
const SUBSCRIPTIONS: usize = 10;

/// Every topic has the same subscriptions.
#[derive(Default)]
struct Topics {
    gets: AtomicUsize,
    pages: AtomicUsize,
}

impl Topics {
    fn operations(&self) -> usize {
        self.gets.load(Ordering::SeqCst) + self.pages.load(Ordering::SeqCst)
    }
}

impl Source for Topics {
    fn read<'a>(&'a self, _: &'a Access, _: &'a Entity) -> Read<'a, Observed> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(READ_TIME).map(|()| Ok(Observed::of_test(1))).boxed()
    }

    fn page<'a>(&'a self, _: &'a Access, _: &'a Listing, skip: usize) -> Read<'a, Page> {
        self.pages.fetch_add(1, Ordering::SeqCst);
        let entities =
            (skip..SUBSCRIPTIONS).map(|number| (format!("handler-{number}"), Observed::of_test(1))).collect();
        tokio::time::sleep(READ_TIME).map(|()| Ok(Page { entities, has_more: false })).boxed()
    }
}

fn subscription(number: usize) -> Query {
    let topic = format!("events-{}", number % TOPICS);
    let subscription = format!("handler-{}", number / TOPICS);
    Query { access: access("key"), target: Target::Entity(Entity::Subscription { topic, subscription }) }
}

/// Every subscription once in so many seconds, for so many rounds. Says what that cost, and how old readings were at most.
async fn poll(readings: &Readings, topics: &Topics, seconds: u64, rounds: u32) -> (usize, Duration) {
    let (begun, before) = (Instant::now(), topics.operations());
    let pollers = (0..TOPICS * SUBSCRIPTIONS).map(|number| async move {
        let period = Duration::from_secs(seconds);
        let phase = period.mul_f64((number * 7_919 % 10_007) as f64 / 10_007.0);
        let mut oldest = Duration::ZERO;
        for round in 0..rounds {
            tokio::time::sleep_until(begun + phase + period * round).await;
            let seen = readings.newest(&subscription(number), FRESHNESS).await.expect("it can be read");
            oldest = oldest.max(seen.age);
        }
        oldest
    });
    let oldest = join_all(pollers).await.into_iter().max().expect("many");
    (topics.operations() - before, oldest)
}

#[tokio::test(start_paused = true)]
async fn idle_subscriptions_of_many_topics_cost_half_of_single_reads() {
    let topics = Arc::new(Topics::default());
    let readings = readings_with(&topics, "creditsPerSecond: 1000");
    poll(&readings, &topics, 30, 2).await;
    let (spent, oldest) = poll(&readings, &topics, 30, 4).await;
    assert!(spent <= 1_000, "{spent} operations for 2,000 calls");
    assert!(oldest <= FRESHNESS.cache_ttl, "{oldest:?}");
}

#[tokio::test(start_paused = true)]
async fn busy_subscriptions_of_many_topics_cost_a_page_of_each_topic_in_each_ttl() {
    let topics = Arc::new(Topics::default());
    let readings = readings_with(&topics, "creditsPerSecond: 1000");
    poll(&readings, &topics, 10, 3).await;
    let (spent, oldest) = poll(&readings, &topics, 10, 6).await;
    assert!(spent <= TOPICS * 12 + TOPICS, "{spent} operations for 3,000 calls");
    assert!(oldest <= FRESHNESS.cache_ttl, "{oldest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cold_start_with_the_default_budget_refuses_few_and_all_are_read_in_the_end() {
    let topics = Arc::new(Topics::default());
    let readings = readings_with(&topics, "");
    // Five operations a second for 500 subscriptions that come within thirty: fifty topics before any neighbour is known.
    let refused = join_all((0..TOPICS * SUBSCRIPTIONS).map(|number| {
        let readings = readings.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(60) * (number * 7_919 % 500) as u32).await;
            readings.newest(&subscription(number), FRESHNESS).await.err()
        }
    }))
    .await;
    let refused: Vec<_> = refused.into_iter().flatten().collect();
    assert!(refused.iter().all(|failure| matches!(**failure, ReadFailure::OverBudget(_))), "{refused:?}");
    assert!(refused.len() <= 25, "{} of 500 were refused", refused.len());
    assert!(topics.operations() <= 20 + 5 * 33, "{} operations", topics.operations());
    let (_, oldest) = poll(&readings, &topics, 30, 1).await;
    assert!(oldest <= FRESHNESS.max_staleness, "{oldest:?}");
}
