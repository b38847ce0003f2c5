//! Secrets with a marker in them, through every kind of credential and many kinds of failure, in a scaler that logs all it
//! can: the marker must be in nothing that the scaler says, and must have been in what it did.

use std::path::Path;

use broker::{Options, SharedAccessKey};
use testbench::Program;
use tonic::Code;

use crate::support::{Scaler, broker, get};
use crate::token_giver::TokenGiver;

/// In every secret that tests plant. `.ci/run` looks for it in all that tests and the programs under test say.
const MARKER: &str = "PLANTED";
/// A key made for tests, whose lines are markers, too.
const RSA_KEY: &str = include_str!("../../../crates/servicebus/tests/data/test-only-rsa.pem");
/// A token of the form that Entra's have.
const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJQTEFOVEVEIn0.PLANTED-token";

const REGISTRY: &str = "
cacheTtlSeconds: 0
connections:
  key: {allowedNamespaces: [shop], connectionStringFile: '{folder}/key'}
  signature: {allowedNamespaces: [shop], connectionStringFile: '{folder}/signature'}
  broken: {allowedNamespaces: [shop], connectionStringFile: '{folder}/broken'}
  secret:
    allowedNamespaces: [shop]
    clientSecret: {tenantId: good, clientId: c, secretFile: '{folder}/secret'}
    <<: &place
      serviceBusNamespaces: [orders]
      cloud: Private
      endpointSuffix: servicebus.planted.invalid
      authority: https://{entra}
  refused:
    allowedNamespaces: [shop]
    clientSecret: {tenantId: refusing, clientId: c, secretFile: '{folder}/secret'}
    <<: *place
  certificate:
    allowedNamespaces: [shop]
    clientCertificate: {tenantId: good, clientId: c, certificateFile: '{folder}/certificate'}
    <<: *place
  workload:
    allowedNamespaces: [shop]
    workloadIdentity: {tenantId: good, clientId: c, tokenFile: '{folder}/token'}
    <<: *place
  machine:
    allowedNamespaces: [shop]
    managedIdentity: {}
    <<: *place
";

/// A certificate for the key made for tests, with the key, as operators put both into one file.
fn certificate_and_key() -> String {
    let key = rcgen::KeyPair::from_pem_and_sign_algo(RSA_KEY, &rcgen::PKCS_RSA_SHA256).expect("an RSA key");
    let parameters = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    format!("{}{RSA_KEY}", parameters.self_signed(&key).expect("signed").pem())
}

fn plant(folder: &Path, connection: &str) {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("the folder is writable");
    write("key", connection);
    let signature = "SharedAccessSignature sr=sb%3A%2F%2Forders&sig=PLANTED-signature&se=4102444800&skn=n";
    let (endpoint, _) = connection.split_once("SharedAccessKeyName").expect("a connection string");
    write("signature", &format!("{endpoint}SharedAccessSignature={signature};UseDevelopmentEmulator=true"));
    write("broken", "Endpoint=sb://h;SharedAccessKeyName=PLANTED;SharedAccessKey=PLANTED;SharedAccessKey=PLANTED");
    write("secret", "PLANTED-client-secret\n");
    write("certificate", &certificate_and_key());
    write("token", &format!("{TOKEN}-of-the-service-account"));
}

/// How errors describe the form of a signature.
const FORM: &str = "SharedAccessSignature sr=…&sig=…&se=…&skn=…";

/// What must stay secret and is in a text: a planted secret, the key, or what is signed or got with them.
fn secret_in(text: &str) -> Option<String> {
    let text = text.replace(FORM, "");
    let key_lines = RSA_KEY.lines().filter(|line| line.len() > 20 && !line.starts_with('-'));
    let secrets = [MARKER, "eyJ", "sig=", "sig%3D", "SharedAccessSignature sr", "client_assertion="];
    let at = secrets.into_iter().chain(key_lines).find_map(|secret| text.find(secret))?;
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    text[line..].lines().next().map(str::to_owned)
}

fn assert_clean(what: &str, text: &str) {
    let line = secret_in(text);
    assert_eq!(line, None, "a secret is in {what}");
}

