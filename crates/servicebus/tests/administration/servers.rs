//! Servers that misbehave: what each does to the client, and that the credential goes nowhere else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use servicebus::{AdministrationError, AdministrationOptions, ConnectionString};
use testbench::Nobody;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{Barrier, mpsc, watch};

use crate::{PATIENT, client, patient};

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

/// Of many connections that were needed at a time, few are kept for the next requests.
#[tokio::test]
async fn few_connections_stay_open_that_nobody_uses() {
    const READS: usize = 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let open = watch::Sender::new(0);
    let counted = open.clone();
    tokio::spawn(async move {
        let all_are_there = Arc::new(Barrier::new(READS));
        while let Ok((mut stream, _)) = listener.accept().await {
            let (open, all_are_there) = (counted.clone(), Arc::clone(&all_are_there));
            tokio::spawn(async move {
                open.send_modify(|open| *open += 1);
                let mut request = vec![0; 16 << 10];
                let _: std::io::Result<usize> = stream.read(&mut request).await;
                all_are_there.wait().await;
                let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
                let _: std::io::Result<()> = stream.write_all(answer).await;
                // Until the client closes it.
                let _: std::io::Result<usize> = stream.read(&mut request).await;
                open.send_modify(|open| *open -= 1);
            });
        }
    });
    let text = format!("Endpoint=sb://{address};SharedAccessKeyName=n;SharedAccessKey=k;UseDevelopmentEmulator=true");
    let client = client(&text, patient());
    let reads: Vec<_> = (0..READS)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.queue("orders").await.map(drop) })
        })
        .collect();
    for read in reads {
        let answer = read.await.expect("no panic");
        assert!(matches!(answer, Err(AdministrationError::NotFound { .. })), "{answer:?}");
    }
    let mut seen = open.subscribe();
    let few = tokio::time::timeout(PATIENT, seen.wait_for(|open| *open <= 4)).await;
    assert!(few.is_ok(), "{} stay open", *open.borrow());
}

#[tokio::test]
async fn nobody_at_the_port_is_unavailable() {
    let nobody = Nobody::start();
    let address = nobody.address();
    let text = format!("Endpoint=sb://{address};SharedAccessKeyName=n;SharedAccessKey=k;UseDevelopmentEmulator=true");
    let error = client(&text, patient()).queue("orders").await.expect_err("nobody is there");
    assert!(matches!(error, AdministrationError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("cannot connect to port {}", address.port())), "{error}");
}

#[tokio::test]
async fn a_redirect_is_refused_and_the_credential_stays_here() {
    let (elsewhere, mut stolen) = server(Some(http("200 OK", ""))).await;
    let elsewhere = ConnectionString::parse(&elsewhere).expect("a connection string").namespace();
    let answer = format!("302 Found\r\nLocation: {}/orders?sig=PLANTED", elsewhere.administration_url());
    let (connection, mut asked) = server(Some(http(&answer, ""))).await;
    let error = client(&connection, patient()).queue("orders").await.expect_err("a redirect");
    let AdministrationError::Redirected { status: 302, target, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*target, elsewhere.to_string());
    assert!(!error.is_transient() && !format!("{error:?}{error}").contains("PLANTED"), "{error:?}");
    assert!(asked.recv().await.is_some());
    assert!(stolen.try_recv().is_err(), "the redirect was followed");
}

#[tokio::test]
async fn a_listing_below_a_topic_that_does_not_exist_is_not_found() {
    let nothing =
        r#"<feed xmlns="http://www.w3.org/2005/Atom"><title type="text">Publicly Listed Services</title></feed>"#;
    let none = r#"<feed xmlns="http://www.w3.org/2005/Atom"><title type="text">Subscriptions</title></feed>"#;
    let (connection, mut requests) = server(Some(http("200 OK", nothing))).await;
    let client = client(&connection, patient());
    let error = client.subscriptions("events").next().await.expect_err("no such topic");
    assert!(error.to_string().starts_with("topic \"events\" does not exist on 127.0.0.1"), "{error}");
    let request = requests.recv().await.expect("asked");
    assert!(request.starts_with("GET /events/Subscriptions?api-version=2021-05&%24skip=0&%24top=100 "), "{request}");
    assert!(client.queues().next().await.expect("a namespace without queues").is_none());
    let (connection, _requests) = server(Some(http("200 OK", none))).await;
    let client = crate::client(&connection, patient());
    assert!(client.subscriptions("events").next().await.expect("a topic without subscriptions").is_none());
    let (connection, _requests) = server(Some(http("404 Not Found", ""))).await;
    let error = crate::client(&connection, patient()).subscriptions("events").next().await.expect_err("no such topic");
    assert!(matches!(error, AdministrationError::NotFound { .. }), "{error:?}");
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
