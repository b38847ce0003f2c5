//! Who may use what, and where it may go: resolved without any network.

use std::collections::HashMap;

use super::*;
use crate::config::Config;

const KEY: &str = "Endpoint=sb://orders.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey=PLANTED";

struct Bench {
    connections: Connections,
    config: ConfigHandle,
    folder: tempfile::TempDir,
}

/// A registry with `orders` (a file, for `shop` and `billing`), `machine` (an identity for two namespaces, for `shop`),
/// `single` (an identity for one), `china` and `anywhere` (for everybody).
async fn bench() -> Bench {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("orders"), format!("{KEY}\n")).expect("the folder is writable");
    let text = format!(
        "connections:
           orders: {{allowedNamespaces: [shop, billing], connectionStringFile: {folder}/orders}}
           lost: {{allowedNamespaces: [shop], connectionStringFile: {folder}/lost}}
           machine: {{allowedNamespaces: [shop], managedIdentity: {{}}, serviceBusNamespaces: [orders, refunds]}}
           single: {{allowedNamespaces: [shop], managedIdentity: {{}}, serviceBusNamespaces: [orders]}}
           china: {{allowedNamespaces: [shop], managedIdentity: {{}}, serviceBusNamespaces: ['*'], cloud: AzureChinaCloud}}
           anywhere: {{allowedNamespaces: ['*'], managedIdentity: {{}}, serviceBusNamespaces: ['*']}}",
        folder = folder.path().display()
    );
    let config = ConfigHandle::new(Config::parse(&text).expect("a good file"));
    let connections = Connections::new(AllowedEndpoints::default(), config.clone());
    connections.load().await;
    Bench { connections, config, folder }
}

impl Bench {
    /// Resolves a trigger with this metadata, as `key=value` words.
    fn ask(&self, kubernetes_namespace: &str, metadata: &str) -> Result<Access, AccessRefused> {
        self.connections.resolve(kubernetes_namespace, &trigger(metadata))
    }

    fn refused(&self, kubernetes_namespace: &str, metadata: &str) -> String {
        self.ask(kubernetes_namespace, metadata).expect_err(metadata).to_string()
    }
}

fn trigger(metadata: &str) -> Trigger {
    let pairs = metadata.split(' ').filter_map(|word| word.split_once('='));
    let pairs = pairs.chain([("queueName", "orders")]).map(|(key, value)| (key.to_owned(), value.to_owned()));
    Trigger::parse(&pairs.collect::<HashMap<_, _>>()).expect("sound metadata")
}

#[tokio::test]
async fn a_reference_works_for_the_namespaces_it_allows_and_looks_missing_to_others() {
    let bench = bench().await;
    let metadata = "connectionRef=orders";
    let access = bench.ask("shop", metadata).expect("allowed");
    assert_eq!(access.host(), "orders.servicebus.windows.net");
    assert!(matches!(access.credential(), Credential::SharedAccess(_)));
    let own = bench.ask("anybody", &format!("connectionFromEnv={KEY}")).expect("a trigger's own needs no permission");
    assert_eq!(own.digest(), access.digest(), "the same credential is the same reading, however it came");

    let forbidden = bench.refused("evil", metadata);
    let unknown = bench.refused("evil", "connectionRef=ordered");
    assert_eq!(forbidden.replace("orders", "ordered"), unknown, "the answers must not tell which exist");
    assert!(matches!(bench.ask("evil", metadata), Err(AccessRefused::NotAllowed { .. })));
    // No name stands for all names, and no claim stands for all claims.
    for claim in ["", "*", "shop ", "SHOP", "shop,billing"] {
        assert!(bench.ask(claim, metadata).is_err(), "{claim:?}");
    }
}

