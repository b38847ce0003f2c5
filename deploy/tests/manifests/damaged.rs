//! Damages the manifests in one place at a time; each damage must be noticed, by the check that is there for it.

use deploy::Manifests;
use serde_json::{Value, json};

use crate::fixture::{Scenario, overlay, root};
use crate::problems;

/// What is done to the value at a pointer.
enum Damage {
    Set(Value),
    Remove,
}

use Damage::{Remove, Set};

const SCALER: (&str, &str) = ("Deployment", "servicebus-scaler");
const RECEIVER: (&str, &str) = ("Deployment", "sb-queue-receiver");
const BROKER: (&str, &str) = ("Deployment", "broker");
const SCALED_OBJECT: (&str, &str) = ("ScaledObject", "sb-queue-receiver");
const SENDER: (&str, &str) = ("Job", "sb-queue-sender");
const SERVICE: (&str, &str) = ("Service", "servicebus-scaler");
const CONFIG: (&str, &str) = ("ConfigMap", "servicebus-scaler");

const FIRST_CONTAINER: &str = "/spec/template/spec/containers/0";
const METADATA: &str = "/spec/triggers/0/metadata";

#[test]
fn every_damage_is_noticed() {
    let pod = |field: &str| format!("/spec/template/spec/{field}");
    let container = |field: &str| format!("{FIRST_CONTAINER}/{field}");
    let metadata = |key: &str| format!("{METADATA}/{key}");
    let damages: Vec<((&str, &str), String, Damage, &str)> = vec![
        // Kubernetes' schema.
        (SCALER, container("readOnlyRootFilesystem"), Set(json!(true)), "is no field of Kubernetes"),
        (SCALER, pod("terminationGracePeriodSecond"), Set(json!(10)), "is no field of Kubernetes"),
        (SCALER, "/spec/replicas".into(), Set(json!("one")), "expected i32"),
        (SCALER, "/apiVersion".into(), Set(json!("apps/v1beta1")), "apps/v1beta1"),
        (SERVICE, "/spec/port".into(), Set(json!(6000)), "is no field of Kubernetes"),
        (SENDER, "/kind".into(), Set(json!("CronJob")), "no schema here for kind"),
        // The binaries.
        (SCALER, container("args/0"), Set(json!("server")), "no subcommand"),
        (SCALER, container("args/1"), Set(json!("--listening=0.0.0.0:6000")), "--listening"),
        (SCALER, container("args/1"), Set(json!("--listen=127.0.0.1:6000")), "nothing outside its pod reaches"),
        (SCALER, container("args/1"), Set(json!("--listen=0.0.0.0:6001")), "it listens on the ports {6001, 8080}"),
        (SCALER, container("args/2"), Set(json!("--admin-listen=127.0.0.1:8080")), "nothing outside its pod reaches"),
        (
            SCALER,
            container("args/3"),
            Set(json!("--config=/etc/other/config.yaml")),
            "nothing is mounted at /etc/other",
        ),
        (
            SCALER,
            container("args/3"),
            Set(json!("--config=/etc/servicebus-scaler/other.yaml")),
            "has no key other.yaml",
        ),
        (SCALER, container("volumeMounts/0/subPath"), Set(json!("config.yaml")), "subPath"),
        (SCALER, container("readinessProbe/httpGet/port"), Set(json!(6000)), "the readinessProbe does not ask"),
        (SCALER, container("livenessProbe"), Set(json!({"grpc": {"port": 6000}})), "the livenessProbe does not ask"),
        (SCALER, container("livenessProbe"), Remove, "not both a readinessProbe and a livenessProbe"),
        (CONFIG, "/data/config.yaml".into(), Set(json!("profile: {}")), "profile"),
        (CONFIG, "/data/config.yaml".into(), Set(json!("profiles: {gold: {policy: golden}}")), "golden"),
        (RECEIVER, container("env/1/name"), Set(json!("SERVICEBUS_QUEUE")), "reads no variable SERVICEBUS_QUEUE;"),
        (RECEIVER, container("env/2/value"), Set(json!("soon")), "soon"),
        (RECEIVER, container("env/0/valueFrom/secretKeyRef/key"), Set(json!("other")), "with the key other"),
        (RECEIVER, container("env/0/valueFrom/secretKeyRef/name"), Set(json!("other")), "no secret other"),
        (RECEIVER, container("command/0"), Set(json!("/receiver")), "there is no binary /receiver"),
        (RECEIVER, pod("terminationGracePeriodSeconds"), Set(json!(20)), "but is killed after 20 s"),
        (SENDER, container("envFrom/0/configMapRef/name"), Set(json!("other")), "no ConfigMap other"),
        (("ConfigMap", "sb-queue-sender"), "/data".into(), Set(json!({"NR_MESSAGES": "many"})), "many"),
        (BROKER, container("args/1"), Set(json!("127.0.0.1:5672")), "nothing outside its pod reaches"),
        // Locked down.
        (SCALER, container("securityContext/readOnlyRootFilesystem"), Set(json!(false)), "readOnlyRootFilesystem"),
        (SENDER, container("securityContext/capabilities/drop"), Set(json!([])), "capabilities/drop"),
        (SENDER, container("securityContext/capabilities/add"), Set(json!(["SYS_TIME"])), "adds capabilities"),
        (RECEIVER, pod("securityContext/runAsNonRoot"), Remove, "runAsNonRoot"),
        (RECEIVER, pod("securityContext/seccompProfile"), Remove, "seccompProfile"),
        (RECEIVER, container("resources/limits"), Remove, "resources/limits/memory"),
        (BROKER, pod("securityContext/runAsUser"), Set(json!(0)), "the image as"),
        // References.
        (SERVICE, "/spec/selector".into(), Set(json!({"app": "scaler"})), "picks the pods of 0 Deployments"),
        (SERVICE, "/spec/ports/0/targetPort".into(), Set(json!("http")), "has no port \"http\""),
        (SERVICE, "/spec/clusterIP".into(), Remove, "is not headless"),
        (SERVICE, "/metadata/namespace".into(), Set(json!("default")), "is in namespace Some(\"default\")"),
        (SCALER, "/spec/selector/matchLabels".into(), Set(json!({"app": "scaler"})), "does not pick its own pods"),
        (SCALER, pod("volumes/0/configMap/name"), Set(json!("other")), "no ConfigMap other to mount"),
        (("Namespace", "autoscale-demo"), "/metadata/name".into(), Set(json!("other")), "no Namespace autoscale-demo"),
        // KEDA's schema and rules.
        (SCALED_OBJECT, "/spec/pollingIntervall".into(), Set(json!(5)), "pollingIntervall"),
        (SCALED_OBJECT, "/spec/triggers/0/activationMessageCount".into(), Set(json!("0")), "activationMessageCount"),
        (SCALED_OBJECT, metadata("messageCount"), Set(json!(5)), "expected a string"),
        (SCALED_OBJECT, "/spec/idleReplicaCount".into(), Set(json!(0)), "idleReplicaCount"),
        (SCALED_OBJECT, "/spec/minReplicaCount".into(), Remove, "minReplicaCount must be 0"),
        (SCALED_OBJECT, "/spec/advanced".into(), Remove, "behavior must be written out"),
        (
            SCALED_OBJECT,
            "/spec/advanced/horizontalPodAutoscalerConfig/behavior/scaleUp/policies/0/periodSeconds".into(),
            Set(json!(3600)),
            "behavior must be written out",
        ),
        (SCALED_OBJECT, "/spec/triggers/0/type".into(), Set(json!("azure-servicebus")), "external or external-push"),
        (SCALED_OBJECT, "/spec/triggers/0/metricType".into(), Set(json!("Value")), "metricType must be AverageValue"),
        (SCALED_OBJECT, "/spec/scaleTargetRef/name".into(), Set(json!("other")), "no Deployment other to scale"),
        (RECEIVER, "/spec/replicas".into(), Set(json!(0)), "which is KEDA's to decide"),
        // `scaler check`.
        (SCALED_OBJECT, "/spec/cooldownPeriod".into(), Set(json!(5)), "is shorter than pollingInterval"),
        (SCALED_OBJECT, metadata("enableTLS"), Set(json!("yes")), "enableTLS"),
        // The scaler's own reading.
        (SCALED_OBJECT, metadata("messageCount"), Set(json!("0")), "messageCount"),
        (SCALED_OBJECT, metadata("queueName"), Remove, "queueName"),
        (SCALED_OBJECT, metadata("queueNam"), Set(json!("orders")), "queueName was probably meant"),
        (SCALED_OBJECT, metadata("activationMessageCount"), Set(json!("1")), "activationMessageCount must be 0"),
        (SCALED_OBJECT, metadata("connectionFromEnv"), Set(json!("CONNECTION")), "connectionFromEnv"),
        (SCALED_OBJECT, metadata("queueName"), Set(json!("other")), "which its target does not receive from"),
        (SCALED_OBJECT, metadata("policy"), Set(json!("golden")), "golden"),
        (SCALED_OBJECT, metadata("policyProfile"), Set(json!("silver")), "has no profile \"silver\""),
        (SCALED_OBJECT, metadata("scalerAddress"), Set(json!("scaler:6000")), "no Service for scaler"),
        (
            SCALED_OBJECT,
            metadata("scalerAddress"),
            Set(json!("servicebus-scaler.autoscale-demo.svc.cluster.local:9090")),
            "has no port 9090",
        ),
        (SENDER, container("env/1/value"), Set(json!("other")), "does not send to the queue"),
        (BROKER, container("args/3"), Set(json!("other")), "not \"orders\""),
        // The variable that the local overlay adds for the broker.
        (SCALER, container("env/1/value"), Set(json!("elsewhere:1")), "is not allowed"),
    ];
    let external = root().join("scaled-objects/external.yaml");
    for (of, pointer, damage, wanted) in damages {
        is_noticed(Scenario::read("local", &external).manifests, of, &pointer, damage, wanted);
    }
}