#[tokio::test]
async fn no_secret_is_in_anything_that_it_says() {
    let giver = TokenGiver::start(TOKEN).await;
    let keys = vec![SharedAccessKey::new("planted", "PLANTED-key").expect("a name and a key")];
    let broker = broker(Options { keys, ..Options::default() }).await;
    let connection = broker.connection_string().to_owned();
    assert!(connection.contains(MARKER), "the broker's own connection string holds its key");

    let roots = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(roots.path(), &giver.authority).expect("it is writable");
    let identity_endpoint = format!("http://{}/token", giver.metadata_service);
    let environment = [
        ("SSL_CERT_FILE", roots.path().to_str().expect("UTF-8")),
        ("SCALER_ALLOW_ENDPOINT_SUFFIXES", "servicebus.planted.invalid"),
        ("IDENTITY_ENDPOINT", &identity_endpoint),
        ("IDENTITY_HEADER", "PLANTED-identity-header"),
    ];
    let registry = REGISTRY.replace("{entra}", &giver.entra.to_string());
    let scaler = Scaler::start(&registry, &environment, |folder| plant(&folder, &connection)).await;

    // Each kind of credential, and each used for real.
    scaler.ask("shop", &[("connectionRef", "key")]).await.expect("the broker takes the key");
    scaler.ask("shop", &[("connectionFromEnv", &connection)]).await.expect("the broker takes the key");
    scaler.refuses("shop", &[("connectionRef", "signature")], Code::Unauthenticated, &[]).await;
    scaler.refuses("shop", &[("connectionRef", "broken")], Code::FailedPrecondition, &["log"]).await;
    for (name, proof) in [
        ("secret", "client_secret=PLANTED-client-secret"),
        ("refused", "/refusing/"),
        ("certificate", "client_assertion=eyJ"),
        (
            "workload",
            "client_assertion=eyJhbGciOiJub25lIn0.eyJzdWIiOiJQTEFOVEVEIn0.PLANTED-token-of-the-service-account",
        ),
        ("machine", "PLANTED-identity-header"),
    ] {
        // The namespace's host does not exist, so no read succeeds; the token is got before, unless the machine is so busy
        // that the scaler's deadline comes first.
        testbench::until(&format!("the giver to be asked for {name}'s token by {proof:?}"), async || {
            scaler.ask_once("shop", &[("connectionRef", name)]).await.expect_err(name);
            giver.asked().contains(proof)
        })
        .await;
    }

    // Failures of every layer, with secrets in them.
    let wrong_key = connection.replace("PLANTED-key", "PLANTED-other-key");
    scaler.refuses("shop", &[("connectionFromEnv", &wrong_key)], Code::Unauthenticated, &[]).await;
    for connection in [
        "PLANTED",
        "Endpoint=sb://PLANTED@h;SharedAccessKeyName=n;SharedAccessKey=PLANTED",
        "Endpoint=PLANTED;SharedAccessKeyName=PLANTED;SharedAccessKey=PLANTED",
        "SharedAccessKey=PLANTED;Endpoint=sb://evil.example;SharedAccessKeyName=n",
        "Endpoint=sb://evil.example;SharedAccessSignature=PLANTED",
        "Endpoint=sb://h;SharedAccessKeyName=n;SharedAccessKey=PLANTED;UseDevelopmentEmulator=PLANTED",
        "Endpoint=sb://h,SharedAccessKeyName=n,SharedAccessKey=PLANTED",
    ] {
        scaler.ask("shop", &[("connectionFromEnv", connection)]).await.expect_err(connection);
    }
    for key in ["connection", "queueName", "connectionRef", "namespace", "whatever"] {
        scaler.refuses("shop", &[(key, &connection)], Code::InvalidArgument, &[]).await;
    }
    let faults =
        ["status=500,next=1", "status=302,location=http://127.0.0.1:1/,next=1", "wrong-key,next=1", "reset,next=1"];
    for fault in faults {
        broker.faults().add(fault.parse().expect("a fault")).expect("few faults");
        let _: Result<f64, _> = scaler.ask_once("shop", &[("connectionFromEnv", &connection)]).await;
    }

    // Files that change for the worse while it runs.
    scaler.replace("key", "Endpoint=PLANTED;SharedAccessKey=PLANTED");
    scaler.replace("certificate", RSA_KEY);
    scaler.program.until_said("the one before it stays", 2).await;
    scaler.replace("scaler.yaml", &format!("{registry}\n  inline: \"{connection}\"\n"));
    scaler.program.until_said("the config file is refused", 1).await;

    let admin = scaler.ready.admin.expect("probes and metrics are served");
    let local = scaler.ready.local.expect("explanations are served");
    let metrics = get(admin, "/metrics").await;
    let explanation = get(local, "/explain?namespace=shop&name=receiver").await;
    assert!(metrics.contains("200 OK") && metrics.contains("shop"), "{metrics}");
    assert!(explanation.contains("200 OK") && explanation.contains("orders"), "{explanation}");
    assert_clean("/metrics", &metrics);
    assert_clean("/explain", &explanation);
    assert_clean("the answers to calls", &scaler.heard());

    scaler.program.terminate();
    let ended = scaler.program.ended().await;
    assert!(ended.status.success(), "{}", ended.status);
    assert_clean("stdout", &ended.stdout);
    assert_clean("the log", &ended.stderr);
    for sign in ["TRACE", "scaler", "h2::", "the config file is refused", "a credential cannot be used"] {
        assert!(ended.stderr.contains(sign), "{sign:?} is not in the log, so it is no log of everything");
    }
}

#[tokio::test]
async fn explain_says_no_secret_either() {
    let keys = vec![SharedAccessKey::new("planted", "PLANTED-key").expect("a name and a key")];
    let broker = broker(Options { keys, ..Options::default() }).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("connection");
    let wrong = broker.connection_string().replace("PLANTED-key", "PLANTED-other-key");
    for (connection, succeeds) in
        [(broker.connection_string(), true), (&wrong, false), ("PLANTED", false), ("Endpoint=sb://h;PLANTED", false)]
    {
        std::fs::write(&file, connection).expect("writable");
        let path = file.to_str().expect("UTF-8");
        for format in ["text", "json"] {
            let flags = ["--log-level", "trace", "explain", "--queue", "orders", "--output", format];
            let arguments = [&flags[..], &["--connection-string-file", path]].concat();
            // On a machine so busy that the read's deadline comes first, a good one fails once, too.
            testbench::until(&format!("explain to end with success: {succeeds}"), async || {
                let ended = Program::start(env!("CARGO_BIN_EXE_scaler"), &arguments, &[]).ended().await;
                assert_clean("stdout", &ended.stdout);
                assert_clean("stderr", &ended.stderr);
                assert!(succeeds || !ended.status.success(), "{}", ended.stdout);
                ended.status.success() == succeeds
            })
            .await;
        }
    }
}

/// The check itself must be able to fail.
#[test]
fn a_secret_that_is_said_is_found() {
    for text in ["x PLANTED x", "Bearer eyJ0", "…&sig=x", "client_assertion=x", RSA_KEY] {
        assert!(secret_in(text).is_some(), "{text:?}");
    }
    assert_eq!(secret_in("shop/receiver: queue orders"), None);
}
