//! The administration client against the real broker, and against servers that misbehave.

use std::time::{Duration, Instant};

use broker::{Broker, Options, QueueOptions};
use servicebus::{
    AdministrationClient, AdministrationError, AdministrationOptions, ConnectionString, EntityCounts, EntityName,
    EntityStatus, NewQueue,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// A busy machine must not fail a test that is not about deadlines.
const PATIENT: Duration = Duration::from_secs(30);

fn client(connection: &str, options: AdministrationOptions) -> AdministrationClient {
    let connection = ConnectionString::parse(connection).expect("a connection string");
    AdministrationClient::with_options(&connection, options).expect("a client")
}

fn patient() -> AdministrationOptions {
    AdministrationOptions { timeout: PATIENT, ..AdministrationOptions::default() }
}

async fn broker_with(queues: &[&str]) -> (Broker, AdministrationClient) {
    let queues = queues.iter().map(|name| QueueOptions::new(*name)).collect();
    let broker = Broker::start(Options { queues, ..Options::default() }).await.expect("a broker");
    let client = client(broker.connection_string(), patient());
    (broker, client)
}

#[tokio::test]
async fn a_queue_is_described_made_and_removed() {
    let (_broker, client) = broker_with(&["orders"]).await;
    let queue = client.queue("orders").await.expect("described");
    assert_eq!(
        (queue.name.as_str(), queue.counts, queue.status),
        ("orders", EntityCounts::default(), EntityStatus::Active)
    );
    assert_eq!((queue.lock_duration, queue.max_delivery_count), (Duration::from_mins(1), 10));
    assert!(!queue.requires_session);

    let error = client.queue("nowhere").await.expect_err("there is none");
    assert!(
        matches!(&error, AdministrationError::NotFound { entity, .. } if *entity == EntityName::queue("nowhere")),
        "{error:?}"
    );
    assert!(!error.is_transient());

    let new =
        NewQueue { lock_duration: Some(Duration::from_secs(30)), max_delivery_count: Some(3), ..NewQueue::default() };
    let made = client.create_queue("area/invoices", &new).await.expect("made");
    assert_eq!((made.lock_duration, made.max_delivery_count), (Duration::from_secs(30), 3));
    let error = client.create_queue("area/invoices", &new).await.expect_err("it exists");
    assert!(matches!(error, AdministrationError::AlreadyExists { .. }), "{error:?}");
    assert_eq!(client.queue("area/invoices").await.expect("described"), made);
    client.delete_queue("area/invoices").await.expect("removed");
    let error = client.delete_queue("area/invoices").await.expect_err("removed before");
    assert!(matches!(error, AdministrationError::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn queues_are_listed_page_by_page() {
    let names: Vec<String> = (0..7).map(|index| format!("queue-{index}")).collect();
    let (broker, _) = broker_with(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for page_size in [1, 3, 7, 100] {
        let client = client(broker.connection_string(), AdministrationOptions { page_size, ..patient() });
        let (mut pages, mut found) = (client.queues(), Vec::new());
        while let Some(page) = pages.next().await.expect("a page") {
            assert!((1..=page_size as usize).contains(&page.len()), "{} queues on a page of {page_size}", page.len());
            found.extend(page.into_iter().map(|queue| queue.name));
        }
        assert_eq!(found, names, "pages of {page_size}");
        assert!(pages.next().await.expect("over").is_none());
    }
    let (_broker, client) = broker_with(&[]).await;
    assert!(client.queues().next().await.expect("a page").is_none(), "no queues");
}

#[tokio::test]
async fn a_wrong_key_is_unauthorized_and_not_shown() {
    let (broker, _) = broker_with(&["orders"]).await;
    let address = broker.addresses()[0];
    let wrong = format!(
        "Endpoint=sb://{address};SharedAccessKeyName={};SharedAccessKey=V1JPTkctS0VZ;UseDevelopmentEmulator=true",
        broker::EMULATOR_KEY_NAME
    );
    let error = client(&wrong, patient()).queue("orders").await.expect_err("a wrong key");
    assert!(matches!(error, AdministrationError::Unauthorized { status: 401, .. }), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("V1JPTkctS0VZ"), "{error:?}");
}

/// A server that gives every connection the same answer, and passes on what it was asked. `None` leaves it without one.
async fn server(answer: Option<String>) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (asked, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut unanswered = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 16 << 10];
            let Ok(count) = stream.read(&mut request).await else { continue };
            let _ = asked.send(String::from_utf8_lossy(&request[..count]).into_owned());
            match &answer {
                // The client may leave before it has read everything.
                Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
                None => unanswered.push(stream),
            }
        }
    });
    let text = format!("Endpoint=sb://{address};SharedAccessKeyName=n;SharedAccessKey=k;UseDevelopmentEmulator=true");
    (text, requests)
}

fn http(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn throttling_comes_with_the_time_to_wait() {
    for (head, status, wait) in [
        ("429 Too Many Requests\r\nRetry-After: 7", 429, Some(Duration::from_secs(7))),
        ("503 Service Unavailable", 503, None),
        ("429 Too Many Requests\r\nRetry-After: soon", 429, None),
    ] {
        let (connection, _) =
            server(Some(http(head, "<Error><Code>50004</Code><Detail>throttled</Detail></Error>"))).await;
        let error = client(&connection, patient()).queue("orders").await.expect_err(head);
        assert!(error.is_transient());
        assert!(error.to_string().ends_with(": throttled"), "{error}");
        let AdministrationError::Throttled { status: got, retry_after, .. } = error else { panic!("{error:?}") };
        assert_eq!((got, retry_after), (status, wait), "{head}");
    }
}

#[tokio::test]
async fn statuses_that_stay_are_told_apart() {
    for (head, check) in [
        (
            "401 Unauthorized",
            (|error| matches!(error, AdministrationError::Unauthorized { status: 401, .. })) as fn(&_) -> bool,
        ),
        ("403 Forbidden", |error| matches!(error, AdministrationError::Unauthorized { status: 403, .. })),
        ("404 Not Found", |error| matches!(error, AdministrationError::NotFound { .. })),
        ("400 Bad Request", |error| matches!(error, AdministrationError::Refused { status: 400, .. })),
        ("500 Internal Server Error", |error| matches!(error, AdministrationError::Refused { status: 500, .. })),
    ] {
        let (connection, _) = server(Some(http(head, ""))).await;
        let error = client(&connection, patient()).queue("orders").await.expect_err(head);
        assert!(check(&error), "{head}: {error:?}");
    }
}

#[tokio::test]
async fn an_empty_feed_is_a_queue_that_does_not_exist() {
    let feed =
        r#"<feed xmlns="http://www.w3.org/2005/Atom"><title type="text">Publicly Listed Services</title></feed>"#;
    let (connection, mut requests) = server(Some(http("200 OK", feed))).await;
    let error = client(&connection, patient()).queue("orders").await.expect_err("an empty feed");
    assert!(matches!(error, AdministrationError::NotFound { .. }), "{error:?}");
    let request = requests.recv().await.expect("asked");
    assert!(request.starts_with("GET /orders?api-version=2021-05 HTTP/1.1"), "{request}");
    assert!(request.to_lowercase().contains("authorization: sharedaccesssignature sr="), "{request}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_unavailable_in_time() {
    let (connection, _requests) = server(None).await;
    let options = AdministrationOptions { timeout: Duration::from_millis(300), ..AdministrationOptions::default() };
    let started = Instant::now();
    let error = client(&connection, options).queue("orders").await.expect_err("silence");
    assert!(matches!(error, AdministrationError::Timeout { .. }), "{error:?}");
    assert!(error.is_transient() && error.to_string().contains("300ms"), "{error}");
    assert!(started.elapsed() < PATIENT, "{:?}", started.elapsed());
}

#[tokio::test]
async fn nobody_at_the_port_is_unavailable() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = unused.local_addr().expect("bound");
    drop(unused);
    let text = format!("Endpoint=sb://{address};SharedAccessKeyName=n;SharedAccessKey=k;UseDevelopmentEmulator=true");
    let error = client(&text, patient()).queue("orders").await.expect_err("nobody is there");
    assert!(matches!(error, AdministrationError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("cannot connect to port {}", address.port())), "{error}");
}

#[tokio::test]
async fn a_redirect_is_refused_and_the_credential_stays_here() {
    let (elsewhere, mut stolen) = server(Some(http("200 OK", ""))).await;
    let elsewhere = ConnectionString::parse(&elsewhere).expect("a connection string").namespace();
    let answer = format!("302 Found\r\nLocation: {}/orders?sig=SECRET", elsewhere.administration_url());
    let (connection, mut asked) = server(Some(http(&answer, ""))).await;
    let error = client(&connection, patient()).queue("orders").await.expect_err("a redirect");
    let AdministrationError::Redirected { status: 302, target, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*target, elsewhere.to_string());
    assert!(!error.is_transient() && !format!("{error:?}{error}").contains("SECRET"), "{error:?}");
    assert!(asked.recv().await.is_some());
    assert!(stolen.try_recv().is_err(), "the redirect was followed");
}

#[tokio::test]
async fn an_answer_beyond_the_limit_or_no_atom_is_malformed() {
    let options = || AdministrationOptions { max_response_bytes: 10_000, ..patient() };
    for (body, expected) in [
        ("x".repeat(10_001), "longer than 10000 bytes"),
        ("<entry>".to_owned(), ""),
        ("hello".to_owned(), "not XML"),
        ("<a>".repeat(3_000), "root element"),
    ] {
        let (connection, _requests) = server(Some(http("200 OK", &body))).await;
        let error = client(&connection, options()).queue("orders").await.expect_err("no entry");
        assert!(matches!(error, AdministrationError::Malformed { .. }), "{error:?}");
        assert!(error.to_string().contains(expected) && !error.to_string().contains('\n'), "{error}");
    }
    // Endless, and without a length that would give it away.
    let endless = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "y".repeat(5 << 20));
    let (connection, _requests) = server(Some(endless)).await;
    let error = client(&connection, options()).queue("orders").await.expect_err("endless");
    assert!(matches!(error, AdministrationError::Malformed { .. }), "{error:?}");
}
