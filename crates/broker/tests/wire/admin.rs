//! The administration API over plain HTTP.

use broker::EMULATOR_KEY_NAME;

use super::broker_with;
use super::client::{in_seconds, token, token_with};
use super::http::{call, get, raw};

/// A PUT that asks for nothing in particular.
pub(crate) const EMPTY_DESCRIPTION: &str = "<entry xmlns=\"http://www.w3.org/2005/Atom\"><content type=\"application/xml\">\
    <QueueDescription xmlns=\"http://schemas.microsoft.com/netservices/2010/10/servicebus/connect\"/></content></entry>";

fn description(inner: &str) -> String {
    described("Queue", inner)
}

/// The body of a PUT for an entity of this kind.
pub(crate) fn described(kind: &str, inner: &str) -> String {
    let whole = format!(
        "<{kind}Description xmlns=\"http://schemas.microsoft.com/netservices/2010/10/servicebus/connect\">{inner}</{kind}Description>"
    );
    format!("<entry xmlns=\"http://www.w3.org/2005/Atom\"><content type=\"application/xml\">{whole}</content></entry>")
}

#[tokio::test]
async fn a_queue_is_created_read_changed_and_deleted() {
    let broker = broker_with(&[]).await;
    let address = broker.addresses()[0];
    let body = description("<LockDuration>PT30S</LockDuration><MaxDeliveryCount>3</MaxDeliveryCount>");
    let created = call(address, "PUT", "/My%2FQueue?api-version=2021-05", "", &body).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert!(created.head.to_lowercase().contains("content-type: application/atom+xml;type=entry;charset=utf-8"));
    assert_eq!(call(address, "PUT", "/my/queue", "", &body).await.status, 409);

    let read = get(address, "/MY/QUEUE?api-version=2024-05&enrich=false").await;
    assert_eq!(read.status, 200);
    assert!(read.body.contains("<title type=\"text\">My/Queue</title>"), "{}", read.body);
    assert_eq!(read.element("id"), format!("http://{address}/My/Queue?api-version=2024-05"));
    assert_eq!((read.element("LockDuration"), read.element("MaxDeliveryCount")), ("PT30S", "3"));
    assert_eq!(read.element("AccessedAt"), "0001-01-01T00:00:00Z");

    let change = description("<MaxDeliveryCount>7</MaxDeliveryCount><UserMetadata>a &lt; b</UserMetadata>");
    let changed = call(address, "PUT", "/my/queue", "If-Match: *\r\n", &change).await;
    assert_eq!(changed.status, 200);
    assert_eq!((changed.element("MaxDeliveryCount"), changed.element("LockDuration")), ("7", "PT30S"));
    assert_eq!(changed.element("UserMetadata"), "a &lt; b");

    assert_eq!(call(address, "DELETE", "/my/queue", "", "").await.status, 200);
    for (method, headers, body) in [("GET", "", ""), ("DELETE", "", ""), ("PUT", "If-Match: *\r\n", change.as_str())] {
        let missing = call(address, method, "/my/queue", headers, body).await;
        assert_eq!(missing.status, 404, "{method}");
        assert!(missing.element("Detail").starts_with("No service is hosted at the specified address."));
    }
}

#[tokio::test]
async fn a_description_has_its_elements_in_the_order_that_strict_readers_want() {
    let broker = broker_with(&["q"]).await;
    get(broker.addresses()[0], "/q").await.assert_in_order([
        "<id>",
        "<title",
        "<published>",
        "<updated>",
        "<author><name>",
        "<link rel=\"self\"",
        "<content type=\"application/xml\">",
        "<QueueDescription",
        "<LockDuration>PT1M<",
        "<MaxSizeInMegabytes>1024<",
        "<RequiresDuplicateDetection>false<",
        "<RequiresSession>false<",
        "<DefaultMessageTimeToLive>P10675199DT2H48M5.4775807S<",
        "<DeadLetteringOnMessageExpiration>false<",
        "<DuplicateDetectionHistoryTimeWindow>PT10M<",
        "<MaxDeliveryCount>10<",
        "<EnableBatchedOperations>true<",
        "<SizeInBytes>0<",
        "<MessageCount>0<",
        "<IsAnonymousAccessible>false<",
        "<AuthorizationRules/>",
        "<Status>Active<",
        "<CreatedAt>",
        "<UpdatedAt>",
        "<AccessedAt>",
        "<SupportOrdering>true<",
        "<CountDetails xmlns:d2p1=\"http://schemas.microsoft.com/netservices/2011/06/servicebus\">",
        "<d2p1:ActiveMessageCount>0<",
        "<d2p1:DeadLetterMessageCount>0<",
        "<d2p1:ScheduledMessageCount>0<",
        "<d2p1:TransferMessageCount>0<",
        "<d2p1:TransferDeadLetterMessageCount>0<",
        "<AutoDeleteOnIdle>P10675199DT2H48M5.4775807S<",
        "<EnablePartitioning>false<",
        "<EntityAvailabilityStatus>Available<",
        "<EnableExpress>false<",
        "<MaxMessageSizeInKilobytes>256<",
    ]);
}

