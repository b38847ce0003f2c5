//! One mistake at a time in a `ScaledObject` that is fine otherwise: what is said, how badly, and on which line.

use super::*;

const SCALED_OBJECT: &str = "\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: receiver
  namespace: shop
spec:
  scaleTargetRef: {name: receiver}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior: {scaleDown: {stabilizationWindowSeconds: 60}}
  minReplicaCount: 0
  maxReplicaCount: 10
  pollingInterval: 15
  cooldownPeriod: 60
  triggers:
  - type: external
    metricType: AverageValue
    metadata:
      scalerAddress: scaler:6000
      queueName: orders
      connectionFromEnv: CONNECTION
";
const CONFIG: &str = "
cacheTtlBoundsSeconds: {min: 2, max: 60}
connections:
  own:
    allowedNamespaces: [shop]
    connectionStringFile: /secrets/own
  identity:
    allowedNamespaces: [shop]
    workloadIdentity: {}
    serviceBusNamespaces: [orders-prod, orders-test]
  others:
    allowedNamespaces: [bank]
    connectionStringFile: /secrets/others
profiles:
  gold: {policy: weighted, weights: active=1}
  plain: {policy: messageCount}
";

fn findings(text: &str, config: Option<&Config>) -> Vec<String> {
    let objects = objects(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let checked = check(&[(Path::new("f"), objects)], config, DEFAULT_NAMESPACE);
    checked.findings.iter().map(ToString::to_string).collect()
}

/// The one finding about the object after this change to it.
fn said(old: &str, new: &str, config: Option<&Config>) -> String {
    assert!(SCALED_OBJECT.contains(old), "{old}");
    let findings = findings(&SCALED_OBJECT.replacen(old, new, 1), config);
    let [finding] = &findings[..] else { panic!("one finding expected for {new:?}, got {findings:#?}") };
    finding.clone()
}

const METADATA: &str = "      queueName: orders\n      connectionFromEnv: CONNECTION\n";
const ABOUT_TRIGGER: &str = "ScaledObject shop/receiver, trigger 0: ";

#[test]
fn a_good_object_gets_no_word() {
    assert_eq!(findings(SCALED_OBJECT, None), Vec::<String>::new());
    let config = Config::parse(CONFIG).expect("a good config file");
    assert_eq!(findings(SCALED_OBJECT, Some(&config)), Vec::<String>::new());
}

#[test]
fn mistakes_in_metadata_are_named_with_their_line() {
    for (old, new, expected) in [
        (
            "queueName: orders",
            "queueName: a b",
            "f:20: error: TRIGGERmetadata queueName: \"a b\" is not the name of a queue",
        ),
        ("queueName: orders", "queue_name: orders", "f:20: error: TRIGGERmetadata queueName is missing"),
        (METADATA, "      queueName: orders\n", "f:18: error: TRIGGERmetadata connectionFromEnv is missing"),
        (
            METADATA,
            "      queueName: orders\n      namespace: prod\n",
            "f:21: error: TRIGGERmetadata namespace: \"prod\" needs connectionRef",
        ),
        (
            METADATA,
            "      queueName: orders\n      connection: x\n",
            "f:21: error: TRIGGERmetadata connection is refused",
        ),
        (
            "queueName: orders",
            "queueName: orders\n      messageCount: 5",
            "f:21: error: TRIGGERmetadata messageCount must be a string in Kubernetes; put 5 in quotes",
        ),
        (
            "queueName: orders",
            "queueName: orders\n      messagecount: '5'",
            "f:21: warning: TRIGGERmetadata messagecount is ignored: this scaler knows no such key; messageCount was probably meant",
        ),
        ("queueName: orders", "queueName: orders\n      policy:", "f:21: error: TRIGGERmetadata policy has no value"),
        (
            "queueName: orders",
            "queueName: '('\n      useRegex: 'true'",
            "f:20: error: TRIGGERmetadata queueName: \"(\" is not a pattern",
        ),
        (
            "queueName: orders",
            "queueName: orders\n      activationMessageCount: '1'",
            "f:21: warning: TRIGGERmetadata activationMessageCount: active means strictly more",
        ),
        ("      scalerAddress: scaler:6000\n", "", "f:16: error: TRIGGERmetadata scalerAddress is missing"),
        ("scaler:6000", "scaler", "f:19: warning: TRIGGERmetadata scalerAddress: \"scaler\" names no port"),
        (
            "scaler:6000",
            "scaler:6000\n      enableTLS: 'yes'",
            "f:20: error: TRIGGERmetadata enableTLS: \"yes\" is not true or false",
        ),
        (
            "queueName: orders",
            "queueName: orders\n      cacheTtl: 20s",
            "f:16: warning: TRIGGERmetadata cacheTtl: 20 s is longer than pollingInterval, 15 s",
        ),
    ] {
        let said = said(old, new, None);
        let expected = expected.replace("TRIGGER", ABOUT_TRIGGER);
        assert!(said.starts_with(&expected), "{said}\nis not\n{expected}…");
    }
}

#[test]
fn a_secret_is_refused_wherever_it_stands_and_not_repeated() {
    let secret = "'Endpoint=sb://n.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey=s3cr3t'";
    let lower = secret.to_ascii_lowercase();
    let blank = secret.replace("AccessKey=", "AccessKey =");
    for (key, value) in [
        ("connectionFromEnv", secret),
        ("otherFromEnv", "'s3cr3t;x'"),
        ("queueName", &lower),
        ("enableTLS", &blank),
        ("scalerAddress", "SharedAccessSignature sr=x&sig=s3cr3t"),
        ("Connection", "s3cr3t"),
    ] {
        let mut metadata = vec![("scalerAddress", "scaler:6000"), ("queueName", "orders"), ("connectionFromEnv", "C")];
        metadata.retain(|(other, _)| *other != key);
        metadata.push((key, value));
        let lines: Vec<_> = metadata.iter().map(|(key, value)| format!("      {key}: {value}\n")).collect();
        let metadata = lines.concat();
        let (before, _) = SCALED_OBJECT.split_once("      scalerAddress").expect("its metadata");
        // With its target, too, which has no such variable.
        let deployment = "---\nkind: Deployment\nmetadata: {name: receiver, namespace: shop}\nspec:\n  template:\n    spec:\n      \
                          containers: [{name: main, env: [{name: C, value: x}]}]\n";
        for more in ["", deployment] {
            let findings = findings(&format!("{before}{metadata}{more}"), None);
            let [finding] = &findings[..] else { panic!("one finding expected for {key}, got {findings:#?}") };
            assert!(finding.contains(&format!("error: {ABOUT_TRIGGER}metadata {key} is refused")), "{finding}");
            assert!(!finding.contains("s3cr3t"), "{finding}");
        }
    }
}

#[test]
fn keys_beside_the_metadata_are_checked() {
    let average = "metricType: AverageValue";
    let weighted = "      queueName: orders\n      connectionFromEnv: CONNECTION\n      policy: weighted\n";
    for (old, new, expected) in [
        (average, "metricType: Utilization", "f:17: error: TRIGGERmetricType: KEDA refuses Utilization"),
        (average, "metricType: average", "f:17: error: TRIGGERmetricType: \"average\" is not AverageValue or Value"),
        (average, "useCachedMetrics: true", "f:17: note: TRIGGERuseCachedMetrics: the HPA sees"),
        (
            average,
            "authenticationRef: {name: sb}",
            "f:17: warning: TRIGGERauthenticationRef \"sb\": KEDA forwards nothing",
        ),
    ] {
        let said = said(old, new, None);
        let expected = expected.replace("TRIGGER", ABOUT_TRIGGER);
        assert!(said.starts_with(&expected), "{said}\nis not\n{expected}…");
    }
    let value = SCALED_OBJECT.replace(average, "metricType: Value");
    assert_eq!(findings(&value, None), Vec::<String>::new(), "the default policy can do it");
    let text = findings(&value.replace(METADATA, weighted), None).concat();
    assert!(
        text.contains("error") && text.contains("Value works with policy messageCount alone, not with weighted"),
        "{text}"
    );
}

#[test]
fn what_kedas_object_says_is_checked() {
    for (old, new, expected) in [
        (
            "minReplicaCount: 0",
            "idleReplicaCount: 0",
            "f:11: error: ScaledObject shop/receiver: idleReplicaCount 0 is not less than minReplicaCount 0",
        ),
        (
            "minReplicaCount: 0",
            "minReplicaCount: 0\n  idleReplicaCount: 1",
            "f:12: error: ScaledObject shop/receiver: idleReplicaCount 1 is not less than minReplicaCount 0",
        ),
        // KEDA takes it: its CheckReplicaCountBoundsAreValid compares with the HPA's minimum, which is 1.
        (
            "minReplicaCount: 0",
            "minReplicaCount: 0\n  idleReplicaCount: 0",
            "f:12: warning: ScaledObject shop/receiver: idleReplicaCount 0 has no effect",
        ),
        (
            "minReplicaCount: 0",
            "minReplicaCount: 11",
            "f:11: error: ScaledObject shop/receiver: minReplicaCount 11 is more than",
        ),
        (
            "minReplicaCount: 0",
            "minReplicaCount: 3\n  idleReplicaCount: 2",
            "f:12: warning: ScaledObject shop/receiver: idleReplicaCount 2: KEDA supports 0 alone",
        ),
        ("pollingInterval: 15", "pollingInterval: 0", "f:13: error: ScaledObject shop/receiver: pollingInterval 0"),
        (
            "cooldownPeriod: 60",
            "cooldownPeriod: 5",
            "f:14: warning: ScaledObject shop/receiver: cooldownPeriod 5 is shorter than pollingInterval 15",
        ),
        (
            "pollingInterval: 15\n  cooldownPeriod: 60",
            "pollingInterval: 240",
            "f:13: warning: ScaledObject shop/receiver: pollingInterval 240: the first message waits",
        ),
        (
            "cooldownPeriod: 60",
            "fallback: {failureThreshold: 3, replicas: -1}",
            "f:14: error: ScaledObject shop/receiver: fallback.replicas must be",
        ),
        (
            "cooldownPeriod: 60",
            "fallback:\n    failureThreshold: 3\n    replicas: 0",
            "f:16: warning: ScaledObject shop/receiver: fallback.replicas 0 with minReplicaCount 0: while the triggers fail",
        ),
        (
            "  minReplicaCount: 0\n",
            "  fallback: {failureThreshold: 3, replicas: 0}\n",
            "f:11: warning: ScaledObject shop/receiver: fallback.replicas 0 with minReplicaCount 0:",
        ),
        (
            "minReplicaCount: 0",
            "fallback: {failureThreshold: 3, replicas: 0}\n  minReplicaCount: 2\n  idleReplicaCount: 0",
            "f:11: warning: ScaledObject shop/receiver: fallback.replicas 0 with idleReplicaCount 0:",
        ),
        (
            "      behavior: {scaleDown: {stabilizationWindowSeconds: 60}}\n",
            "",
            "f:6: warning: ScaledObject shop/receiver: spec.advanced.horizontalPodAutoscalerConfig.behavior is missing",
        ),
        ("  name: receiver\n", "", "f:1: error: ScaledObject shop/: metadata.name is missing"),
    ] {
        let said = said(old, new, None);
        assert!(said.starts_with(expected), "{said}\nis not\n{expected}…");
    }
    for good in [
        "minReplicaCount: 0\n  fallback: {failureThreshold: 3, replicas: 1}",
        "minReplicaCount: 1\n  fallback: {failureThreshold: 3, replicas: 0}",
    ] {
        assert_eq!(findings(&SCALED_OBJECT.replacen("minReplicaCount: 0", good, 1), None), Vec::<String>::new());
    }
}

#[test]
fn the_config_file_is_asked_where_there_is_one() {
    let config = Config::parse(CONFIG).expect("a good config file");
    let by = |pairs: &str| format!("      queueName: orders\n      {pairs}\n");
    for (pairs, expected) in [
        (
            "connectionRef: nobody",
            "f:21: error: TRIGGERmetadata connectionRef: \"nobody\" is not in the config file; known there: identity, others, own",
        ),
        (
            "connectionRef: others",
            "f:21: error: TRIGGERmetadata connectionRef: connection \"others\" does not list Kubernetes namespace \"shop\"",
        ),
        (
            "connectionRef: identity",
            "f:21: error: TRIGGERmetadata namespace is missing: connection \"identity\" is for more",
        ),
        (
            "connectionRef: identity\n      namespace: bank",
            "f:22: error: TRIGGERmetadata namespace: connection \"identity\" does not list \"bank\"",
        ),
        (
            "connectionRef: identity\n      namespace: orders-prod\n      cloud: AzureChinaCloud",
            "f:23: error: TRIGGERmetadata cloud: connection \"identity\" is for namespaces of servicebus.windows.net",
        ),
        (
            "connectionFromEnv: C\n      policyProfile: silver",
            "f:22: error: TRIGGERmetadata policyProfile: \"silver\" is not in the scaler's config file; known there: gold, plain",
        ),
        (
            "connectionFromEnv: C\n      cacheTtl: 1s",
            "f:22: error: TRIGGERmetadata cacheTtl: 1s is not between 2s and 60s",
        ),
    ] {
        let said = said(METADATA, &by(pairs), Some(&config));
        let expected = expected.replace("TRIGGER", ABOUT_TRIGGER);
        assert!(said.starts_with(&expected), "{said}\nis not\n{expected}…");
    }
    for good in ["connectionRef: own", "connectionRef: identity\n      namespace: Orders-Prod"] {
        assert_eq!(findings(&SCALED_OBJECT.replace(METADATA, &by(good)), Some(&config)), Vec::<String>::new());
    }
    let value = SCALED_OBJECT.replace("AverageValue", "Value");
    let profile =
        |name: &str| value.replace(METADATA, &by(&format!("connectionFromEnv: C\n      policyProfile: {name}")));
    assert_eq!(findings(&profile("plain"), Some(&config)), Vec::<String>::new());
    assert!(findings(&profile("gold"), Some(&config)).concat().contains("error"));
    assert!(findings(&profile("gold"), None).concat().contains("warning"), "which policy it is, nobody says");
}

#[test]
fn other_objects_of_the_files_are_looked_into() {
    let deployment = "---\nkind: Deployment\nmetadata: {name: receiver, namespace: shop}\nspec:\n  template:\n    spec:\n      \
                      containers:\n      - name: main\n        env: [{name: OTHER, value: x}]\n";
    let text = findings(&format!("{SCALED_OBJECT}{deployment}"), None).concat();
    assert!(
        text.contains("f:21: error")
            && text.contains("container \"main\" of Deployment receiver has no variable \"CONNECTION\""),
        "{text}"
    );
    let with_it = deployment.replace("OTHER", "CONNECTION");
    assert_eq!(findings(&format!("{SCALED_OBJECT}{with_it}"), None), Vec::<String>::new());

    let object = SCALED_OBJECT.replace("{name: receiver}", "{name: receiver, envSourceContainerName: side}");
    let whole = with_it.replace("spec:\n  template", "spec:\n  selector: {matchLabels: {a: b}}\n  template");
    let text = findings(&format!("{object}{whole}"), None).concat();
    assert!(
        text.starts_with("f:7: error: ScaledObject shop/receiver: envSourceContainerName: Deployment receiver has no"),
        "{text}"
    );
    assert_eq!(findings(&format!("{object}{with_it}"), None), Vec::<String>::new(), "it may be a patch");
    assert_eq!(findings(&format!("{object}{}", whole.replace("main", "side")), None), Vec::<String>::new());

    let authentication = "---\nkind: TriggerAuthentication\nmetadata: {name: sb, namespace: shop}\nspec:\n  secretTargetRef:\n  \
                          - {parameter: PARAMETER, name: s, key: k}\n";
    let by = SCALED_OBJECT.replace("    metricType: AverageValue\n", "    authenticationRef: {name: sb}\n");
    let with = |parameter: &str| findings(&format!("{by}{}", authentication.replace("PARAMETER", parameter)), None);
    assert!(with("connection").concat().contains("its connection has no effect"));
    assert_eq!(with("caCert"), Vec::<String>::new());
}

#[test]
fn two_triggers_that_count_the_same_are_noticed() {
    let again = |queue: &str| {
        let trigger = format!(
            "  - type: external-push\n    metadata: {{scalerAddress: 'scaler:6000', queueName: {queue}, connectionFromEnv: CONNECTION}}\n"
        );
        findings(&format!("{SCALED_OBJECT}{trigger}"), None)
    };
    assert_eq!(again("refunds"), Vec::<String>::new());
    let text = again("ORDERS").concat();
    assert!(
        text.starts_with("f:22: warning: ScaledObject shop/receiver, trigger 1: it counts the same as trigger 0"),
        "{text}"
    );
}

#[test]
fn triggers_have_names_of_their_own() {
    let named = SCALED_OBJECT.replace("  - type: external\n", "  - type: external\n    name: one\n");
    let with = |name: &str| {
        findings(&format!("{named}  - {{type: cron, name: {name}, metadata: {{start: '0 8 * * *'}}}}\n"), None)
    };
    assert_eq!(with("two"), Vec::<String>::new());
    let expected = "f:23: error: ScaledObject shop/receiver, trigger 1: name: \"one\" is another trigger's already";
    assert!(with("one").concat().starts_with(expected), "{:?}", with("one"));
}

#[test]
fn jobs_have_rules_of_their_own() {
    let job = SCALED_OBJECT.replace("ScaledObject", "ScaledJob").replace("  minReplicaCount: 0\n", "  fallback: {}\n");
    let text = findings(&job, None).join("\n");
    for expected in ["metricType: KEDA refuses one in a ScaledJob", "a ScaledJob has no fallback"] {
        assert!(text.contains(expected), "{text}");
    }
    assert!(!text.contains("behavior"), "{text}");
    let least = SCALED_OBJECT
        .replace("ScaledObject", "ScaledJob")
        .replace("    metricType: AverageValue\n", "")
        .replace("minReplicaCount: 0", "minReplicaCount: 11");
    let clamped =
        "f:11: warning: ScaledJob shop/receiver: minReplicaCount 11 is more than maxReplicaCount 10: KEDA takes 10";
    assert!(findings(&least, None).concat().starts_with(clamped), "{:?}", findings(&least, None));
    assert_eq!(findings(&least.replace("  maxReplicaCount: 10\n", ""), None), Vec::<String>::new());
    let push = job.replace("type: external", "type: external-push");
    assert!(findings(&push, None).concat().contains("KEDA ignores the push"));
}

#[test]
fn a_formula_takes_activity_out_of_the_triggers_hands() {
    let formula = SCALED_OBJECT
        .replace("  advanced:\n", "  advanced:\n    scalingModifiers: {formula: orders * 2, target: '1'}\n")
        .replace("queueName: orders", "queueName: orders\n      activationMessageCount: '3'");
    let text = findings(&formula, None).join("\n");
    assert!(text.contains("knows triggers by name") && text.contains("has no effect at polls"), "{text}");
}

#[test]
fn triggers_of_others_are_passed_over_and_built_in_ones_announced() {
    let with = |trigger: &str| findings(&format!("{SCALED_OBJECT}  - {trigger}\n"), None).concat();
    assert_eq!(with("{type: cron, metadata: {start: 0 8 * * *}}"), "");
    assert!(with("{type: external, metadata: {scalerAddress: 'gpu:1', profile: a100}}").contains("note"));
    let cosmos = "{type: external, metadata: {scalerAddress: 'cosmos:4050', connectionFromEnv: COSMOS, databaseId: d}}";
    assert!(with(cosmos).contains("note") && !with(cosmos).contains("error"), "{}", with(cosmos));
    assert!(with("{type: azure-servicebus, metadata: {queueName: a}}").contains("--migrate"));
    assert!(
        with("{metadata: {queueName: a}}")
            .contains("error: ScaledObject shop/receiver, trigger 1: the trigger has no type")
    );
}

/// Manifests come from others, and what is printed is read by terminals and by the machines that run checks.
#[test]
fn a_finding_is_one_line_whatever_a_manifest_holds() {
    let wild = "a\\n::error::\\e[31m\\u2028x";
    let text = SCALED_OBJECT
        .replace("name: receiver\n  namespace: shop", &format!("name: \"{wild}\"\n  namespace: \"{wild}\""))
        .replace("queueName: orders", &format!("queueName: \"{wild}\"\n      \"{wild}\": x"))
        .replace("AverageValue", &format!("\"{wild}\""));
    let findings = findings(&text, None);
    assert!(findings.len() > 1, "{findings:?}");
    for finding in findings {
        assert!(!finding.contains(|character: char| character.is_control() || character == '\u{2028}'), "{finding:?}");
    }
}

#[test]
fn objects_in_lists_are_found_and_triggers_counted() {
    let indented = SCALED_OBJECT.replace('\n', "\n  ");
    let list = format!("kind: List\nitems:\n- {indented}").replace("orders", "a b");
    let objects = objects(&list).expect("good YAML");
    let checked = check(&[(Path::new("f"), objects)], None, DEFAULT_NAMESPACE);
    assert_eq!((checked.triggers, checked.findings.len()), (1, 1), "{:?}", checked.findings);
    assert_eq!(checked.findings[0].line, Some(22));
}
