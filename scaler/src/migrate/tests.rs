//! A file goes in, a file comes out: what changed, what stayed, and what the operator is asked for.

use super::*;
use crate::config::connections::Names;

const FILE: &str = "\
# The shop's receivers.
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: receiver, namespace: shop}   # flow
spec:
  scaleTargetRef: {name: receiver}
  triggers:
  # by the environment
  - type: azure-servicebus   # built in
    metadata:
      # the queue
      queueName: orders
      messageCount: \"20\"
      connectionFromEnv: CONNECTION
  - authenticationRef:
      name: secret   # in this file
    metricType: AverageValue
    type: 'azure-servicebus'
    metadata:
      namespace: overlooked
      topicName: events
      subscriptionName: billing
  - {type: azure-servicebus, metadata: {queueName: a, namespace: orders-prod}, authenticationRef: {name: identity}}
  - type: azure-servicebus
    metadata:
      queueName: variable
    authenticationRef:
      name: variable
  - type: cron
    metadata: {start: '0 8 * * *'}
---
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata: {name: secret, namespace: shop}
spec:
  secretTargetRef: [{parameter: connection, name: servicebus, key: string}]
---
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata: {name: identity, namespace: shop}
spec:
  podIdentity: {provider: azure-workload, identityId: '1111', identityTenantId: '22-33'}
---
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata: {name: variable, namespace: shop}
spec:
  env: [{parameter: connection, name: OTHER}]
";

const CHANGED: &str = "  # by the environment
  - type: external   # built in
    metadata:
      # the queue
      scalerAddress: scaler:6000
      queueName: orders
      messageCount: \"20\"
      connectionFromEnv: CONNECTION
  - metricType: AverageValue
    type: external
    metadata:
      scalerAddress: scaler:6000
      connectionRef: shop-secret
      topicName: events
      subscriptionName: billing
  - {type: external, metadata: {scalerAddress: scaler:6000, connectionRef: shop-identity, queueName: a, namespace: orders-prod}}
  - type: external
    metadata:
      scalerAddress: scaler:6000
      connectionFromEnv: OTHER
      queueName: variable
  - type: cron
";

fn migrated_with(text: &str, push: bool, more: &str) -> Migrated {
    let objects = check::objects(text).expect("good YAML");
    let more = check::objects(more).expect("good YAML");
    let authentications: Vec<_> = objects.iter().chain(&more).filter_map(Authentication::of).collect();
    let target = Target { push, address: "scaler:6000", namespace: "default", authentications: &authentications };
    migrate(text, &objects, &target)
}

fn migrated(text: &str) -> Migrated {
    migrated_with(text, false, "")
}

fn said(migrated: &Migrated) -> String {
    migrated.notes.iter().map(|note| note.clone().of(Path::new("f")).to_string() + "\n").collect()
}

/// The trigger of a `ScaledObject` with nothing else in it.
fn one(trigger: &str) -> String {
    format!("kind: ScaledObject\nmetadata: {{name: receiver}}\nspec:\n  triggers:\n  - {trigger}\n")
}

#[test]
fn triggers_change_and_every_other_byte_stays() {
    let migrated = migrated(FILE);
    let between = |text: &'static str, from: &str, to: &str| {
        let start = text.find(from).expect("the beginning");
        (&text[..start], text[start..].find(to).map(|length| &text[start + length..]).expect("the end"))
    };
    let (before, after) = between(FILE, "  # by the environment", "    metadata: {start");
    assert_eq!(migrated.text, format!("{before}{CHANGED}{after}"));
    assert_eq!(migrated.triggers, 4);
    for expected in [
        "trigger 1: metadata namespace is left out",
        "trigger 1: the metric azure-servicebus-events is called azure-servicebus-events-billing-4f862251 from now on",
    ] {
        assert!(said(&migrated).contains(expected), "{}", said(&migrated));
    }
    assert_eq!(migrated.notes.len(), 2, "{}", said(&migrated));
}

