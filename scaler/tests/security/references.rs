//! Attacks on credentials that are not the caller's: forbidden names, ambient identities, secrets in the wrong place.

use std::path::PathBuf;

use broker::Options;
use testbench::within;
use tonic::Code;

use crate::support::{Scaler, Trap, broker};

fn keep(connection: &str) -> impl FnOnce(PathBuf) {
    let connection = connection.to_owned();
    move |folder| std::fs::write(folder.join("orders"), connection).expect("the folder is writable")
}

const REGISTRY: &str = "connections:
  orders: {allowedNamespaces: [shop], connectionStringFile: '{folder}/orders'}
  machine: {allowedNamespaces: [shop], managedIdentity: {}, serviceBusNamespaces: ['*']}";

#[tokio::test]
async fn a_connection_is_for_its_namespaces_and_looks_missing_to_others() {
    let broker = broker(Options::default()).await;
    let scaler = Scaler::start(REGISTRY, &[], keep(broker.connection_string())).await;
    let orders = ("connectionRef", "orders");
    let value = scaler.ask("shop", &[orders]).await.expect("shop may use it");
    assert!(value.abs() < f64::EPSILON, "an empty queue, and not {value}");
    let reads = broker.counters();
    for claim in ["evil", "shop2", "sho", "", "kube-system"] {
        let forbidden = scaler.refuses(claim, &[orders], Code::PermissionDenied, &["connectionRef"]).await;
        let unknown = scaler.refuses(claim, &[("connectionRef", "ordert")], Code::PermissionDenied, &[]).await;
        assert_eq!(forbidden.message().replace("orders", "ordert"), unknown.message());
        assert_eq!(forbidden.metadata().len(), unknown.metadata().len());
    }
    for claim in ["SHOP", "shop ", "shop\n", "*", "shop/../shop", &"s".repeat(100_000)] {
        scaler.refuses(claim, &[orders], Code::InvalidArgument, &["Kubernetes namespace"]).await;
    }
    assert_eq!(broker.counters(), reads, "nothing was read for any of them");
}

#[tokio::test]
async fn an_identity_of_the_process_is_not_used_without_a_name() {
    let metadata_service = Trap::new();
    let endpoint = format!("http://{}/token", metadata_service.address());
    let environment = [
        ("IDENTITY_ENDPOINT", endpoint.as_str()),
        ("IDENTITY_HEADER", "PLANTED"),
        ("AZURE_TENANT_ID", "t"),
        ("AZURE_CLIENT_ID", "c"),
        ("AZURE_CLIENT_SECRET", "PLANTED"),
        ("AZURE_FEDERATED_TOKEN_FILE", "/dev/null"),
        (
            "SERVICEBUS_CONNECTION_STR",
            "Endpoint=sb://orders.servicebus.windows.net;SharedAccessKeyName=n;SharedAccessKey=k",
        ),
    ];
    let scaler = Scaler::start(REGISTRY, &environment, |_| {}).await;
    for metadata in [
        &[][..],
        &[("namespace", "orders")],
        &[("namespace", "orders"), ("cloud", "AzurePublicCloud")],
        &[("namespace", "orders"), ("podIdentity", "azure-workload")],
        &[("connectionFromEnv", "")],
        &[("connectionRef", "")],
    ] {
        scaler.refuses("shop", metadata, Code::InvalidArgument, &["connectionRef"]).await;
    }
    scaler.refuses("evil", &[("connectionRef", "machine"), ("namespace", "o")], Code::PermissionDenied, &[]).await;
    assert!(metadata_service.is_untouched());
}

