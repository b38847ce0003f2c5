//! Topics and subscriptions, over HTTP and AMQP.

use amqp::{Attach, DeliveryState, Map, Value};
use broker::{Broker, Options, SubscriptionOptions};

use super::admin::described;
use super::client::{Client, id_of, message, token};
use super::http::{call, get, raw};

/// A broker with the topic `T` and these subscriptions.
pub(crate) async fn broker_with_topic(subscriptions: &[&str]) -> Broker {
    let subscriptions = subscriptions.iter().map(|name| SubscriptionOptions::new("T", *name)).collect();
    let options = Options { topics: vec!["T".to_owned()], subscriptions, ..Options::default() };
    Broker::start(options).await.expect("the broker starts")
}

/// A schedule-message request for a message that is due at a time in milliseconds.
fn schedule(id: &str, at: i64) -> Map {
    let mut later = message(id);
    later.message_annotations.insert(Value::symbol("x-opt-scheduled-enqueue-time"), Value::Timestamp(at));
    let item = Map::from([("message-id", Value::from(id)), ("message", Value::Binary(later.encode()))]);
    Map::from([("messages", Value::List(vec![Value::Map(item)]))])
}

#[tokio::test]
async fn topics_and_subscriptions_are_created_read_changed_and_deleted() {
    let broker = Broker::start(Options::default()).await.expect("starts");
    let address = broker.addresses()[0];
    let missing = call(address, "PUT", "/area/T/Subscriptions/one", "", &described("Subscription", "")).await;
    assert_eq!(missing.status, 404, "no topic yet");
    let topic = described("Topic", "<UserMetadata>mine</UserMetadata><MaxSizeInMegabytes>5</MaxSizeInMegabytes>");
    let created = call(address, "PUT", "/area%2FT?api-version=2021-05", "", &topic).await;
    assert_eq!((created.status, created.element("UserMetadata")), (201, "mine"));
    for (kind, path) in [("Topic", "/AREA/t"), ("Queue", "/area/T")] {
        assert_eq!(call(address, "PUT", path, "", &described(kind, "")).await.status, 409, "one space of names");
    }
    let body = described("Subscription", "<LockDuration>PT7S</LockDuration><MaxDeliveryCount>3</MaxDeliveryCount>");
    for name in ["one", "Two"] {
        let created = call(address, "PUT", &format!("/area/t/subscriptions/{name}"), "", &body).await;
        assert_eq!(created.status, 201, "{created:?}");
    }
    assert_eq!(call(address, "PUT", "/area/T/Subscriptions/TWO", "", &body).await.status, 409);

    let read = get(address, "/area/T/SUBSCRIPTIONS/two?api-version=2021-05").await;
    assert_eq!((read.status, read.element("LockDuration")), (200, "PT7S"));
    assert!(read.body.contains("<title type=\"text\">Two</title>"), "{}", read.body);
    assert_eq!(read.element("id"), format!("http://{address}/area/T/Subscriptions/Two?api-version=2021-05"));
    let topic = get(address, "/area/t").await;
    assert_eq!((topic.element("SubscriptionCount"), topic.element("MaxSizeInMegabytes")), ("2", "5"));

    let change = described("Subscription", "<MaxDeliveryCount>9</MaxDeliveryCount><Status>Disabled</Status>");
    let changed = call(address, "PUT", "/area/T/Subscriptions/one", "If-Match: *\r\n", &change).await;
    assert_eq!((changed.status, changed.element("MaxDeliveryCount")), (200, "9"));
    assert_eq!((changed.element("LockDuration"), changed.element("Status")), ("PT7S", "Disabled"));
    let change = described("Topic", "<Status>SendDisabled</Status>");
    let changed = call(address, "PUT", "/area/T", "If-Match: *\r\n", &change).await;
    assert_eq!((changed.element("Status"), changed.element("UserMetadata")), ("SendDisabled", "mine"));
    let wrong = call(address, "PUT", "/area/T", "If-Match: *\r\n", &described("Queue", "")).await;
    assert_eq!(wrong.status, 404, "there is no queue of that name");
    assert_eq!(call(address, "PUT", "/area/T/Subscriptions/x", "", &described("Queue", "")).await.status, 400);
    assert_eq!(call(address, "PUT", "/x", "", &described("Subscription", "")).await.status, 400);

    assert_eq!(call(address, "DELETE", "/area/T/Subscriptions/one", "", "").await.status, 200);
    assert_eq!(get(address, "/area/T/Subscriptions/one").await.status, 404);
    assert_eq!(call(address, "DELETE", "/area/T", "", "").await.status, 200);
    for path in ["/area/T", "/area/T/Subscriptions/Two", "/area/T/Subscriptions", "/area/T/Subscriptions/Two/Rules"] {
        assert_eq!(get(address, path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn descriptions_have_their_elements_in_the_order_that_strict_readers_want() {
    let broker = broker_with_topic(&["S"]).await;
    let address = broker.addresses()[0];
    let counts = [
        "<CountDetails xmlns:d2p1=\"http://schemas.microsoft.com/netservices/2011/06/servicebus\">",
        "<d2p1:ActiveMessageCount>0<",
        "<d2p1:DeadLetterMessageCount>0<",
        "<d2p1:ScheduledMessageCount>0<",
        "<d2p1:TransferMessageCount>0<",
        "<d2p1:TransferDeadLetterMessageCount>0<",
    ];
    let topic = [
        "<TopicDescription",
        "<DefaultMessageTimeToLive>P10675199DT2H48M5.4775807S<",
        "<MaxSizeInMegabytes>1024<",
        "<RequiresDuplicateDetection>false<",
        "<DuplicateDetectionHistoryTimeWindow>PT10M<",
        "<EnableBatchedOperations>true<",
        "<SizeInBytes>0<",
        "<FilteringMessagesBeforePublishing>false<",
        "<IsAnonymousAccessible>false<",
        "<AuthorizationRules/>",
        "<Status>Active<",
        "<CreatedAt>",
        "<UpdatedAt>",
        "<AccessedAt>0001-01-01T00:00:00Z<",
        "<SupportOrdering>true<",
    ];
    let topic_end = [
        "<SubscriptionCount>1<",
        "<AutoDeleteOnIdle>P10675199DT2H48M5.4775807S<",
        "<EnablePartitioning>false<",
        "<EntityAvailabilityStatus>Available<",
        "<EnableSubscriptionPartitioning>false<",
        "<EnableExpress>false<",
        "<MaxMessageSizeInKilobytes>256<",
    ];
    let subscription = [
        "<SubscriptionDescription",
        "<LockDuration>PT1M<",
        "<RequiresSession>false<",
        "<DefaultMessageTimeToLive>",
        "<DeadLetteringOnMessageExpiration>false<",
        "<DeadLetteringOnFilterEvaluationExceptions>true<",
        "<MessageCount>0<",
        "<MaxDeliveryCount>10<",
        "<EnableBatchedOperations>true<",
        "<Status>Active<",
        "<CreatedAt>",
        "<UpdatedAt>",
        "<AccessedAt>",
    ];
    let subscription_end = ["<AutoDeleteOnIdle>", "<EntityAvailabilityStatus>Available<"];
    let whole = topic.into_iter().chain(counts).chain(topic_end);
    get(address, "/t").await.assert_in_order(whole);
    let whole = subscription.into_iter().chain(counts).chain(subscription_end);
    get(address, "/t/Subscriptions/s").await.assert_in_order(whole);
}

#[tokio::test]
async fn subscriptions_and_topics_are_listed_in_pages_of_a_hundred() {
    let names: Vec<String> = (0..105).map(|number| format!("s{number:03}")).collect();
    let broker = broker_with_topic(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let address = broker.addresses()[0];
    let entries = |body: &str| body.matches("<entry").count();
    let first = get(address, "/T/Subscriptions?api-version=2021-05").await;
    assert_eq!((first.status, entries(&first.body)), (200, 100));
    let next = format!("http://{address}/T/Subscriptions?$skip=100&amp;$top=100&amp;api-version=2021-05");
    assert!(first.body.contains(&format!("<link rel=\"next\" href=\"{next}\"/>")), "{}", &first.body[..1_000]);
    assert!(first.body.contains("<title type=\"text\">s000</title>"));
    let second = get(address, "/T/subscriptions/?$skip=100&$top=1000").await;
    assert_eq!(entries(&second.body), 5);
    assert!(!second.body.contains("rel=\"next\""));
    assert_eq!(entries(&get(address, "/T/Subscriptions?&$skip=105").await.body), 0);
    assert_eq!(entries(&get(address, "/T/Subscriptions?$top=1000").await.body), 100, "no more than a hundred");
    assert_eq!(entries(&get(address, "/$Resources/Topics").await.body), 1);
    assert_eq!(entries(&get(address, "/$Resources/Queues").await.body), 0, "neither topics nor subscriptions");
}

#[tokio::test]
async fn the_true_rule_can_be_read_and_no_other_be_made() {
    let broker = broker_with_topic(&["s"]).await;
    let address = broker.addresses()[0];
    let rules = get(address, "/T/Subscriptions/s/Rules/").await;
    assert_eq!((rules.status, rules.body.matches("<entry").count()), (200, 1));
    let rule = get(address, "/t/subscriptions/s/rules/$default").await;
    assert_eq!((rule.status, rule.element("Name")), (200, "$Default"));
    assert!(rule.body.contains("<Filter i:type=\"TrueFilter\"><SqlExpression>1=1</SqlExpression>"), "{}", rule.body);
    assert_eq!(rule.element("id"), format!("http://{address}/T/Subscriptions/s/Rules/$Default?api-version=2021-05"));
    let other = described("Rule", "<Filter><SqlExpression>a=1</SqlExpression></Filter><Name>mine</Name>");
    let filtered = described(
        "Subscription",
        "<DefaultRuleDescription><Filter xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\" i:type=\"SqlFilter\">\
         <SqlExpression>a=1</SqlExpression></Filter><Name>$Default</Name></DefaultRuleDescription>",
    );
    for (method, path, body, status, wanted) in [
        ("GET", "/T/Subscriptions/s/Rules/mine", "", 404, "No service is hosted"),
        ("PUT", "/T/Subscriptions/s/Rules/mine", other.as_str(), 501, "Not supported"),
        ("PUT", "/T/Subscriptions/s/Rules/$Default", other.as_str(), 409, "already exists"),
        ("DELETE", "/T/Subscriptions/s/Rules/$Default", "", 501, "Not supported"),
        ("PUT", "/T/Subscriptions/missing/Rules/mine", other.as_str(), 404, "No service is hosted"),
        ("PUT", "/T/Subscriptions/new", filtered.as_str(), 501, "DefaultRuleDescription"),
    ] {
        let answer = call(address, method, path, "", body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert!(answer.element("Detail").contains(wanted), "{method} {path}: {}", answer.body);
    }
    assert_eq!(get(address, "/T/Subscriptions/new").await.status, 404, "nothing was created");
}

#[tokio::test]
async fn every_subscription_gets_a_copy_that_is_received_and_settled_on_its_own() {
    let broker = broker_with_topic(&["a", "b"]).await;
    let address = broker.addresses()[0];
    let mut client = Client::login(&broker).await;
    let sender = client.sender("amqps://h:1/t").await;
    for id in ["1", "2"] {
        assert_eq!(client.send(sender, &message(id)).await, DeliveryState::Accepted);
    }
    assert_eq!(get(address, "/T").await.counts(), [0, 0, 0], "what is active is in the subscriptions");
    assert_eq!(get(address, "/T/Subscriptions/a").await.counts(), [2, 0, 0]);

    let receiver = client.receiver("T/subscriptions/A", 2).await;
    let (first, second) = (client.receive(receiver).await, client.receive(receiver).await);
    assert_eq!((id_of(&first.message).as_str(), first.sequence_number()), ("1", 1));
    client.settle(receiver, first.id, DeliveryState::Accepted).await;
    client.settle(receiver, second.id, DeliveryState::Rejected(None)).await;
    assert_eq!(get(address, "/T/Subscriptions/a").await.counts(), [0, 1, 0]);
    assert_eq!(get(address, "/T/Subscriptions/b").await.counts(), [2, 0, 0], "the other keeps its copies");

    let dead = client.receiver("T/Subscriptions/a/$DeadLetterQueue", 1).await;
    assert_eq!(id_of(&client.receive(dead).await.message), "2");
    let node = client.node("t/subscriptions/b/$management").await;
    let peek = Map::from([("from-sequence-number", Value::Long(2)), ("message-count", Value::Int(5))]);
    let reply = client.manage(node, "peek-message", peek).await;
    assert_eq!(reply.field("messages").as_list().expect("a list").len(), 1);
}

#[tokio::test]
async fn scheduled_messages_wait_in_the_topic() {
    let broker = broker_with_topic(&["a", "b"]).await;
    let address = broker.addresses()[0];
    let mut client = Client::login(&broker).await;
    let node = client.node("t/$management").await;
    let far = 4_102_444_800_000;
    let reply = client.manage(node, "schedule-message", schedule("later", far)).await;
    let number = reply.field("sequence-numbers").as_list().expect("a list")[0].clone();
    assert_eq!(get(address, "/T").await.counts(), [0, 0, 1]);
    assert_eq!(get(address, "/T/Subscriptions/a").await.counts(), [0, 0, 0]);
    let cancel = Map::from([("sequence-numbers", Value::Array(vec![number]))]);
    assert_eq!(client.manage(node, "cancel-scheduled-message", cancel).await.status(), 200);
    assert_eq!(get(address, "/T").await.counts(), [0, 0, 0]);
    let peek = Map::from([("from-sequence-number", Value::Long(0)), ("message-count", Value::Int(5))]);
    let refused = client.manage(node, "peek-message", peek).await;
    assert_eq!((refused.status(), refused.condition()), (400, Some("amqp:not-allowed")));

    let receivers = [client.receiver("t/Subscriptions/a", 1).await, client.receiver("t/Subscriptions/b", 1).await];
    let soon = super::client::in_seconds(1) * 1_000;
    client.manage(node, "schedule-message", schedule("soon", soon as i64)).await;
    for receiver in receivers {
        assert_eq!(id_of(&client.receive(receiver).await.message), "soon");
    }
    assert_eq!(get(address, "/T").await.counts(), [0, 0, 0]);
}

#[tokio::test]
async fn what_topics_and_subscriptions_do_not_do_is_refused() {
    let broker = broker_with_topic(&["s"]).await;
    let mut client = Client::login(&broker).await;
    for (attach, condition) in [
        (Attach::sender("a", "here", "t/Subscriptions/s"), "amqp:not-allowed"),
        (Attach::receiver("b", "t", "here"), "amqp:not-allowed"),
        (Attach::sender("c", "here", "t/Subscriptions/missing"), "amqp:not-found"),
        (Attach::receiver("d", "t/Subscriptions/missing", "here"), "amqp:not-found"),
        (Attach::receiver("e", "t/Subscriptions", "here"), "amqp:not-found"),
        (Attach::receiver("f", "t/$DeadLetterQueue", "here"), "amqp:not-allowed"),
    ] {
        let name = attach.name.clone();
        let error = client.attach(attach).await.expect_err("refused");
        assert_eq!(error.condition.as_str(), condition, "{name}: {error}");
    }
}

#[tokio::test]
async fn a_token_for_a_topic_covers_its_subscriptions_and_not_the_other_way_round() {
    let broker = broker_with_topic(&["s", "ss"]).await;
    let address = broker.addresses()[0];
    let mut client = Client::connect(address).await;
    let refused = |client: &Client, target: &str| (client.session, Attach::sender(target, "here", target));
    let own = "sb://h/T/Subscriptions/S";
    assert_eq!(client.put_token(own, &token(own)).await.status(), 202);
    client.receiver("t/subscriptions/s", 1).await;
    for target in ["t", "t/Subscriptions/ss", "t/Subscriptions/ss/$management"] {
        let (_, attach) = refused(&client, target);
        let error = client.attach(attach).await.expect_err(target);
        assert_eq!(error.condition.as_str(), "amqp:unauthorized-access", "{target}");
    }
    assert_eq!(client.put_token("sb://h/t", &token("sb://h/t")).await.status(), 202);
    client.receiver("t/Subscriptions/ss/$DeadLetterQueue", 1).await;
    client.node("t/Subscriptions/ss/$management").await;
    client.sender("t").await;

    let with = |resource: &str| format!("Authorization: {}\r\n", token(resource));
    for (resource, path, status) in [
        ("http://h/t", "/T/Subscriptions/s", 200),
        ("http://h/t", "/T/Subscriptions", 200),
        ("http://h/t/subscriptions/s", "/T/Subscriptions/s/Rules", 200),
        ("http://h/t/subscriptions/s", "/T/Subscriptions/ss", 401),
        ("http://h/t/subscriptions/s", "/T", 401),
    ] {
        assert_eq!(raw(address, "GET", path, &with(resource), "").await.status, status, "{resource} for {path}");
    }
}

#[tokio::test]
async fn a_disabled_topic_or_subscription_says_so() {
    let broker = broker_with_topic(&["s"]).await;
    let address = broker.addresses()[0];
    let mut client = Client::login(&broker).await;
    let (sender, receiver) = (client.sender("t").await, client.receiver("t/Subscriptions/s", 1).await);
    let disabled = |kind| described(kind, "<Status>Disabled</Status>");
    let active = |kind| described(kind, "<Status>Active</Status>");
    call(address, "PUT", "/t/Subscriptions/s", "If-Match: *\r\n", &disabled("Subscription")).await;
    let error = client.detached(receiver).await.expect("a reason");
    assert_eq!(error.condition.as_str(), "com.microsoft:entity-disabled");
    assert_eq!(
        client.send(sender, &message("1")).await,
        DeliveryState::Accepted,
        "a disabled subscription gets copies"
    );
    assert_eq!(get(address, "/t/Subscriptions/s").await.counts(), [1, 0, 0]);

    call(address, "PUT", "/t/Subscriptions/s", "If-Match: *\r\n", &active("Subscription")).await;
    let receiver = client.receiver("t/Subscriptions/s", 1).await;
    client.receive(receiver).await;
    call(address, "PUT", "/t", "If-Match: *\r\n", &disabled("Topic")).await;
    assert_eq!(client.detached(receiver).await.expect("a reason").condition.as_str(), "com.microsoft:entity-disabled");
    let DeliveryState::Rejected(Some(error)) = client.send(sender, &message("2")).await else { panic!("accepted") };
    assert_eq!(error.condition.as_str(), "com.microsoft:entity-disabled");
}

#[tokio::test]
async fn deleting_a_topic_ends_the_links_of_its_subscriptions() {
    let broker = broker_with_topic(&["a", "b"]).await;
    let mut client = Client::login(&broker).await;
    let links = [client.sender("t").await, client.receiver("t/Subscriptions/a", 1).await];
    let below = client.receiver("t/Subscriptions/b/$DeadLetterQueue", 1).await;
    assert_eq!(call(broker.addresses()[0], "DELETE", "/T", "", "").await.status, 200);
    for link in links.into_iter().chain([below]) {
        assert_eq!(client.detached(link).await.expect("a reason").condition.as_str(), "amqp:not-found");
    }
}

#[tokio::test]
async fn locked_messages_count_as_active_unless_it_was_switched_off() {
    for (active_count_includes_locked, active) in [(true, 2), (false, 1)] {
        let subscriptions = vec![SubscriptionOptions::new("t", "s")];
        let topics = vec!["t".to_owned()];
        let options = Options { topics, subscriptions, active_count_includes_locked, ..Options::default() };
        let broker = Broker::start(options).await.expect("starts");
        let mut client = Client::login(&broker).await;
        let sender = client.sender("t").await;
        for id in ["1", "2"] {
            client.send(sender, &message(id)).await;
        }
        let receiver = client.receiver("t/Subscriptions/s", 1).await;
        client.receive(receiver).await;
        let answer = get(broker.addresses()[0], "/t/Subscriptions/s").await;
        assert_eq!(answer.counts(), [active, 0, 0]);
        assert_eq!(answer.element("MessageCount"), "2");
    }
}