#[test]
fn every_damage_to_an_identity_is_noticed() {
    let config = |text: &str| Set(json!(format!("connections:\n  orders: {text}\n")));
    let ours = "/data/config.yaml";
    let identity = "workloadIdentity: {}, serviceBusNamespaces: [orders-prod]";
    let label = "/spec/template/metadata/labels/azure.workload.identity~1use";
    let client_id = "/metadata/annotations/azure.workload.identity~1client-id";
    let reference = format!("{METADATA}/connectionRef");
    let damages: Vec<((&str, &str), &str, Damage, &str)> = vec![
        (SCALER, "/spec/template/spec/serviceAccountName", Set(json!("other")), "no ServiceAccount other"),
        (SCALER, "/spec/template/spec/serviceAccountName", Remove, "has no serviceAccountName"),
        (SCALER, label, Remove, "is not labelled for the webhook"),
        (("ServiceAccount", "servicebus-scaler"), client_id, Remove, "has no azure.workload.identity/client-id"),
        (("ServiceAccount", "servicebus-scaler"), "/spec", Set(json!({})), "is no field of Kubernetes"),
        (SCALED_OBJECT, &reference, Set(json!("billing")), "\"billing\" is not in the config file"),
        (CONFIG, ours, config(&format!("{{allowedNamespaces: [shop], {identity}}}")), "in its allowedNamespaces"),
        (CONFIG, ours, config(&format!("{{{identity}}}")), "allowedNamespaces is missing"),
        (CONFIG, ours, config("{allowedNamespaces: [autoscale-demo], workloadIdentity: {}}"), "serviceBusNamespaces"),
    ];
    for (of, pointer, damage, wanted) in damages {
        is_noticed(overlay("azure-workload-identity"), of, pointer, damage, wanted);
    }
}

