//! What is run: each scenario names its manifests, what its broker holds, what is sent where, and what goes wrong
//! meanwhile. Data only; [`crate::story`] plays it.

use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;

use crate::manifests::{self, Folder};

/// Long enough to send, and for a push to arrive, between two polls.
const PUSH_INTERVAL: Duration = Duration::from_secs(60);

/// One scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// KEDA polls
    External,
    /// KEDA polls, and the scaler pushes activity
    ExternalPush,
    /// KEDA polls, and the policy is another one
    Weighted,
    /// A subscription of a topic
    Subscription,
    /// Two of our triggers in one ScaledObject
    TwoTriggers,
    /// external-push over TLS with certificates on both sides, from a ClusterTriggerAuthentication
    Mtls,
    /// Jobs instead of replicas
    ScaledJob,
    /// The scaler is killed while workers are busy, and started again 40 s later
    ScalerRestart,
    /// The namespace throttles everything for two minutes while workers are busy
    Throttled,
    /// As throttled, with a fallback that KEDA must reach
    Fallback,
}

/// What goes wrong while the workers are busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// The scaler is killed; after so many seconds it is back at the same address.
    ScalerAway {
        /// For how long.
        seconds: u64,
    },
    /// Every administration request is answered by 429.
    Throttled {
        /// For how long.
        seconds: u64,
    },
}

/// What a scenario is made of.
pub struct Setting {
    /// Applied in this order.
    pub objects: Vec<Value>,
    /// What is watched: the Deployment of this name, or Jobs.
    pub target: Target,
    /// The workers' pods.
    pub pod_label: String,
    /// The broker's flags for its entities.
    pub entities: Vec<String>,
    /// The sender's flags for where to send; each gets all messages' share.
    pub destinations: Vec<[&'static str; 2]>,
    /// Whether KEDA and the scaler speak TLS with certificates on both sides.
    pub mtls: bool,
    /// Set where the first replica must come by a push: how rarely KEDA polls then, so that no poll can be taken for one.
    pub push_interval: Option<Duration>,
    /// What goes wrong.
    pub disturbance: Option<Disturbance>,
    /// The fallback's replicas, which must be reached during the disturbance.
    pub fallback_replicas: Option<i32>,
    /// Times the messages that a quiet scenario gets, so that there is work for as long as the disturbance lasts.
    pub load: u32,
}

/// What KEDA scales.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A Deployment, by name.
    Deployment(String),
    /// The Jobs of a ScaledJob, by its name.
    Jobs(String),
}

impl Scenario {
    /// Its manifests, changed where a run on this host must differ.
    pub fn setting(self, folder: &Folder, scaler: &str) -> anyhow::Result<Setting> {
        let plain = |file: &str| -> anyhow::Result<Setting> {
            let scaled_object = manifests::scaled_object(folder, &format!("scaled-objects/{file}"), scaler)?;
            Ok(Setting {
                objects: vec![manifests::receiver(folder)?, scaled_object],
                target: Target::Deployment(manifests::RECEIVER.to_owned()),
                pod_label: format!("app.kubernetes.io/name={}", manifests::RECEIVER),
                entities: vec!["--queue".into(), manifests::QUEUE.into()],
                destinations: vec![["--queue", manifests::QUEUE]],
                mtls: false,
                push_interval: None,
                disturbance: None,
                fallback_replicas: None,
                load: 1,
            })
        };
        let push = || -> anyhow::Result<Setting> {
            let mut setting = plain("external-push.yaml")?;
            manifests::poll_every(&mut setting.objects, PUSH_INTERVAL)?;
            Ok(Setting { push_interval: Some(PUSH_INTERVAL), ..setting })
        };
        let example = |file: &str| -> anyhow::Result<Setting> {
            let objects = manifests::example(folder, file, scaler)?;
            let (kind, name) = manifests::scaled(&objects)?;
            let target =
                if kind == "ScaledJob" { Target::Jobs(name.clone()) } else { Target::Deployment(name.clone()) };
            let pod_label = format!("app.kubernetes.io/name={name}");
            Ok(Setting { objects, target, pod_label, ..plain("external.yaml")? })
        };
        Ok(match self {
            Self::External => plain("external.yaml")?,
            Self::ExternalPush => push()?,
            Self::Weighted => plain("weighted.yaml")?,
            Self::Subscription => Setting {
                entities: ["--topic", "events", "--subscription", "events/billing"].map(str::to_owned).to_vec(),
                destinations: vec![["--topic", "events"]],
                ..example("subscription.yaml")?
            },
            Self::TwoTriggers => Setting {
                entities: ["--queue", "orders", "--queue", "refunds"].map(str::to_owned).to_vec(),
                destinations: vec![["--queue", "orders"], ["--queue", "refunds"]],
                ..example("two-triggers.yaml")?
            },
            Self::Mtls => {
                let mut setting = push()?;
                let patch = folder.read("components/mtls/scaled-object-tls.yaml")?;
                let authentication = folder.read(manifests::AUTHENTICATION)?;
                manifests::patch_scaled_object(&mut setting.objects, &patch)?;
                setting.objects.splice(0..0, authentication);
                Setting { mtls: true, ..setting }
            }
            Self::ScaledJob => example("scaled-job.yaml")?,
            Self::ScalerRestart => Setting {
                disturbance: Some(Disturbance::ScalerAway { seconds: 40 }),
                load: 4,
                ..plain("external.yaml")?
            },
            Self::Throttled => Setting {
                disturbance: Some(Disturbance::Throttled { seconds: 120 }),
                load: 7,
                ..plain("external.yaml")?
            },
            Self::Fallback => Setting {
                disturbance: Some(Disturbance::Throttled { seconds: 200 }),
                fallback_replicas: Some(4),
                load: 7,
                ..example("fallback.yaml")?
            },
        })
    }
}