#[tokio::test]
async fn an_identity_goes_where_the_operator_named_and_nowhere_else() {
    let bench = bench().await;
    for (metadata, host) in [
        ("connectionRef=machine namespace=refunds", "refunds.servicebus.windows.net"),
        ("connectionRef=machine namespace=Orders cloud=AzurePublicCloud", "orders.servicebus.windows.net"),
        ("connectionRef=single", "orders.servicebus.windows.net"),
        ("connectionRef=china namespace=anything", "anything.servicebus.chinacloudapi.cn"),
        ("connectionRef=china namespace=anything cloud=AzureChinaCloud", "anything.servicebus.chinacloudapi.cn"),
    ] {
        let access = bench.ask("shop", metadata).expect(metadata);
        assert_eq!((access.host(), access.namespace().administration_port()), (host, 443), "{metadata}");
        assert!(matches!(access.credential(), Credential::Entra(_)) && !access.namespace().is_plain());
    }
    for metadata in [
        "connectionRef=machine namespace=telemetry",
        "connectionRef=machine namespace=orders cloud=AzureChinaCloud",
        "connectionRef=china namespace=orders cloud=AzurePublicCloud",
        "connectionRef=single namespace=refunds",
        "connectionRef=anywhere namespace=orders cloud=Private endpointSuffix=evil.example",
    ] {
        assert!(matches!(bench.ask("shop", metadata), Err(AccessRefused::OtherNamespace { .. })), "{metadata}");
    }
    let missing = bench.refused("shop", "connectionRef=machine");
    assert!(missing.contains("metadata namespace") && missing.contains("machine"), "{missing}");
    let one = bench.ask("shop", "connectionRef=machine namespace=orders").expect("allowed").digest();
    let other = bench.ask("shop", "connectionRef=machine namespace=refunds").expect("allowed").digest();
    assert_ne!(one, other, "readings of two namespaces are two");
}

#[tokio::test]
async fn an_identity_needs_a_reference() {
    let bench = bench().await;
    for metadata in ["namespace=orders", "namespace=orders cloud=AzurePublicCloud", ""] {
        let refused = bench.refused("shop", metadata);
        assert!(matches!(bench.ask("shop", metadata), Err(AccessRefused::Connection(_))), "{metadata}");
        assert!(refused.contains("connectionRef"), "{refused}");
    }
}

#[tokio::test]
async fn a_connection_string_goes_where_it_says_itself() {
    let bench = bench().await;
    let same = "connectionRef=orders namespace=ORDERS";
    assert_eq!(bench.ask("shop", same).expect("the same").host(), "orders.servicebus.windows.net");
    let other = bench.refused("shop", "connectionRef=orders namespace=refunds");
    assert!(other.contains("refunds.servicebus.windows.net"), "{other}");
    std::fs::write(bench.folder.path().join("orders"), KEY.replace("servicebus.windows.net", "evil.example"))
        .expect("the folder is writable");
    bench.connections.load().await;
    assert!(matches!(bench.ask("shop", "connectionRef=orders"), Err(AccessRefused::Endpoint(_))));
}

/// Else each spelling would have a budget, a cache entry and a place among the series of its own.
#[tokio::test]
async fn however_a_host_is_spelled_it_is_one() {
    let bench = bench().await;
    let plain = bench.ask("shop", &format!("connectionFromEnv={KEY}")).expect("allowed");
    for host in
        ["orders.servicebus.windows.net.", "ORDERS.ServiceBus.windows.net", "orders.servicebus.windows.net.:443"]
    {
        let text = KEY.replace("orders.servicebus.windows.net", host);
        let access = bench.ask("shop", &format!("connectionFromEnv={text}")).expect(host);
        assert_eq!((access.namespace(), access.digest()), (plain.namespace(), plain.digest()), "{host}");
    }
}

