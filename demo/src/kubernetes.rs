//! KEDA and the HPA in real time: asks the scaler when `crates/autoscaler` says so, and passes on what it decides.
//!
//! Owns the autoscaler. It makes the three calls in KEDA's order and turns a failed call into "no answer", upon which
//! replicas are held, as KEDA does. It starts and stops nothing.

use std::time::Instant;

use autoscaler::{Actor, Answers, Autoscaler, Behavior, CALLS, Call, Change, Rules, ScalingPolicy, Select, Spec, Step};
use tokio::sync::mpsc;

use crate::args::RunArgs;
use crate::scaler_client::ScalerClient;

/// What one step came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Whose step it was.
    pub step: Step,
    /// What the scaler answered, or why there is no answer.
    pub answers: Result<Answers, String>,
    /// Replicas from now on.
    pub replicas: u32,
    /// The change, if there is one.
    pub change: Option<Change>,
}

/// The `ScaledObject` and HPA that the flags describe: Kubernetes' default behavior with shorter periods.
pub fn spec(args: &RunArgs) -> Spec {
    let period = args.hpa_sync_period.0;
    let defaults = Spec::default();
    Spec {
        polling_interval: args.polling_interval.0,
        cooldown_period: args.cooldown_period.0,
        min_replicas: 0,
        max_replicas: args.max_replicas,
        sync_interval: period,
        tolerance: defaults.tolerance,
        behavior: Behavior {
            scale_up: with_period(defaults.behavior.scale_up, period),
            scale_down: Rules {
                stabilization_window: args.stabilization_window.0,
                select: Select::Max,
                ..with_period(defaults.behavior.scale_down, period)
            },
        },
    }
}

fn with_period(mut rules: Rules, new: std::time::Duration) -> Rules {
    for policy in &mut rules.policies {
        match policy {
            ScalingPolicy::Pods { period, .. } | ScalingPolicy::Percent { period, .. } => *period = new,
        }
    }
    rules
}

/// Starts KEDA and the HPA, now. They stop when the receiver is dropped.
pub fn start(client: ScalerClient, spec: Spec) -> anyhow::Result<mpsc::Receiver<Outcome>> {
    let began = Instant::now();
    let autoscaler = Autoscaler::new(spec, began.elapsed())?;
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        tokio::select! {
            () = drive(client, autoscaler, began, &sender) => {}
            () = sender.closed() => {}
        }
    });
    Ok(receiver)
}

async fn drive(client: ScalerClient, mut autoscaler: Autoscaler, began: Instant, outcomes: &mpsc::Sender<Outcome>) {
    loop {
        tokio::time::sleep_until((began + autoscaler.next_due()).into()).await;
        while let Some(step) = autoscaler.due(began.elapsed()) {
            let answers = ask(&client).await.map_err(|error| format!("{error:#}"));
            let change = autoscaler.answer(step, answers.clone().ok(), began.elapsed());
            let outcome = Outcome { step, answers, replicas: autoscaler.replicas(), change };
            if outcomes.send(outcome).await.is_err() {
                return;
            }
        }
    }
}

/// The calls that every step makes, in KEDA's order; the first error ends them.
async fn ask(client: &ScalerClient) -> anyhow::Result<Answers> {
    let mut name = String::new();
    let mut answers = Answers { target: 0.0, value: 0.0, active: false };
    for call in CALLS {
        match call {
            Call::MetricSpec => (name, answers.target) = client.metric_spec().await?,
            Call::Metrics => answers.value = client.metrics(&name).await?,
            Call::IsActive => answers.active = client.is_active().await?,
        }
    }
    Ok(answers)
}

impl Outcome {
    /// What was decided, in one line.
    pub fn decision(&self) -> String {
        match (&self.change, self.step) {
            (Some(Change { from, to, by, .. }), _) => {
                let by = match by {
                    Actor::Keda => "KEDA",
                    Actor::Hpa => "HPA",
                };
                format!("{by}: {from} → {to} replicas")
            }
            (None, Step::Poll) => format!("KEDA: keeps {} replicas", self.replicas),
            (None, Step::Sync) => format!("HPA: keeps {} replicas", self.replicas),
        }
    }

    /// Why, in one line.
    pub fn why(&self) -> String {
        let Ok(Answers { target, value, active }) = self.answers else {
            return "no answer: replicas are held".to_owned();
        };
        match &self.change {
            Some(Change { by: Actor::Keda, why, .. }) => return why.clone(),
            None if self.replicas == 0 => return "nothing to do".to_owned(),
            None if !active => return "inactive, but the cooldown period is not over".to_owned(),
            Some(_) | None => {}
        }
        let plain = (value / target).ceil();
        let quotient = format!("metric {value} / {target} for each replica = {:.1}", value / target);
        if plain as u32 == self.replicas {
            quotient
        } else {
            format!("{quotient}, which limits and stabilization make {}", self.replicas)
        }
    }

    /// What the scaler answered, in one line.
    pub fn answer(&self) -> String {
        match &self.answers {
            Ok(Answers { target, value, active }) => {
                format!("GetMetricSpec target {target}, GetMetrics {value}, IsActive {active}")
            }
            Err(problem) => problem.clone(),
        }
    }
}
