//! Whatever happens, and however much is logged: no secret and no token in it.

use servicebus::{AdministrationClient, ConnectionString, EntraIdentity};
use tracing_subscriber::filter::LevelFilter;

use crate::giver::{Giver, http, token};
use crate::{
    CLIENT, RSA_KEY, SECRET, TENANT, TOKEN, broker, certificate, client_secret, identity, once_more, patient, reader,
};

/// Set in the process that logs all there is: a log belongs to a process, and other tests log, too.
const LOGGING: &str = "SERVICEBUS_TEST_LOGGING";

#[tokio::test]
async fn no_secret_and_no_token_is_in_the_most_talkative_log() {
    if std::env::var_os(LOGGING).is_some() {
        tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(std::io::stderr).init();
        return be_let_in_and_be_refused().await;
    }
    let text = once_more("silence::no_secret_and_no_token_is_in_the_most_talkative_log", &[(LOGGING, "1")]).await;
    for logged in ["TRACE", "azure_identity", "typespec_client_core", "hyper_util", "AADSTS7000215"] {
        assert!(text.contains(logged), "{logged} says nothing, so this shows nothing: {text}");
    }
    let key_line = RSA_KEY.lines().nth(10).expect("a line of the key");
    for secret in [SECRET, "PLANTED", TOKEN, key_line, broker::EMULATOR_KEY, "SharedAccessSignature sr"] {
        let shown = text.lines().find(|line| line.contains(secret));
        assert!(shown.is_none(), "{secret:?} is in {shown:?}");
    }
}

/// With a client secret, a certificate and a key; then without success.
async fn be_let_in_and_be_refused() {
    let broker = broker().await;
    let giver = Giver::start(|number| match number {
        1 | 2 => Some(token(TOKEN, 3600)),
        _ => Some(http("401 Unauthorized", r#"{"error_description":"AADSTS7000215"}"#)),
    })
    .await;
    let with_certificate = EntraIdentity::ClientCertificate {
        tenant_id: TENANT.to_owned(),
        client_id: CLIENT.to_owned(),
        certificate: certificate().0.into(),
    };
    for kind in [client_secret(), with_certificate] {
        let identity = identity(&giver, kind).expect("an identity");
        reader(&broker, &identity).queue("orders").await.expect("let in");
    }
    let refused = identity(&giver, client_secret()).expect("an identity");
    reader(&broker, &refused).queue("orders").await.expect_err("no token");
    let connection = ConnectionString::parse(broker.connection_string()).expect("the broker's own");
    let client = AdministrationClient::with_options(&connection, patient()).expect("a client");
    client.queue("orders").await.expect("let in");
}
