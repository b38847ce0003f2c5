//! Attacks on where a credential goes: hosts from metadata, tricks with their spelling, redirects.

use broker::Options;
use testbench::within;
use tonic::Code;

use crate::support::{Scaler, Trap, broker};

const KEY: &str = "SharedAccessKeyName=n;SharedAccessKey=PLANTED";

#[tokio::test]
async fn a_key_does_not_go_to_a_host_that_metadata_chose() {
    let (scaler, trap) = (Scaler::plain().await, Trap::new());
    let address = trap.address();
    let (port, decoy) = (address.port(), format!("orders.servicebus.windows.net:443.{address}"));
    for endpoint in [
        // Another host, plainly; and TLS to loopback, which is no emulator.
        "evil.example".to_owned(),
        address.to_string(),
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
        // What looks like Azure.
        "orders.servicebus.windows.net.evil.example".to_owned(),
        "servicebus.windows.net".to_owned(),
        "a.b.servicebus.windows.net".to_owned(),
        "ordersservicebus.windows.net".to_owned(),
        "-.servicebus.windows.net".to_owned(),
        "orders.servicebus.windows.net..evil.example".to_owned(),
        // Azure by name, another service by port.
        format!("orders.servicebus.windows.net:{port}"),
        "orders.servicebus.windows.net:80".to_owned(),
        "orders.servicebus.windows.net:5671".to_owned(),
        decoy,
    ] {
        let connection = format!("Endpoint=sb://{endpoint}/;{KEY}");
        let status = scaler.ask("shop", &[("connectionFromEnv", &connection)]).await.expect_err(&endpoint);
        assert!(matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument), "{endpoint}: {status}");
        assert!(!status.message().contains("PLANTED"), "{status}");
    }
    assert!(trap.is_untouched());
}

#[tokio::test]
async fn an_endpoint_cannot_hide_its_host() {
    let (scaler, trap) = (Scaler::plain().await, Trap::new());
    let address = trap.address();
    for endpoint in [
        format!("sb://orders.servicebus.windows.net@{address}"),
        format!("sb://orders.servicebus.windows.net:443@{address}"),
        format!("sb://{address}#.servicebus.windows.net"),
        format!("sb://{address}?x=.servicebus.windows.net"),
        format!("sb://{address}/.servicebus.windows.net"),
        format!("sb://{address}\\.servicebus.windows.net"),
        format!("sb://{address}%2f.servicebus.windows.net"),
        format!("https://{address}"),
        format!("sb://orders.servicebus.windows.net\r\nHost: {address}"),
        "sb://orders.servicebus.windows.net:0443x".to_owned(),
        "sb://orders.servicebus.windows.net:65979".to_owned(),
        "sb://ｏrders.servicebus.windows.net".to_owned(),
        "sb://0x7f.1:1".to_owned(),
    ] {
        let connection = format!("Endpoint={endpoint};{KEY}");
        let status = scaler.ask("shop", &[("connectionFromEnv", &connection)]).await.expect_err(&endpoint);
        assert!(matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument), "{endpoint}: {status}");
    }
    assert!(trap.is_untouched());
}

#[tokio::test]
async fn the_emulator_switch_opens_no_door_to_other_machines() {
    let scaler = Scaler::plain().await;
    for host in ["169.254.169.254:80", "10.0.0.1:443", "kubernetes.default.svc:443", "[fd00::1]:80", "0.0.0.0:80"] {
        let connection = format!("Endpoint=sb://{host};{KEY};UseDevelopmentEmulator=true");
        scaler
            .refuses(
                "shop",
                &[("connectionFromEnv", &connection)],
                Code::FailedPrecondition,
                &["--allow-endpoint", host],
            )
            .await;
    }
}

#[tokio::test]
async fn a_token_does_not_go_to_a_namespace_that_metadata_chose() {
    // The giver of tokens is a trap, too: nothing may be asked for where nothing may be sent.
    let giver = Trap::new();
    let config = format!(
        "connections:
           app:
             allowedNamespaces: [shop]
             clientSecret: {{tenantId: t, clientId: c, secretFile: '{{folder}}/secret'}}
             serviceBusNamespaces: [orders]
             cloud: Private
             endpointSuffix: servicebus.stack.invalid
             authority: https://{}",
        giver.address()
    );
    let secret = |folder: std::path::PathBuf| std::fs::write(folder.join("secret"), "PLANTED").expect("writable");
    let scaler = Scaler::start(&config, &[], secret).await;
    let app = ("connectionRef", "app");
    let private = ("cloud", "Private");
    for (metadata, code, word) in [
        (&[app, ("namespace", "evil")][..], Code::PermissionDenied, "evil.servicebus.stack.invalid"),
        (&[app, ("namespace", "orders"), ("cloud", "AzurePublicCloud")], Code::PermissionDenied, "windows.net"),
        (&[app, private, ("endpointSuffix", "evil.example")], Code::PermissionDenied, "orders.evil.example"),
        (&[app, ("namespace", "orders.evil.example")], Code::InvalidArgument, "namespace"),
        (&[app, ("namespace", "evil@orders")], Code::InvalidArgument, "namespace"),
        (&[app, ("namespace", "evil/orders")], Code::InvalidArgument, "namespace"),
        (&[app, ("namespace", "evil:443")], Code::InvalidArgument, "namespace"),
        (
            &[app, private, ("endpointSuffix", "evil.example/.servicebus.stack.invalid")],
            Code::InvalidArgument,
            "Suffix",
        ),
        (&[app, private, ("endpointSuffix", "evil.example:443")], Code::InvalidArgument, "endpointSuffix"),
        // The registry names it, but the operator did not list the suffix with --allow-endpoint-suffix.
        (&[app], Code::FailedPrecondition, "--allow-endpoint-suffix"),
    ] {
        scaler.refuses("shop", metadata, code, &[word]).await;
    }
    assert!(giver.is_untouched());
}

#[tokio::test]
async fn a_redirect_by_the_namespace_is_not_followed() {
    let trap = Trap::new();
    for status in [301, 302, 303, 307, 308] {
        let fault = format!("status={status},location=http://{}/orders", trap.address());
        let faults = vec![fault.parse().expect("a fault")];
        let broker = broker(Options { faults, ..Options::default() }).await;
        // Another scaler each time: none that leaves the namespace alone after the failure before.
        let scaler = Scaler::plain().await;
        let connection = ("connectionFromEnv", broker.connection_string());
        scaler.refuses("shop", &[connection], Code::Unavailable, &["redirect", &status.to_string()]).await;
        within("the broker to stop", broker.shutdown()).await;
    }
    assert!(trap.is_untouched());
}