#[tokio::test]
async fn rules_count_at_once_and_what_cannot_be_read_is_said_to_those_allowed() {
    let bench = bench().await;
    let refused = bench.refused("shop", "connectionRef=lost");
    assert!(refused.contains("lost") && refused.contains("log"), "{refused}");
    assert!(!refused.contains(&bench.folder.path().display().to_string()), "paths are the operator's: {refused}");
    assert!(matches!(bench.ask("billing", "connectionRef=lost"), Err(AccessRefused::NotAllowed { .. })));

    assert!(bench.ask("billing", "connectionRef=orders").is_ok());
    let mut config = Config::clone(&bench.config.snapshot());
    config.connections.get_mut("orders").expect("it is there").allowed_namespaces =
        crate::config::connections::Names::These(["shop".to_owned()].into());
    bench.config.replace(config);
    assert!(bench.ask("billing", "connectionRef=orders").is_err(), "no look is needed");
    assert!(bench.ask("shop", "connectionRef=orders").is_ok());
}

#[tokio::test]
async fn limits_are_the_configurations_and_of_the_namespace_that_claims() {
    let bench = bench().await;
    let mut config = Config::clone(&bench.config.snapshot());
    config.limits.credentials_per_namespace = 1;
    bench.config.replace(config);
    let with_key = |key: &str| format!("connectionFromEnv={}", KEY.replace("PLANTED", key));
    assert!(bench.ask("shop", &with_key("1")).is_ok());
    let refused = bench.refused("shop", &with_key("2"));
    assert!(refused.contains("limits.credentialsPerNamespace") && !refused.contains("SharedAccessKey"), "{refused}");
    assert!(bench.ask("shop", &with_key("1")).is_ok());
    assert!(bench.ask("billing", &with_key("2")).is_ok());
    assert!(matches!(bench.ask(&"x".repeat(64), &with_key("1")), Err(AccessRefused::KubernetesNamespace(_))));
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let bench = bench().await;
    let access = bench.ask("shop", "connectionRef=orders").expect("allowed");
    let loaded =
        bench.connections.0.credentials.looked().credential(&bench.config.snapshot().connections["orders"].source);
    assert!(!format!("{access:?}{loaded:?}").contains("PLANTED"));
}

/// A connection whose file is another one now: the credential before it works until the new file was looked at, which takes two
/// reads and a pause; what is taken away is gone at once.
#[tokio::test(start_paused = true)]
async fn a_connection_with_another_source_works_all_the_time() {
    let bench = bench().await;
    let connection =
        |lines: &str| Config::parse(&format!("connections: {{orders: {{{lines}}}}}")).expect("a good file");
    let file = bench.folder.path().join("moved");
    std::fs::write(&file, KEY.replace("PLANTED", "another")).expect("the folder is writable");
    let metadata = "connectionRef=orders";
    let before = bench.ask("shop", metadata).expect("allowed").digest();

    let moved = format!("connectionStringFile: {}", file.display());
    bench.config.replace(connection(&format!("allowedNamespaces: [shop, kitchen], {moved}")));
    assert_eq!(bench.ask("shop", metadata).expect("as before").digest(), before);
    assert!(matches!(bench.ask("billing", metadata), Err(AccessRefused::NotAllowed { .. })), "taken away at once");
    assert!(matches!(bench.ask("kitchen", metadata), Err(AccessRefused::NotAllowed { .. })), "not given yet");
    let config = bench.config.snapshot();
    let looking = bench.connections.0.credentials.look(&config, Duration::from_millis(100));
    let asking = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(bench.ask("shop", metadata).expect("as before").digest(), before, "in the middle of the look");
    };
    let (is_new, ()) = tokio::join!(looking, asking);
    assert!(is_new);
    let after = bench.ask("shop", metadata).expect("allowed").digest();
    assert_ne!(after, before);
    assert_eq!(bench.ask("kitchen", metadata).expect("given now").digest(), after);
    bench.config.replace(connection(&format!("allowedNamespaces: [kitchen], {moved}")));
    assert!(matches!(bench.ask("shop", metadata), Err(AccessRefused::NotAllowed { .. })));
}