#[test]
fn what_the_operator_must_add_is_a_config_file_that_the_result_works_with() {
    let migrated = migrated(FILE);
    let config = Config::parse(&migrated.needed.yaml()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.connections.keys().collect::<Vec<_>>(), ["shop-identity", "shop-secret"]);
    let only_shop = Names::These(["shop".to_owned()].into());
    assert!(config.connections.values().all(|connection| connection.allowed_namespaces == only_shop));
    let reach = config.connections["shop-identity"].reach.as_ref().expect("an identity has a reach");
    assert_eq!(reach.namespaces.only(), Some("orders-prod"));
    for comment in ["Secret shop/servicebus, key string", "clientId: \"1111\"", "tenantId: 22-33"] {
        assert!(migrated.needed.yaml().contains(comment), "{}", migrated.needed.yaml());
    }
    let objects = check::objects(&migrated.text).expect("still YAML");
    let checked = check::check(&[(Path::new("f"), objects)], Some(&config), "default");
    let errors: Vec<_> = checked.findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    assert!(errors.is_empty() && checked.triggers == 4, "{errors:?}");
}

/// One cut must not reach into another, whichever keys stand first.
#[test]
fn all_that_a_connection_string_makes_void_goes() {
    let authentication = "kind: TriggerAuthentication\nmetadata: {name: s}\nspec: {secretTargetRef: [{parameter: connection, name: n, key: k}]}\n";
    for (written, left) in [
        ("{cloud: AzurePublicCloud, namespace: stale, queueName: orders}", "queueName: orders}"),
        ("{namespace: n, cloud: Private, endpointSuffix: x, queueName: q}", "queueName: q}"),
        ("{queueName: q, namespace: n, cloud: Private, endpointSuffix: x}", "queueName: q}"),
        ("{namespace: n, queueName: q, cloud: Private, endpointSuffix: x}", "queueName: q}"),
    ] {
        let trigger = one(&format!("{{type: azure-servicebus, metadata: {written}, authenticationRef: {{name: s}}}}"));
        let migrated = migrated_with(&trigger, false, authentication);
        let expected = format!("metadata: {{scalerAddress: scaler:6000, connectionRef: default-s, {left}}}\n");
        assert!(migrated.text.ends_with(&expected), "{}", migrated.text);
    }
}

#[test]
fn a_translated_file_is_left_alone() {
    let once = migrated(FILE);
    let twice = migrated(&once.text);
    assert_eq!((twice.triggers, &twice.text), (0, &once.text));
    assert!(twice.needed.is_empty() && twice.notes.is_empty());
}

#[test]
fn push_is_for_objects_alone() {
    let trigger = one("{type: azure-servicebus, metadata: {queueName: a, connectionFromEnv: C}}");
    assert!(migrated_with(&trigger, true, "").text.contains("type: external-push"));
    let job = migrated_with(&trigger.replace("ScaledObject", "ScaledJob"), true, "");
    assert!(job.text.contains("type: external,") && said(&job).contains("KEDA ignores the push"), "{}", job.text);
}