#[tokio::test]
async fn a_secret_in_metadata_is_refused_and_not_repeated() {
    let scaler = Scaler::plain().await;
    let connection = "Endpoint=sb://orders.servicebus.windows.net;SharedAccessKeyName=n;SharedAccessKey=PLANTED";
    let signature = "SharedAccessSignature sr=x&sig=PLANTED&se=1&skn=n";
    for metadata in [
        &[("connection", connection)][..],
        &[("connection", "PLANTED")],
        &[("connectionString", connection)],
        &[("connectionRef", connection)],
        &[("namespace", connection), ("connectionRef", "orders")],
        &[("queueName", connection)],
        &[("messageCount", signature)],
        &[("whatever", signature)],
    ] {
        let status = scaler.refuses("shop", metadata, Code::InvalidArgument, &[]).await;
        assert!(!status.message().contains("PLANTED"), "{status}");
    }
    assert!(!scaler.program.stderr().contains("PLANTED"), "{}", scaler.program.stderr());
}

#[tokio::test]
async fn a_changed_secret_counts_without_a_restart_and_a_broken_one_changes_nothing() {
    let broker = broker(Options::default()).await;
    let wrong = broker.connection_string().replace("SharedAccessKey=", "SharedAccessKey=x");
    let scaler = Scaler::start(&format!("cacheTtlSeconds: 0\n{REGISTRY}"), &[], keep(&wrong)).await;
    let orders = ("connectionRef", "orders");
    scaler.refuses("shop", &[orders], Code::Unauthenticated, &[]).await;
    scaler.replace("orders", broker.connection_string());
    testbench::until("the new secret to be in force", async || scaler.ask("shop", &[orders]).await.is_ok()).await;

    let twice = "Endpoint=sb://h;SharedAccessKeyName=n;SharedAccessKey=PLANTED;SharedAccessKey=PLANTED";
    scaler.replace("orders", twice);
    scaler.program.until_said("the one before it stays", 1).await;
    scaler.ask("shop", &[orders]).await.expect("the credential before stays");
    for times in 1..=3 {
        scaler.look_again();
        scaler.program.until_said("the config file was read again", times).await;
    }
    scaler.replace("orders", &wrong);
    scaler.program.until_said("changed and is in force", 2).await;
    scaler.refuses("shop", &[orders], Code::Unauthenticated, &[]).await;
    let log = scaler.program.stderr();
    assert_eq!(log.matches("the one before it stays").count(), 1, "one line, however often it is looked at: {log}");
    assert!(log.contains("SharedAccessKey stands twice") && !log.contains("PLANTED"), "{log}");
}

#[tokio::test]
async fn an_open_stream_gets_a_changed_secret_and_ends_when_its_connection_is_taken_away() {
    let broker = broker(Options::default()).await;
    let wrong = broker.connection_string().replace("SharedAccessKey=", "SharedAccessKey=x");
    let scaler = Scaler::start(REGISTRY, &[], keep(&wrong)).await;
    let mut stream = scaler.watch("shop", &[("connectionRef", "orders")]).await;
    scaler.replace("orders", broker.connection_string());
    let told = within("what the new secret lets it read", stream.message()).await.expect("no error");
    assert_eq!(told.map(|told| told.result), Some(false), "an empty queue");

    let config = std::fs::read_to_string(scaler.file("scaler.yaml")).expect("it is there");
    scaler.replace("scaler.yaml", &config.replace("[shop]", "[billing]"));
    let status = within("the end of the stream", stream.message()).await.expect_err("it lost its access");
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
}

/// At the start there was nothing to protect.
#[tokio::test]
async fn connections_that_come_later_are_warned_about_without_client_certificates() {
    let scaler = Scaler::plain().await;
    let (warning, registry) = ("whoever reaches this port can use the connections of any namespace", "connections:");
    assert!(!scaler.program.stderr().contains(warning));
    let orders = "orders: {allowedNamespaces: [shop], connectionStringFile: /nowhere}";
    scaler.replace("scaler.yaml", &format!("{registry}\n  {orders}\n"));
    scaler.program.until_said("the config file changed and is in force", 1).await;
    scaler.replace("scaler.yaml", &format!("{registry}\n  {orders}\n  other-{orders}\n"));
    scaler.program.until_said("the config file changed and is in force", 2).await;
    let log = scaler.program.stderr();
    assert_eq!(log.matches(warning).count(), 1, "said once: {log}");
}
