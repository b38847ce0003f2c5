//! Calls at a fixed rate, as long as it takes: a file of its own because both benchmarks make them, each by `#[path]`.
//!
//! Each call is timed from when it was due, so one that waits behind others counts its wait.

use std::time::Duration;

use externalscaler::GetMetricsRequest;
use externalscaler::external_scaler_client::ExternalScalerClient;
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// A client of the contract.
pub(crate) type Client = ExternalScalerClient<Channel>;

/// How long so many calls a second took, for so long; the requests are made in turn.
pub(crate) async fn paced(
    client: &Client,
    requests: &[GetMetricsRequest],
    rate: u32,
    length: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let period = Duration::from_secs(1) / rate;
    let begun = tokio::time::Instant::now();
    let calls = (length.as_secs_f64() * f64::from(rate)) as u32;
    let mut answers = JoinSet::new();
    for (number, request) in (0..calls).zip(requests.iter().cycle()) {
        let due = begun + period * number;
        // Timers have a millisecond: calls due within the same one start together.
        tokio::time::sleep_until(due).await;
        let (mut client, request) = (client.clone(), request.clone());
        answers.spawn(async move { client.get_metrics(request).await.map(|_| due.elapsed()) });
    }
    Ok(answers.join_all().await.into_iter().collect::<Result<_, _>>()?)
}