#[test]
fn one_connection_serves_all_who_had_the_same_authentication() {
    let authentication =
        "kind: ClusterTriggerAuthentication\nmetadata: {name: all}\nspec: {podIdentity: {provider: azure-workload}}\n";
    let object = |namespace: &str, reached: &str, cloud: &str| {
        format!(
            "kind: ScaledObject\nmetadata: {{name: a, namespace: {namespace}}}\nspec:\n  triggers:\n  - type: azure-servicebus\n    \
             metadata: {{queueName: q, namespace: {reached}, cloud: {cloud}}}\n    authenticationRef: {{name: all, kind: ClusterTriggerAuthentication}}\n---\n"
        )
    };
    let text = object("shop", "orders", "Private, endpointSuffix: sb.stack.example")
        + &object("bank", "ledger", "Private, endpointSuffix: sb.stack.example")
        + &object("bank", "else", "AzureUSGovernmentCloud")
        + &object("bank", "more", "azureUSGovernment");
    let migrated = migrated_with(&text, false, authentication);
    let config = Config::parse(&migrated.needed.yaml()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.connections.keys().collect::<Vec<_>>(), ["all", "all-2"], "{}", said(&migrated));
    let shared = &config.connections["all"];
    assert_eq!(shared.allowed_namespaces, Names::These(["bank".to_owned(), "shop".to_owned()].into()));
    let reach = shared.reach.as_ref().expect("an identity has a reach");
    assert_eq!(reach.endpoint_suffix, "sb.stack.example");
    assert!(reach.namespaces.contains("orders") && reach.namespaces.contains("ledger"));
    let other = config.connections["all-2"].reach.as_ref().expect("an identity has a reach");
    assert!(other.namespaces.contains("else") && other.namespaces.contains("more"), "two names of one cloud");
}

#[test]
fn what_is_cluster_wide_is_in_kedas_namespace() {
    let object = |namespace: &str| {
        one("{type: azure-servicebus, metadata: {queueName: q}, authenticationRef: {name: all, kind: ClusterTriggerAuthentication}}")
            .replace("{name: receiver}", &format!("{{name: receiver, namespace: {namespace}}}"))
    };
    let text = object("shop") + "---\n" + &object("bank");
    let authentication = "kind: ClusterTriggerAuthentication\nmetadata: {name: all}\nspec: {secretTargetRef: [{parameter: connection, name: sb, key: k}]}\n";
    for (authentication, from) in [
        (authentication, "Secret sb in KEDA's namespace (KEDA_CLUSTER_OBJECT_NAMESPACE, usually keda), key k"),
        ("", "that ClusterTriggerAuthentication all had"),
    ] {
        let yaml = migrated_with(&text, false, authentication).needed.yaml();
        let config = Config::parse(&yaml).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.connections.keys().collect::<Vec<_>>(), ["all"], "{yaml}");
        let both = Names::These(["bank".to_owned(), "shop".to_owned()].into());
        assert_eq!(config.connections["all"].allowed_namespaces, both);
        assert!(yaml.contains(from), "{yaml}");
    }
}

#[test]
fn what_cannot_be_known_is_said_with_what_it_was_taken_for() {
    let by = |metadata: &str| {
        migrated(&one(&format!("{{type: azure-servicebus, metadata: {metadata}, authenticationRef: {{name: gone}}}}")))
    };
    let unknown = by("{queueName: a}");
    assert!(said(&unknown).contains("TriggerAuthentication \"gone\" is not in the files given"), "{}", said(&unknown));
    assert!(unknown.needed.yaml().contains("connectionStringFile: /var/run/secrets/servicebus/default-gone"));
    assert!(by("{queueName: a, namespace: prod}").needed.yaml().contains("workloadIdentity: {}"));
    assert!(by("{queueName: a, connectionFromEnv: C}").needed.is_empty());
    let container = "kind: TriggerAuthentication\nmetadata: {name: gone}\nspec: {env: [{parameter: connection, name: C, containerName: side}]}\n";
    let trigger = one("{type: azure-servicebus, metadata: {queueName: a}, authenticationRef: {name: gone}}");
    let migrated = migrated_with(&trigger, false, container);
    assert!(
        migrated.needed.yaml().contains("container \"side\" of ScaledObject receiver"),
        "{}",
        migrated.needed.yaml()
    );
}