#[tokio::test]
async fn listings_come_in_pages_and_end_empty() {
    let names: Vec<String> = (0..105).map(|number| format!("q{number:03}")).collect();
    let broker = broker_with(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let address = broker.addresses()[0];
    let entries = |body: &str| body.matches("<entry").count();
    let first = get(address, "/$Resources/Queues?api-version=2021-05").await;
    assert_eq!((first.status, entries(&first.body)), (200, 100));
    assert!(first.head.to_lowercase().contains("type=feed"));
    assert!(first.body.contains("<link rel=\"next\" href=\"") && first.body.contains("$skip=100&amp;$top=100"));
    let second = get(address, "/%24resources/queues?$skip=100&$top=100").await;
    assert_eq!(entries(&second.body), 5);
    assert!(!second.body.contains("rel=\"next\""));
    assert_eq!(entries(&get(address, "/$Resources/Queues?&%24skip=105").await.body), 0);
    assert_eq!(entries(&get(address, "/$Resources/Queues?$skip=3&$top=2").await.body), 2);
    assert_eq!(entries(&get(address, "/$Resources/Topics").await.body), 0);
    assert_eq!(get(address, "/$Resources/Queues?$skip=-1").await.status, 400);
    let info = get(address, "/$namespaceinfo").await;
    assert_eq!((info.status, info.element("MessagingSKU")), (200, "Standard"));
}

#[tokio::test]
async fn only_valid_tokens_are_answered() {
    let broker = broker_with(&["q", "other"]).await;
    let address = broker.addresses()[0];
    let ask = |authorization: String| async move {
        let headers =
            if authorization.is_empty() { String::new() } else { format!("Authorization: {authorization}\r\n") };
        raw(address, "GET", "/q?x=1", &headers, "").await
    };
    for (authorization, wanted) in [
        (String::new(), "MissingToken"),
        (token_with("http://h", EMULATOR_KEY_NAME, "wrong", in_seconds(60)), "InvalidSignature"),
        (token_with("http://h", EMULATOR_KEY_NAME, "SAS_KEY_VALUE", in_seconds(0) - 5), "ExpiredToken"),
        (token("http://h/other"), "Manage,EntityRead claims required"),
        ("Bearer a.b.c".to_owned(), "--accept-any-jwt"),
    ] {
        let answer = ask(authorization.clone()).await;
        assert_eq!(answer.status, 401, "{authorization}");
        assert!(answer.element("Detail").contains(wanted), "{answer:?}");
    }
    // JavaScript signs the whole URL, lower-cased, query and all.
    assert_eq!(ask(token(&format!("https://{address}/q?x=1"))).await.status, 200);
    assert_eq!(raw(address, "GET", "/health", "", "").await.status, 200, "health needs none");
}

#[tokio::test]
async fn what_is_not_supported_or_wrong_is_refused_in_its_own_words() {
    let broker = broker_with(&["q"]).await;
    let address = broker.addresses()[0];
    let session = description("<RequiresSession>true</RequiresSession>");
    let lock = description("<LockDuration>PT10M</LockDuration>");
    let rule = EMPTY_DESCRIPTION.replace("QueueDescription", "RuleDescription");
    let large = "x".repeat(70_000);
    // Written into a listing, either would make it unreadable for everybody.
    let [named, plain] = ["&#x1;", "\u{1}"].map(|text| description(&format!("<UserMetadata>a{text}b</UserMetadata>")));
    for (method, path, body, status, wanted) in [
        ("PUT", "/new", session.as_str(), 501, "RequiresSession"),
        ("PUT", "/new", lock.as_str(), 400, "PT1S to PT5M"),
        ("PUT", "/new", rule.as_str(), 501, "RuleDescription"),
        ("PUT", "/new", "<entry", 400, "XML"),
        ("PUT", "/new", large.as_str(), 413, "65536"),
        ("PUT", "/new", named.as_str(), 400, "character"),
        ("PUT", "/new", plain.as_str(), 400, "character"),
        ("PUT", "/a%20b", EMPTY_DESCRIPTION, 400, "entity name"),
        ("GET", "/t/Subscriptions/s", "", 404, "No service is hosted"),
        ("POST", "/q/messages", "", 501, "over HTTP"),
        ("GET", "/$servicebus/websocket", "", 501, "WebSocket"),
        ("POST", "/q", "", 405, "GET, PUT, DELETE"),
        ("GET", "/", "", 404, "No service is hosted"),
    ] {
        let answer = call(address, method, path, "", body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert!(answer.element("Detail").contains(wanted), "{method} {path}: {}", answer.body);
    }
    assert_eq!(get(address, "/new").await.status, 404, "nothing was created");
}

#[tokio::test]
async fn a_disabled_queue_says_so_to_senders_and_receivers() {
    let broker = broker_with(&["q"]).await;
    let address = broker.addresses()[0];
    let mut client = super::client::Client::login(&broker).await;
    let receiver = client.receiver("q", 1).await;
    let change = description("<Status>Disabled</Status>");
    let changed = call(address, "PUT", "/q", "If-Match: *\r\n", &change).await;
    assert_eq!((changed.status, changed.element("Status")), (200, "Disabled"));
    let error = client.detached(receiver).await.expect("a reason");
    assert_eq!(error.condition.as_str(), "com.microsoft:entity-disabled");
    for attach in [amqp::Attach::sender("s", "here", "q"), amqp::Attach::receiver("r", "q", "here")] {
        let error = client.attach(attach).await.expect_err("disabled");
        assert_eq!(error.condition.as_str(), "com.microsoft:entity-disabled");
    }
}
