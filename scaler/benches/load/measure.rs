//! As many calls as go through, and how calls and their times are summed up.

use std::time::{Duration, Instant};

use anyhow::ensure;
use externalscaler::GetMetricsRequest;
use futures_util::future::try_join_all;

use crate::paced::Client;

/// Calls a second, turn by turn.
#[derive(Default)]
pub(crate) struct Turns(Vec<f64>);

impl Turns {
    pub(crate) fn add(&mut self, calls_a_second: f64) {
        self.0.push(calls_a_second);
    }

    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// How long calls took, the shortest first.
#[derive(Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn add(&mut self, more: Vec<Duration>) {
        self.0.extend(more);
        self.0.sort_unstable();
    }

    /// Such a share of the calls took this long at most.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let index = ((self.0.len() as f64 * share).ceil() as usize).clamp(1, self.0.len()) - 1;
        self.0[index]
    }
}

/// Calls a second, with so many in flight all the time.
pub(crate) async fn saturated(
    client: &Client,
    requests: &[GetMetricsRequest],
    in_flight: usize,
    length: Duration,
) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let lanes = (0..in_flight).map(|lane| {
        let mut client = client.clone();
        async move {
            let mut calls = 0_usize;
            // Each lane goes its own way through all of them.
            let mut requests = requests.iter().cycle().skip(lane * requests.len() / in_flight);
            while begun.elapsed() < length {
                let request = requests.next().expect("there is at least one").clone();
                let answer = client.get_metrics(request).await?.into_inner();
                ensure!(answer.metric_values.len() == 1, "one value expected, got {answer:?}");
                calls += 1;
            }
            Ok(calls)
        }
    });
    let calls: usize = try_join_all(lanes).await?.into_iter().sum();
    Ok(calls as f64 / begun.elapsed().as_secs_f64())
}
