//! Identities in Entra over real sockets: what each sends for a token, that the token reaches the namespace, and what is said
//! when there is none.

use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use broker::{Broker, Options, QueueOptions};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use ring::signature::{KeyPair as _, RSA_PSS_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use servicebus::{
    AdministrationClient, AdministrationError, AdministrationOptions, Authority, Credential, Entra, EntraError,
    EntraIdentity, EntraOptions, Namespace,
};
use sha2::{Digest as _, Sha256};
use testbench::Nobody;

#[path = "entra/giver.rs"]
mod giver;
#[path = "entra/silence.rs"]
mod silence;

use giver::{Giver, http, token};

const TENANT: &str = "contoso.example";
const CLIENT: &str = "11111111-2222-3333-4444-555555555555";
const SECRET: &str = "PLANTED~client+secret/=";
/// What the broker takes for a token from Entra when it is told to take any.
const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJwbGFudGVkIjoidG9rZW4ifQ.c2lnbmF0dXJl";
const PATIENT: Duration = Duration::from_secs(30);
const RSA_KEY: &str = include_str!("data/test-only-rsa.pem");

/// A broker that takes any token of Entra's form, with one queue.
async fn broker() -> Broker {
    let queues = vec![QueueOptions::new("orders")];
    Broker::start(Options { queues, accept_any_jwt: true, ..Options::default() }).await.expect("a broker")
}

fn patient() -> AdministrationOptions {
    AdministrationOptions { timeout: PATIENT, ..AdministrationOptions::default() }
}

fn reader(broker: &Broker, identity: &Entra) -> AdministrationClient {
    let namespace = Namespace::parse(&broker.addresses()[0].to_string()).expect("an address").over_plain_http();
    AdministrationClient::connect(namespace, Credential::from(identity.clone()), patient()).expect("a client")
}

fn identity(giver: &Giver, identity: EntraIdentity) -> Result<Entra, EntraError> {
    let authority = Authority::parse(&giver.address()).expect("an authority");
    Entra::new(identity, EntraOptions { authority, timeout: PATIENT, extra_roots: giver.roots() })
}

fn client_secret() -> EntraIdentity {
    EntraIdentity::ClientSecret { tenant_id: TENANT.to_owned(), client_id: CLIENT.to_owned(), secret: SECRET.into() }
}

#[tokio::test]
async fn a_client_secret_becomes_one_token_for_many_reads() {
    let broker = broker().await;
    let mut giver = Giver::start(|_| Some(token(TOKEN, 3600))).await;
    let identity = identity(&giver, client_secret()).expect("an identity");
    let reading: Vec<_> = (0..20)
        .map(|_| {
            let reader = reader(&broker, &identity);
            tokio::spawn(async move { reader.queue("orders").await })
        })
        .collect();
    for read in reading {
        assert_eq!(read.await.expect("no panic").expect("let in").name, "orders");
    }
    let asked = giver.asked().await;
    assert!(asked.head.starts_with(&format!("POST /{TENANT}/oauth2/v2.0/token HTTP/1.1\n")), "{}", asked.head);
    assert_eq!(asked.field("grant_type"), "client_credentials");
    assert_eq!(asked.field("client_id"), CLIENT);
    assert_eq!(asked.field("client_secret"), SECRET);
    assert_eq!(asked.field("scope"), "https://servicebus.azure.net/.default");
    assert!(giver.was_left_alone(), "one token does for all");
}

#[tokio::test]
async fn the_token_goes_to_the_namespace_as_a_bearer() {
    let giver = Giver::start(|_| Some(token(TOKEN, 3600))).await;
    let mut namespace = Giver::start_plain(|_| Some(http("429 Too Many Requests\r\nRetry-After: 3", ""))).await;
    let identity = identity(&giver, client_secret()).expect("an identity");
    let address = Namespace::parse(&format!("127.0.0.1:{}", namespace.port)).expect("an address").over_plain_http();
    let client = AdministrationClient::connect(address, identity.into(), patient()).expect("a client");
    let error = client.subscription("events", "audit").await.expect_err("throttled");
    assert!(matches!(&error, AdministrationError::Throttled { retry_after: Some(wait), .. } if wait.as_secs() == 3));
    let asked = namespace.asked().await;
    assert!(asked.head.starts_with("GET /events/Subscriptions/audit?api-version="), "{}", asked.head);
    assert!(asked.head.contains(&format!("authorization: bearer {}", TOKEN.to_lowercase())), "{}", asked.head);
}

#[tokio::test]
async fn a_workload_identity_shows_its_token_file_as_it_is_now() {
    let broker = broker().await;
    // The first token is renewed after half a second.
    let mut giver = Giver::start(|number| Some(token(TOKEN, if number == 1 { 1 } else { 3600 }))).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "service-account-1\n").expect("written");
    let workload =
        EntraIdentity::workload_identity(Some(TENANT.to_owned()), Some(CLIENT.to_owned()), Some(file.clone()));
    let identity = identity(&giver, workload.expect("complete")).expect("an identity");
    let reader = reader(&broker, &identity);
    reader.queue("orders").await.expect("let in");
    let asked = giver.asked().await;
    assert_eq!(asked.field("client_assertion"), "service-account-1");
    assert_eq!(asked.field("client_assertion_type"), "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    assert_eq!(asked.field("client_id"), CLIENT);
    std::fs::write(&file, "service-account-2").expect("written");
    let started = Instant::now();
    let second = loop {
        reader.queue("orders").await.expect("let in");
        if let Ok(asked) = tokio::time::timeout(Duration::from_millis(50), giver.asked()).await {
            break asked;
        }
        assert!(started.elapsed() < PATIENT, "the token was not renewed");
    };
    assert_eq!(second.field("client_assertion"), "service-account-2");
}

/// PEM with the test's key and a certificate for it.
fn certificate() -> (String, Vec<u8>) {
    let key = KeyPair::from_pkcs8_pem_and_sign_algo(RSA_KEY, &PKCS_RSA_SHA256).expect("an RSA key");
    let certificate = CertificateParams::new(Vec::new()).expect("parameters").self_signed(&key).expect("signed");
    (format!("{}{RSA_KEY}", certificate.pem()), certificate.der().to_vec())
}

#[tokio::test]
async fn a_client_certificate_signs_an_assertion_that_its_public_key_verifies() {
    let broker = broker().await;
    let mut giver = Giver::start(|_| Some(token(TOKEN, 3600))).await;
    let (pem, der) = certificate();
    let with_certificate = EntraIdentity::ClientCertificate {
        tenant_id: TENANT.to_owned(),
        client_id: CLIENT.to_owned(),
        certificate: pem.into(),
    };
    let identity = identity(&giver, with_certificate).expect("an identity");
    reader(&broker, &identity).queue("orders").await.expect("let in");
    let assertion = giver.asked().await.field("client_assertion");
    let [header, claims, signature] = assertion.split('.').collect::<Vec<_>>()[..] else { panic!("{assertion}") };
    let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).expect("base64");
    let json = |part: &str| -> Value { serde_json::from_slice(&bytes(part)).expect("JSON") };
    let key = PrivatePkcs8KeyDer::from_pem_slice(RSA_KEY.as_bytes()).expect("a key");
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).expect("an RSA key");
    UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key.public_key().as_ref())
        .verify(format!("{header}.{claims}").as_bytes(), &bytes(signature))
        .expect("signed by the certificate's key");
    let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(&der));
    assert_eq!(json(header), serde_json::json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint }));
    let claims = json(claims);
    assert_eq!(claims["aud"], format!("{}/{TENANT}/oauth2/v2.0/token", giver.address()));
    assert_eq!((&claims["iss"], &claims["sub"]), (&Value::from(CLIENT), &Value::from(CLIENT)));
    assert_eq!(claims["exp"].as_u64(), claims["nbf"].as_u64().map(|from| from + 300));
    assert_eq!(claims["jti"].as_str().map(str::len), Some(36));
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_told_apart() {
    let (pem, _) = certificate();
    let certificate_alone = pem.replace(RSA_KEY, "");
    let elliptic = KeyPair::generate().expect("a key");
    let other = CertificateParams::new(Vec::new()).expect("parameters").self_signed(&elliptic).expect("signed").pem();
    let giver = Giver::start(|_| None).await;
    for (pem, expected) in [
        (String::new(), "there is no certificate in it"),
        (RSA_KEY.to_owned(), "there is no certificate in it"),
        (certificate_alone.clone(), "there is no private key in it"),
        (format!("{certificate_alone}{}", elliptic.serialize_pem()), "an RSA key of 2048 to 4096 bits"),
        (format!("{other}{RSA_KEY}"), "do not belong together"),
    ] {
        let with_certificate = EntraIdentity::ClientCertificate {
            tenant_id: TENANT.to_owned(),
            client_id: CLIENT.to_owned(),
            certificate: pem.into(),
        };
        let error = identity(&giver, with_certificate).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// Runs one test of this file in a process of its own, with these variables; gives what it printed.
async fn once_more(test: &str, environment: &[(&str, &str)]) -> String {
    let child = tokio::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "--nocapture", test])
        .env_remove("IDENTITY_SERVER_THUMBPRINT")
        .env_remove("AZURE_TENANT_ID")
        .env_remove("AZURE_CLIENT_ID")
        .env_remove("AZURE_FEDERATED_TOKEN_FILE")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENT, child).await.expect("in time").expect("ran");
    testbench::keep("entra", &output);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    said
}

