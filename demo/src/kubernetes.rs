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
        let quotient = format!("metric {value} / {target} each = {:.1}", value / target);
        if plain as u32 == self.replicas {
            quotient
        } else {
            format!("{quotient}; limits and stabilization make it {}", self.replicas)
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;
    use std::time::Duration;

    fn outcome(value: f64, active: bool, replicas: u32, change: Option<(u32, Actor)>) -> Outcome {
        let change = change.map(|(from, by)| Change { from, to: replicas, by, why: "its own reason".to_owned() });
        Outcome { step: Step::Sync, answers: Ok(Answers { target: 40.0, value, active }), replicas, change }
    }

    #[test]
    fn the_flags_shorten_kubernetes_periods_and_keep_its_rates() {
        let args = crate::Args::parse_from(["demo", "--hpa-sync-period=3", "--stabilization-window=7"]).run;
        let (spec, defaults) = (spec(&args), Behavior::default());
        spec.validate().expect("a spec that Kubernetes would take");
        assert_eq!((spec.min_replicas, spec.max_replicas), (0, 8));
        assert_eq!(spec.sync_interval, Duration::from_secs(3));
        let Behavior { scale_up, scale_down } = spec.behavior;
        assert_eq!(scale_down.stabilization_window, Duration::from_secs(7));
        assert_eq!(scale_up.stabilization_window, Duration::ZERO);
        for (ours, theirs) in [(scale_up, defaults.scale_up), (scale_down, defaults.scale_down)] {
            assert_eq!(ours.select, theirs.select);
            assert!(ours.policies.iter().all(|policy| policy.period() == Duration::from_secs(3)));
            let fifteen = Duration::from_secs(15);
            assert_eq!(with_period(ours, fifteen).policies, theirs.policies, "only the periods differ");
        }
    }

    #[test]
    fn every_outcome_says_what_and_why() {
        for (outcome, decision, why) in [
            (outcome(592.0, true, 5, Some((1, Actor::Hpa))), "HPA: 1 → 5", "592 / 40 each = 14.8; limits and"),
            (outcome(110.0, true, 3, Some((5, Actor::Hpa))), "HPA: 5 → 3", "metric 110 / 40 each = 2.8"),
            (outcome(0.0, false, 0, Some((1, Actor::Keda))), "KEDA: 1 → 0", "its own reason"),
            (outcome(320.0, true, 8, None), "HPA: keeps 8", "each = 8.0"),
            (outcome(0.0, false, 2, None), "HPA: keeps 2", "cooldown"),
            (outcome(0.0, false, 0, None), "HPA: keeps 0", "nothing to do"),
        ] {
            assert!(outcome.decision().starts_with(decision), "{}", outcome.decision());
            assert!(outcome.why().contains(why), "{}", outcome.why());
            assert!(outcome.answer().contains("GetMetricSpec target 40"), "{}", outcome.answer());
        }
        let held = Outcome { answers: Err("UNAVAILABLE: away".to_owned()), ..outcome(0.0, true, 4, None) };
        assert_eq!(
            (held.answer().as_str(), held.why().as_str()),
            ("UNAVAILABLE: away", "no answer: replicas are held")
        );
    }
}
