//! `scaler check --migrate`: the file on standard output, what is left to do on standard error.

use crate::{scaler, stderr, stdout};

const BUILT_IN: &str = "# ours
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: receiver, namespace: shop}
spec:
  scaleTargetRef: {name: receiver}
  advanced: {horizontalPodAutoscalerConfig: {behavior: {scaleDown: {stabilizationWindowSeconds: 60}}}}
  triggers:
  - type: azure-servicebus # built in
    metadata:
      queueName: orders
      messageCount: \"5\"
    authenticationRef: {name: servicebus}
";
const AUTHENTICATION: &str = "apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata: {name: servicebus, namespace: shop}
spec:
  podIdentity: {provider: azure-workload}
";

#[tokio::test]
async fn the_result_passes_the_check_and_the_rest_is_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authentication = folder.path().join("authentication.yaml");
    std::fs::write(&authentication, AUTHENTICATION).expect("the file can be written");
    let authentication = authentication.to_str().expect("a plain path");
    let by_identity = BUILT_IN.replace("      messageCount", "      namespace: orders-prod\n      messageCount");
    let output = scaler(
        &["check", "--migrate", "--push", "--scaler-address", "s.keda:6000", "--authentications", authentication, "-"],
        &by_identity,
    )
    .await;
    assert!(output.status.success(), "{}", stderr(&output));
    let expected = by_identity
        .replace("azure-servicebus #", "external-push #")
        .replace(
            "      queueName",
            "      scalerAddress: s.keda:6000\n      connectionRef: shop-servicebus\n      queueName",
        )
        .replace("    authenticationRef: {name: servicebus}\n", "");
    assert_eq!(stdout(&output), expected);

    let (_, snippet) = stderr(&output).split_once("connections:\n").expect("what the operator adds");
    let config = folder.path().join("scaler.yaml");
    std::fs::write(&config, format!("connections:\n{snippet}")).expect("the file can be written");
    let config = config.to_str().expect("a plain path");
    let checked = scaler(&["check", "--strict", "--config", config, "-"], &expected).await;
    assert!(checked.status.success(), "{}", stdout(&checked));
}

#[tokio::test]
async fn the_result_is_checked_against_the_config_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("scaler.yaml");
    let config = path.to_str().expect("a plain path");
    let migrate = ["check", "--migrate", "--config", config, "-"];
    let output = scaler(&migrate, BUILT_IN).await;
    assert_eq!(output.status.code(), Some(1), "there is no such file");
    assert!(stderr(&output).contains("failed to read config file"), "{}", stderr(&output));

    std::fs::write(&path, "profiles: {gold: {policy: messageCount}}\n").expect("the file can be written");
    let output = scaler(&migrate, BUILT_IN).await;
    assert!(output.status.success(), "what is to be added is taken for added: {}", stderr(&output));
    let silver = BUILT_IN.replace("queueName: orders", "queueName: orders\n      policyProfile: silver");
    let output = scaler(&migrate, &silver).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("policyProfile: \"silver\" is not in"), "{}", stderr(&output));
}

/// By KEDA's own types, as far as `deploy` knows them.
#[tokio::test]
async fn the_result_is_what_keda_takes() {
    let output = scaler(&["check", "--migrate", "-"], BUILT_IN).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("migrated.yaml");
    std::fs::write(&file, &output.stdout).expect("the file can be written");
    let documents = deploy::read_file(&file).expect("YAML");
    let object = deploy::keda::ScaledObject::from_value(&documents[0].value).expect("a ScaledObject of KEDA's");
    let trigger = &object.spec.triggers[0];
    assert_eq!((trigger.kind.as_str(), trigger.authentication_ref.is_none()), ("external", true));
    assert_eq!(trigger.metadata["connectionRef"], "shop-servicebus");
}

#[tokio::test]
async fn what_it_cannot_do_it_says() {
    let output = scaler(&["check", "--migrate", "-"], "kind: Deployment\n").await;
    assert!(output.status.success());
    assert_eq!(
        (stdout(&output), stderr(&output)),
        ("kind: Deployment\n", "no trigger of type azure-servicebus: nothing to translate\n")
    );
    let without = BUILT_IN.replace("    authenticationRef: {name: servicebus}\n", "");
    let output = scaler(&["check", "--migrate", "-"], &without).await;
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), without.as_str()));
    assert!(
        stderr(&output).contains("-:9: error: ScaledObject shop/receiver, trigger 0: not translated: it has neither"),
        "{}",
        stderr(&output)
    );
    assert_eq!(scaler(&["check", "--migrate", "-", "-"], "").await.status.code(), Some(1), "one file at a time");
    assert_eq!(scaler(&["check", "--push", "-"], "").await.status.code(), Some(2), "only with --migrate");
}
