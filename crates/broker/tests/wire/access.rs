//! Who may do what: tokens put to `$cbs`, and links that need them.

use amqp::{Attach, DeliveryState, Map, Value};
use broker::{Broker, EMULATOR_KEY, EMULATOR_KEY_NAME, Options, QueueOptions, SharedAccessKey};

use super::broker_with;
use super::client::{Client, in_seconds, message, token, token_with};
use super::http::raw;

/// The condition with which a link to `q` is refused.
async fn refused(client: &mut Client, target: &str) -> String {
    let error = client.attach(Attach::sender(target, "here", target)).await.expect_err(target);
    error.condition.as_str().to_owned()
}

#[tokio::test]
async fn without_a_token_no_entity_link_opens() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::connect(broker.addresses()[0]).await;
    for target in ["q", "q/$management", "missing"] {
        assert_eq!(refused(&mut client, target).await, "amqp:unauthorized-access");
    }
    assert_eq!(client.put_token("sb://h/q", &token("sb://h/q")).await.status(), 202);
    let sender = client.sender("q").await;
    assert_eq!(client.send(sender, &message("1")).await, DeliveryState::Accepted);
    client.node("q/$management").await;
    client.receiver("q/$DeadLetterQueue", 1).await;
}

#[tokio::test]
async fn bad_tokens_are_refused_with_a_reason_and_open_nothing() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::connect(broker.addresses()[0]).await;
    let later = in_seconds(60);
    for (token, status) in [
        (token_with("sb://h/q", EMULATOR_KEY_NAME, "wrong", later), 401),
        (token_with("sb://h/q", "nobody", EMULATOR_KEY, later), 401),
        (token_with("sb://h/q", EMULATOR_KEY_NAME, EMULATOR_KEY, in_seconds(0) - 1), 401),
        (token("sb://h/other"), 401),
        ("aaaa.bbbb.cccc".to_owned(), 401),
        ("SharedAccessSignature sr=a".to_owned(), 400),
        (String::new(), 400),
    ] {
        let reply = client.put_token("sb://h/q", &token).await;
        assert_eq!((reply.status(), reply.condition()), (status, Some("amqp:unauthorized-access")), "{token}");
        let text = reply.application_properties.get("status-description").and_then(amqp::Value::as_str);
        assert!(text.is_some_and(|text| !text.contains(EMULATOR_KEY) && !text.contains("sig=")), "{text:?}");
    }
    assert_eq!(refused(&mut client, "q").await, "amqp:unauthorized-access");
}

#[tokio::test]
async fn a_token_covers_its_entity_only() {
    let broker = broker_with(&["q", "qq"]).await;
    let mut client = Client::connect(broker.addresses()[0]).await;
    // Signed for the namespace, put for one entity's management node.
    let reply = client.put_token("amqp://h/Q/$management", &token("amqps://h")).await;
    assert_eq!(reply.status(), 202);
    client.sender("q").await;
    assert_eq!(refused(&mut client, "qq").await, "amqp:unauthorized-access");
}

/// A token that runs out before both links are open, because the machine stood still, is followed by one that lasts longer.
#[tokio::test]
async fn links_end_when_their_token_does() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::connect(broker.addresses()[0]).await;
    let mut seconds = 2;
    let links = loop {
        let end = in_seconds(seconds);
        let short = token_with("sb://h/q", EMULATOR_KEY_NAME, EMULATOR_KEY, end);
        let answered = client.put_token("sb://h/q", &short).await.status();
        let sender = client.attach(Attach::sender(format!("sender-{seconds}"), "here", "q")).await;
        let receiver = client.attach(Attach::receiver(format!("receiver-{seconds}"), "q", "here")).await;
        if let (202, Ok((sender, _)), Ok((receiver, _))) = (answered, &sender, &receiver) {
            break [*sender, *receiver];
        }
        assert!(in_seconds(0) >= end, "{answered} {sender:?} {receiver:?} while the token is good");
        seconds *= 2;
    };
    for link in links {
        let error = client.detached(link).await.expect("a reason");
        assert_eq!(error.condition.as_str(), "amqp:unauthorized-access");
    }
    assert_eq!(client.put_token("sb://h/q", &token("sb://h/q")).await.status(), 202);
    client.sender("q").await;
}