/// A variable stays one only where KEDA looks for both in the same container.
#[test]
fn a_variable_is_looked_for_in_the_container_that_has_it() {
    let migrated = |container: &str, source: &str| {
        let authentication = format!(
            "kind: TriggerAuthentication\nmetadata: {{name: v}}\nspec: {{env: [{{parameter: connection, name: C{container}}}]}}\n"
        );
        let trigger = one("{type: azure-servicebus, metadata: {queueName: q}, authenticationRef: {name: v}}");
        let target = format!("spec:\n  scaleTargetRef: {{name: receiver{source}}}\n");
        migrated_with(&trigger.replace("spec:\n", &target), false, &authentication)
    };
    let side = ", envSourceContainerName: side";
    for (container, source) in [("", ""), ("", ", envSourceContainerName: ''"), (", containerName: side", side)] {
        let migrated = migrated(container, source);
        assert!(migrated.text.contains("connectionFromEnv: C") && migrated.needed.is_empty(), "{}", migrated.text);
    }
    for (container, source, place) in [
        ("", side, "the first container of"),
        (", containerName: main", side, "container \"main\" of"),
        (", containerName: main", "", "container \"main\" of"),
    ] {
        let migrated = migrated(container, source);
        assert!(migrated.text.contains("connectionRef: default-v"), "{}", migrated.text);
        let yaml = migrated.needed.yaml();
        assert!(yaml.contains(&format!("{place} ScaledObject receiver has in variable C")), "{yaml}");
    }
}

#[test]
fn what_cannot_be_translated_stays_and_is_said() {
    for (text, problem) in [
        (one("{type: azure-servicebus, metadata: {queueName: a}}"), "neither connectionFromEnv nor authenticationRef"),
        (one("{type: azure-servicebus}"), "it has no metadata"),
        (
            one("&t {type: azure-servicebus, metadata: {queueName: a, connectionFromEnv: C}}\n  - *t"),
            "trigger 1: not translated: it is written through a YAML alias",
        ),
        (
            one(
                "{type: azure-servicebus, metadata: &m {queueName: a, connectionFromEnv: C}}\n  - {type: azure-servicebus, metadata: *m}",
            ),
            "trigger 1: not translated: it is written through a YAML alias",
        ),
    ] {
        let migrated = migrated(&text);
        assert!(said(&migrated).contains(problem) && said(&migrated).contains(": error: "), "{}", said(&migrated));
        assert!(migrated.text.contains("azure-servicebus") || migrated.triggers == 1, "{}", migrated.text);
    }
}

/// The operator pastes it into a file of their own, and who writes manifests is somebody else.
#[test]
fn nothing_in_a_manifest_gets_out_of_its_comment() {
    let escape = "x\\n    allowedNamespaces: ['*'] #";
    let authentication = format!(
        "kind: TriggerAuthentication\nmetadata: {{name: a}}\nspec:\n  secretTargetRef: [{{parameter: connection, name: \"{escape}\", key: \"{escape}\"}}]\n---\n\
         kind: TriggerAuthentication\nmetadata: {{name: b}}\nspec: {{podIdentity: {{provider: azure-workload, identityAuthorityHost: \"{escape}\"}}}}\n---\n"
    );
    let trigger = |name: &str, cloud: &str| {
        one(&format!(
            "{{type: azure-servicebus, metadata: {{queueName: q, namespace: n, {cloud}}}, authenticationRef: {{name: {name}}}}}"
        )) + "---\n"
    };
    let private = format!("cloud: Private, endpointSuffix: \"{escape}\"");
    for text in
        [trigger("a", "x: y"), trigger("b", "x: y"), trigger("b", &private), trigger(&format!("\"{escape}\""), "x: y")]
    {
        let yaml = migrated_with(&text, false, &authentication).needed.yaml();
        let escaped = yaml.lines().find(|line| line.trim_start().starts_with("allowedNamespaces: ['*']"));
        assert_eq!(escaped, None, "{yaml}");
    }
}

#[test]
fn an_address_names_a_port() {
    for good in ["scaler:6000", "dns:///scaler.ns.svc:6000", "[::1]:6000"] {
        assert_eq!(address(good).as_deref(), Ok(good));
    }
    for wrong in ["", "scaler", "scaler:", "scaler:x", "a b:1", "a\"b:1"] {
        assert!(address(wrong).is_err(), "{wrong:?}");
    }
}