#[test]
fn every_damage_to_what_reaches_the_scaler_is_noticed() {
    let policy = ("NetworkPolicy", "servicebus-scaler");
    let rule = |number: usize, field: &str| format!("/spec/ingress/{number}/{field}");
    let damages: Vec<((&str, &str), String, Damage, &str)> = vec![
        (policy, "/spec/podSelectors".into(), Set(json!({})), "is no field of Kubernetes"),
        (
            policy,
            "/spec/podSelector/matchLabels".into(),
            Set(json!({"app": "scaler"})),
            "picks the pods of no Deployment",
        ),
        (policy, "/spec/ingress/1".into(), Set(json!({})), "opens {6000, 8080}"),
        (policy, rule(0, "ports/0/port"), Set(json!(6001)), "it admits to the ports {6001, 8080}"),
        (policy, rule(0, "ports"), Remove, "it admits to the ports {8080}"),
        (policy, rule(1, "ports"), Remove, "for named callers alone"),
        (policy, rule(0, "from"), Remove, "for named callers alone"),
        (policy, rule(0, "from/0/podSelector"), Remove, "for named callers alone"),
        (policy, rule(0, "from/0/namespaceSelector"), Remove, "for named callers alone"),
    ];
    for (of, pointer, damage, wanted) in damages {
        is_noticed(overlay("azure"), of, &pointer, damage, wanted);
    }
    let clear_text = Set(json!("kubernetes.io/h2c"));
    is_noticed(overlay("local-mtls"), SERVICE, "/spec/ports/0/appProtocol", clear_text, "but it speaks TLS");
}

fn is_noticed(mut manifests: Manifests, of: (&str, &str), pointer: &str, damage: Damage, wanted: &str) {
    apply(&mut manifests, of, pointer, damage);
    let found = problems(&manifests).join("\n");
    assert!(found.contains(wanted), "{of:?} {pointer}: {wanted:?} is not among the problems found:\n{found}");
}

#[test]
fn a_secret_whose_name_gets_a_hash_is_noticed() {
    let mut manifests = Scenario::read("azure", &root().join("scaled-objects/external.yaml")).manifests;
    for secret in &mut manifests.secrets {
        secret.has_fixed_name = false;
    }
    let found = problems(&manifests).join("\n");
    assert!(
        found.contains("Job sb-queue-sender, container sb-queue-sender: SERVICEBUS_CONNECTION_STR: no secret"),
        "{found}"
    );
}

fn apply(manifests: &mut Manifests, (kind, name): (&str, &str), pointer: &str, damage: Damage) {
    let document = manifests
        .documents
        .iter_mut()
        .find(|document| document.kind() == kind && document.name() == name)
        .unwrap_or_else(|| panic!("there is no {kind} {name} to damage"));
    let (parent, last) = pointer.rsplit_once('/').expect("a pointer begins with a slash");
    // RFC 6901's escape of a slash.
    let last = &last.replace("~1", "/");
    let parent = document.value.pointer_mut(parent).unwrap_or_else(|| panic!("{kind} {name} has no {parent}"));
    match (parent, damage) {
        (Value::Object(fields), Set(value)) => {
            fields.insert(last.clone(), value);
        }
        (Value::Object(fields), Remove) => {
            fields.remove(last).unwrap_or_else(|| panic!("{kind} {name} has no {pointer} to remove"));
        }
        (Value::Array(items), Set(value)) => {
            let index: usize = last.parse().expect("an index");
            items[index] = value;
        }
        (other, _) => panic!("{pointer}: cannot damage {other}"),
    }
}