#[tokio::test]
async fn own_keys_replace_the_well_known_one_and_web_tokens_pass_only_when_asked() {
    let key = SharedAccessKey::new("mine", "PLANTED").expect("valid");
    let options =
        Options { queues: vec![QueueOptions::new("q")], keys: vec![key], accept_any_jwt: true, ..Options::default() };
    let broker = Broker::start(options).await.expect("starts");
    let mut client = Client::connect(broker.addresses()[0]).await;
    assert_eq!(client.put_token("sb://h/q", &token("sb://h/q")).await.status(), 401);
    assert_eq!(
        client.put_token("sb://h/q", &token_with("sb://h/q", "mine", "PLANTED", in_seconds(60))).await.status(),
        202
    );
    let mut other = Client::connect(broker.addresses()[0]).await;
    assert_eq!(other.put_token("sb://h/q", "aaaa.bbbb.cccc").await.status(), 202);
    other.sender("q").await;
    assert!(broker.connection_string().contains("SharedAccessKeyName=mine;SharedAccessKey=PLANTED;"));
    assert!(!format!("{broker:?}").contains("PLANTED"), "no secret in Debug");
}

/// A broker with two queues and a key of each kind; all have the same secret.
async fn broker_with_rights() -> Broker {
    let keys = ["all=PLANTED", "listen=PLANTED,rights=listen", "send=PLANTED,rights=send", "one=PLANTED,entity=q"];
    let keys = keys.map(|key| key.parse::<SharedAccessKey>().expect("valid")).to_vec();
    let queues = ["q", "other"].map(QueueOptions::new).to_vec();
    Broker::start(Options { queues, keys, ..Options::default() }).await.expect("starts")
}

#[tokio::test]
async fn keys_open_the_links_that_they_have_the_right_for() {
    let broker = broker_with_rights().await;
    for (key, may_send, may_receive, may_use_other) in [
        ("all", true, true, true),
        ("listen", false, true, true),
        ("send", true, false, true),
        ("one", true, true, false),
    ] {
        let mut client = Client::connect(broker.addresses()[0]).await;
        let reply = client.put_token("sb://h/q", &token_with("sb://h/", key, "PLANTED", in_seconds(60))).await;
        assert_eq!(reply.status(), 202, "{key}: {reply:?}");
        let opened = client.attach(Attach::sender("s", "here", "q")).await;
        assert_eq!(opened.is_ok(), may_send, "{key}: {opened:?}");
        if let Err(error) = opened {
            assert_eq!(error.condition.as_str(), "amqp:unauthorized-access");
            assert!(error.description.is_some_and(|text| text.contains("'Send' claim(s) are required")));
        }
        let opened = client.attach(Attach::receiver("r", "q/$DeadLetterQueue", "here")).await;
        assert_eq!(opened.is_ok(), may_receive, "{key}: {opened:?}");
        let node = client.node("q/$management").await;
        let range = Map::from([("from-sequence-number", Value::Long(0)), ("message-count", Value::Int(1))]);
        let peeked = client.manage(node, "peek-message", range).await;
        assert_eq!(peeked.status(), if may_receive { 204 } else { 401 }, "{key}");
        // Its arguments are wrong, which is only seen by who may.
        let scheduled = client.manage(node, "schedule-message", Map::default()).await;
        assert_eq!(scheduled.status(), if may_send { 400 } else { 401 }, "{key}");
        let reply = client.put_token("sb://h/other", &token_with("sb://h/", key, "PLANTED", in_seconds(60))).await;
        assert_eq!(reply.status(), if may_use_other { 202 } else { 401 }, "{key}");
    }
}

#[tokio::test]
async fn descriptions_are_read_with_manage_on_the_entity() {
    let broker = broker_with_rights().await;
    let address = broker.addresses()[0];
    for (key, path, status) in [
        ("all", "/q", 200),
        ("all", "/$Resources/Queues", 200),
        ("listen", "/q", 401),
        ("send", "/q", 401),
        ("one", "/Q", 200),
        ("one", "/other", 401),
        ("one", "/$Resources/Queues", 401),
    ] {
        let token = token_with(&format!("https://{address}"), key, "PLANTED", in_seconds(60));
        let answer = raw(address, "GET", path, &format!("Authorization: {token}\r\n"), "").await;
        assert_eq!(answer.status, status, "{key} {path}: {answer:?}");
        if status == 401 {
            assert!(answer.body.contains("Manage,EntityRead claims required for this operation."), "{answer:?}");
        }
    }
}