/// Set in the process whose environment is that of a container with a managed identity.
const MANAGED: &str = "SERVICEBUS_TEST_MANAGED_IDENTITY";

/// Where the metadata service is, a managed identity reads in the environment, so this test runs itself once more.
#[tokio::test]
async fn a_managed_identity_asks_the_metadata_service() {
    if let Ok(broker) = std::env::var(MANAGED) {
        let managed = EntraIdentity::ManagedIdentity { client_id: Some(CLIENT.to_owned()) };
        let identity = Entra::new(managed, EntraOptions::default()).expect("an identity");
        let namespace = Namespace::parse(&broker).expect("an address").over_plain_http();
        let client = AdministrationClient::connect(namespace, identity.into(), patient()).expect("a client");
        assert_eq!(client.queue("orders").await.expect("let in").name, "orders");
        return;
    }
    let broker = broker().await;
    let end = std::time::SystemTime::now() + Duration::from_hours(1);
    let end = end.duration_since(std::time::SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let body = format!(
        r#"{{"access_token":"{TOKEN}","expires_on":"{end}","token_type":"Bearer","resource":"https://servicebus.azure.net"}}"#
    );
    let mut giver = Giver::start_plain(move |_| Some(http("200 OK", &body))).await;
    let address = broker.addresses()[0].to_string();
    let endpoint = format!("http://localhost:{}/msi/token", giver.port);
    let environment =
        [(MANAGED, address.as_str()), ("IDENTITY_ENDPOINT", &endpoint), ("IDENTITY_HEADER", "from-the-environment")];
    once_more("a_managed_identity_asks_the_metadata_service", &environment).await;
    let asked = giver.asked().await;
    let line = asked.head.lines().next().expect("a line");
    assert!(line.starts_with("GET /msi/token?") && line.contains(&format!("client_id={CLIENT}")), "{line}");
    assert!(line.contains("resource=https%3A%2F%2Fservicebus.azure.net"), "{line}");
    assert!(asked.head.contains("x-identity-header: from-the-environment"), "{}", asked.head);
}

/// Set in the process whose environment has one part of a workload identity and lacks another.
const WORKLOAD: &str = "SERVICEBUS_TEST_WORKLOAD_IDENTITY";

#[tokio::test]
async fn a_workload_identity_is_completed_from_the_environment_or_says_what_is_missing() {
    let workload = || EntraIdentity::workload_identity(None, None, None);
    match std::env::var(WORKLOAD).as_deref() {
        Ok("complete") => {
            let identity = workload().expect("complete");
            let EntraIdentity::WorkloadIdentity { tenant_id, client_id, token_file } = identity else { panic!() };
            assert_eq!((tenant_id.as_str(), client_id.as_str()), (TENANT, CLIENT));
            return assert_eq!(token_file.to_str(), Some("/var/run/token"));
        }
        Ok(missing) => {
            let error = workload().expect_err("incomplete").to_string();
            return assert!(
                error.starts_with(&format!("the workload identity has no {missing}: give it, or")),
                "{error}"
            );
        }
        Err(_) => {}
    }
    let test = "a_workload_identity_is_completed_from_the_environment_or_says_what_is_missing";
    let tenant = ("AZURE_TENANT_ID", TENANT);
    let client = ("AZURE_CLIENT_ID", CLIENT);
    let file = ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/token");
    once_more(test, &[(WORKLOAD, "complete"), tenant, client, file]).await;
    once_more(test, &[(WORKLOAD, "tenant id"), client, file]).await;
    once_more(test, &[(WORKLOAD, "client id"), tenant, ("AZURE_CLIENT_ID", ""), file]).await;
    once_more(test, &[(WORKLOAD, "token file"), tenant, client]).await;
}

#[tokio::test]
async fn a_token_file_that_cannot_be_used_is_named_in_the_log_alone() {
    let (logged, log) = std::sync::mpsc::channel();
    let subscriber = tracing_subscriber::fmt().with_writer(move || Lines(logged.clone())).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let folder = tempfile::tempdir().expect("a folder");
    let (empty, large) = (folder.path().join("empty"), folder.path().join("large"));
    std::fs::write(&empty, " \n").expect("written");
    std::fs::write(&large, "x".repeat(70_000)).expect("written");
    let broker = broker().await;
    for (file, expected) in [
        (folder.path().join("nowhere"), "No such file or directory"),
        (empty, "it is empty"),
        (large, "it is larger than 64 KiB, so no token"),
    ] {
        let mut giver = Giver::start(|_| Some(token(TOKEN, 3600))).await;
        let ids = (Some(TENANT.to_owned()), Some(CLIENT.to_owned()));
        let workload = EntraIdentity::workload_identity(ids.0, ids.1, Some(file.clone())).expect("complete");
        let identity = identity(&giver, workload).expect("an identity");
        let error = reader(&broker, &identity).queue("orders").await.expect_err("no token");
        let AdministrationError::NoToken { source, .. } = &error else { panic!("{error:?}") };
        let (path, text) = (file.to_str().expect("UTF-8"), format!("{source} {source:?}"));
        assert!(text.contains(expected) && !text.contains(path), "{text}");
        let said: String = log.try_iter().collect();
        assert!(said.contains(expected) && said.contains(path), "{said}");
        assert!(!source.is_transient() && giver.was_left_alone());
    }
}

/// What is logged on this thread, for a test to read.
struct Lines(std::sync::mpsc::Sender<String>);

impl std::io::Write for Lines {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.send(String::from_utf8_lossy(text).into_owned());
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_is_missing_or_wrong_of_an_identity_is_named() {
    let new = |identity| Entra::new(identity, EntraOptions::default()).expect_err("wrong").to_string();
    let secret = |tenant: &str, client: &str, secret: &str| EntraIdentity::ClientSecret {
        tenant_id: tenant.to_owned(),
        client_id: client.to_owned(),
        secret: secret.into(),
    };
    for (identity, expected) in [
        (secret("", CLIENT, SECRET), "the tenant id of the client secret identity must be a GUID or a domain name"),
        (secret("../evil", CLIENT, SECRET), "the tenant id of the client secret identity must be"),
        (secret("..", CLIENT, SECRET), "the tenant id of the client secret identity must be"),
        (secret(TENANT, "", SECRET), "the client id of the client secret identity must be the GUID"),
        (secret(TENANT, "a b", SECRET), "the client id of the client secret identity must be the GUID"),
        (secret(TENANT, CLIENT, ""), "the secret of the client secret identity must be the value of a client secret"),
        (
            EntraIdentity::WorkloadIdentity {
                tenant_id: TENANT.to_owned(),
                client_id: CLIENT.to_owned(),
                token_file: SECRET.into(),
            },
            "the token file of the workload identity must be the absolute path",
        ),
        (
            EntraIdentity::ManagedIdentity { client_id: Some(String::new()) },
            "the client id of the managed identity must be",
        ),
    ] {
        let text = new(identity);
        assert!(text.starts_with(expected) && !text.contains(SECRET), "{text}");
    }
}

/// What a read says when the giver answers so.
async fn refusal(answer: Option<String>, timeout: Duration) -> EntraError {
    let broker = broker().await;
    let giver = Giver::start(move |_| answer.clone()).await;
    let identity = identity(&giver, client_secret()).expect("an identity");
    let namespace = Namespace::parse(&broker.addresses()[0].to_string()).expect("an address").over_plain_http();
    let options = AdministrationOptions { timeout, ..AdministrationOptions::default() };
    let client = AdministrationClient::connect(namespace, identity.into(), options).expect("a client");
    let error = client.queue("orders").await.expect_err("no token");
    assert!(!format!("{error:?} {error} {client:?}").contains(SECRET));
    let AdministrationError::NoToken { host, source } = error else { panic!("{error:?}") };
    assert_eq!(host, "127.0.0.1");
    assert_eq!(broker.counters().total.operations, 0, "the namespace was not asked");
    source
}

#[tokio::test]
async fn refusals_are_told_with_their_reason_and_do_not_repeat_the_secret() {
    let body = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.\r\nTrace ID: 1","error_codes":[7000215]}"#;
    let error = refusal(Some(http("401 Unauthorized", body)), PATIENT).await;
    assert!(matches!(error, EntraError::Refused { status: 401, .. }), "{error:?}");
    assert!(!error.is_transient());
    assert_eq!(
        error.to_string(),
        "localhost refused a token to the client secret identity (HTTP 401): AADSTS7000215: Invalid client secret \
         provided.  Trace ID: 1"
    );
    let error = refusal(Some(http("429 Too Many Requests", "<html>")), PATIENT).await;
    assert!(matches!(error, EntraError::Refused { status: 429, .. }) && error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn a_redirect_of_the_giver_is_refused_and_the_secret_stays() {
    let mut elsewhere = Giver::start(|_| Some(token(TOKEN, 3600))).await;
    let answer = http(&format!("307 Temporary Redirect\r\nLocation: {}/token", elsewhere.address()), "");
    let error = refusal(Some(answer), PATIENT).await;
    assert!(matches!(error, EntraError::Refused { status: 307, .. }), "{error:?}");
    assert!(error.to_string().ends_with("a redirect, which is not followed"), "{error}");
    assert!(elsewhere.was_left_alone());
}

#[tokio::test]
async fn answers_that_are_no_token_are_malformed_and_not_repeated() {
    for body in [
        "PLANTED~nonsense".to_owned(),
        "{}".to_owned(),
        r#"{"access_token":5,"expires_in":3600}"#.to_owned(),
        r#"{"access_token":"PLANTED~a b","expires_in":3600}"#.to_owned(),
        r#"{"access_token":"PLANTED~token","expires_in":0}"#.to_owned(),
        r#"{"access_token":"PLANTED~token","expires_in":"PLANTED~soon"}"#.to_owned(),
        format!(r#"{{"access_token":"{}","expires_in":3600}}"#, "x".repeat(70_000)),
    ] {
        let error = refusal(Some(http("200 OK", &body)), PATIENT).await;
        assert!(matches!(error, EntraError::Malformed { .. }), "{error:?}");
        assert!(!format!("{error:?} {error}").contains("PLANTED~"), "{error}");
    }
}

#[tokio::test]
async fn a_giver_that_says_nothing_ends_in_the_reader_s_own_deadline() {
    let deadline = Duration::from_millis(300);
    let error = refusal(None, deadline).await;
    assert!(matches!(&error, EntraError::Timeout { after, .. } if *after == deadline), "{error:?}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_giver_that_is_not_trusted_or_not_there_is_unavailable() {
    let mut giver = Giver::start(|_| Some(token(TOKEN, 3600))).await;
    let stranger = Giver::start(|_| None).await;
    let nobody = Nobody::start();
    let nowhere = format!("https://localhost:{}", nobody.address().port());
    let broker = broker().await;
    for (address, expected) in [(giver.address(), "invalid peer certificate"), (nowhere, "refused")] {
        let authority = Authority::parse(&address).expect("an authority");
        let options = EntraOptions { authority, timeout: PATIENT, extra_roots: stranger.roots() };
        let identity = Entra::new(client_secret(), options).expect("an identity");
        let error = reader(&broker, &identity).queue("orders").await.expect_err("no token");
        let AdministrationError::NoToken { source, .. } = &error else { panic!("{error:?}") };
        assert!(matches!(source, EntraError::Unavailable { .. }) && source.is_transient(), "{source:?}");
        assert!(source.to_string().contains(expected), "{source}");
    }
    assert!(giver.was_left_alone(), "nothing is sent to whom nobody vouches for");
}
