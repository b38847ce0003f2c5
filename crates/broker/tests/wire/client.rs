//! A raw AMQP client for tests: the protocol engine, a socket, and waits with deadlines.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use amqp::{
    AmqpError, Attach, Body, Connection, DeliveryId, DeliveryState, Event, Incoming, LinkId, Map, Message, Outgoing,
    Properties, SessionId, Value,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use broker::{Broker, EMULATOR_KEY, EMULATOR_KEY_NAME};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long anything may take before a test gives up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A token for `resource` signed with the emulator's key, valid for an hour.
pub(crate) fn token(resource: &str) -> String {
    token_with(resource, EMULATOR_KEY_NAME, EMULATOR_KEY, in_seconds(3_600))
}

/// A token made as a client makes it.
pub(crate) fn token_with(resource: &str, key_name: &str, key: &str, expires: u64) -> String {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let resource = encode(resource);
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("any key");
    mac.update(format!("{resource}\n{expires}").as_bytes());
    let signature = encode(&STANDARD.encode(mac.finalize().into_bytes()));
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expires}&skn={key_name}")
}

/// The Unix time so many seconds from now.
pub(crate) fn in_seconds(seconds: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() + seconds
}

/// A message with a body and an id.
pub(crate) fn message(id: &str) -> Message {
    Message {
        properties: Some(Properties { message_id: Some(Value::from(id)), ..Properties::default() }),
        ..Message::with_body(Body::data(Bytes::copy_from_slice(id.as_bytes())))
    }
}

/// The id of a message received.
pub(crate) fn id_of(message: &Message) -> String {
    let id = message.properties.as_ref().and_then(|properties| properties.message_id.as_ref());
    id.and_then(Value::as_str).expect("a message id").to_owned()
}

/// A delivery received: what settling needs, and the message.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) id: DeliveryId,
    pub(crate) tag: Bytes,
    pub(crate) settled: bool,
    pub(crate) message: Message,
}

impl Received {
    pub(crate) fn sequence_number(&self) -> i64 {
        self.annotation("x-opt-sequence-number").and_then(Value::as_i64).expect("a sequence number")
    }

    pub(crate) fn locked_until(&self) -> i64 {
        self.annotation("x-opt-locked-until").and_then(Value::as_timestamp).expect("a lock")
    }

    pub(crate) fn delivery_count(&self) -> u32 {
        self.message.header.as_ref().and_then(|header| header.delivery_count).expect("a delivery count")
    }

    /// The lock token in RFC byte order.
    pub(crate) fn lock_token(&self) -> [u8; 16] {
        self.message.delivery_annotations.get("x-opt-lock-token").and_then(Value::as_uuid).expect("a lock token")
    }

    fn annotation(&self, name: &str) -> Option<&Value> {
        self.message.message_annotations.get(name)
    }
}

/// What a node replied.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) application_properties: Map,
    pub(crate) body: Option<Value>,
}

impl Reply {
    pub(crate) fn status(&self) -> i64 {
        let code = |key| self.application_properties.get(key).and_then(Value::as_i64);
        code("statusCode").or_else(|| code("status-code")).expect("a status")
    }

    pub(crate) fn condition(&self) -> Option<&str> {
        let text = |key| self.application_properties.get(key).and_then(Value::as_str);
        text("errorCondition").or_else(|| text("error-condition"))
    }

    pub(crate) fn field(&self, key: &str) -> &Value {
        self.body.as_ref().and_then(Value::as_map).and_then(|map| map.get(key)).expect(key)
    }
}

/// A pair of links to a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    requests: LinkId,
    replies: LinkId,
}

/// A connection of any kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// See the module's documentation.
pub(crate) struct Client {
    engine: Connection,
    stream: Box<dyn Stream>,
    pub(crate) session: SessionId,
    /// Events that came while the test waited for others.
    events: VecDeque<Event>,
    /// The bytes of the last read.
    pub(crate) last_read: Vec<u8>,
    next_tag: u32,
}

impl Client {
    /// Connects and opens a session; puts no token.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("connects")).await
    }

    /// Opens a session over a connection that is there.
    pub(crate) async fn over(stream: impl Stream + 'static) -> Self {
        let stream = Box::new(stream);
        let mut engine = Connection::new(amqp::Config::client("test", "127.0.0.1"), Instant::now());
        let session = engine.begin();
        let mut client = Self { engine, stream, session, events: VecDeque::new(), last_read: Vec::new(), next_tag: 0 };
        client.wait("open", |event| matches!(event, Event::Opened).then_some(())).await;
        client
    }

    /// Connects and puts a token for the whole namespace.
    pub(crate) async fn login(broker: &Broker) -> Self {
        Self::connect(broker.addresses()[0]).await.with_token().await
    }

    /// Puts a token for the whole namespace.
    pub(crate) async fn with_token(self) -> Self {
        let mut client = self;
        let reply = client.put_token("sb://127.0.0.1/", &token("sb://127.0.0.1/")).await;
        assert_eq!(reply.status(), 202, "{reply:?}");
        client
    }

    /// Waits for an event that `pick` accepts; the others are kept for later waits.
    pub(crate) async fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let waiting = async {
            let mut seen = 0;
            loop {
                while let Some(event) = self.engine.next_event() {
                    self.events.push_back(event);
                }
                while seen < self.events.len() {
                    if let Some(picked) = pick(&self.events[seen]) {
                        self.events.remove(seen);
                        return picked;
                    }
                    seen += 1;
                }
                self.pump().await;
            }
        };
        let picked = tokio::time::timeout(DEADLINE, waiting).await;
        picked.unwrap_or_else(|_| panic!("no {what} in time; came: {:?}", self.events))
    }

    /// Writes what there is to write, reads once.
    async fn pump(&mut self) {
        self.flush().await;
        let mut bytes = vec![0; 64 * 1024];
        let count = self.stream.read(&mut bytes).await.expect("readable");
        assert!(count > 0, "the broker closed the socket; came: {:?}", self.events);
        bytes.truncate(count);
        self.engine.receive(&bytes, Instant::now());
        self.last_read = bytes;
    }

    /// Writes what there is to write.
    pub(crate) async fn flush(&mut self) {
        let output = self.engine.take_output();
        self.stream.write_all(&output).await.expect("writable");
    }

    /// Reads until the connection ends; how, if not politely.
    pub(crate) async fn ended(&mut self) -> Option<std::io::ErrorKind> {
        let ending = async {
            let mut bytes = vec![0; 4096];
            loop {
                match self.stream.read(&mut bytes).await {
                    Ok(0) => return None,
                    Ok(_) => {}
                    Err(error) => return Some(error.kind()),
                }
            }
        };
        tokio::time::timeout(DEADLINE, ending).await.expect("the connection ends in time")
    }

    /// Whether such an event has come and was not waited for.
    pub(crate) fn has(&mut self, is_such: impl Fn(&Event) -> bool) -> bool {
        while let Some(event) = self.engine.next_event() {
            self.events.push_back(event);
        }
        self.events.iter().any(is_such)
    }

    /// Writes bytes that the engine would not write.
    pub(crate) async fn write_raw(&mut self, bytes: &[u8]) {
        self.flush().await;
        self.stream.write_all(bytes).await.expect("writable");
    }

    /// The engine, for what the helpers do not do.
    pub(crate) fn engine(&mut self) -> &mut Connection {
        &mut self.engine
    }

    /// Attaches a link; the error if it is refused.
    pub(crate) async fn attach(&mut self, attach: Attach) -> Result<(LinkId, Attach), AmqpError> {
        let wanted = self.engine.attach(self.session, attach).expect("the session lives");
        self.wait("answer to attach", |event| match event {
            Event::Attached { link, attach } if *link == wanted => Some(Ok((wanted, (**attach).clone()))),
            Event::Detached { link, error, .. } if *link == wanted => Some(Err(error.clone().expect("a reason"))),
            _ => None,
        })
        .await
    }

    /// A link to send on.
    pub(crate) async fn sender(&mut self, queue: &str) -> LinkId {
        let name = self.fresh_name();
        self.attach(Attach::sender(name, "here", queue)).await.expect("accepted").0
    }

    /// A link to receive on, with credit.
    pub(crate) async fn receiver(&mut self, queue: &str, credit: u32) -> LinkId {
        let name = self.fresh_name();
        let attach = Attach { rcv_settle_mode: Some(1), ..Attach::receiver(name, queue, "here") };
        let link = self.attach(attach).await.expect("accepted").0;
        self.engine.set_credit(link, credit).expect("attached");
        link
    }

    /// Sends and waits for the outcome.
    pub(crate) async fn send(&mut self, link: LinkId, message: &Message) -> DeliveryState {
        self.send_payload(link, 0, message.encode()).await
    }

    /// Sends a batch and waits for the outcome.
    pub(crate) async fn send_batch(&mut self, link: LinkId, messages: &[Message]) -> DeliveryState {
        let envelope = Message::with_body(Body::data_sections_from(messages.iter().map(Message::encode)));
        self.send_payload(link, 0x8001_3700, envelope.encode()).await
    }

    /// Sends any bytes and waits for the outcome.
    pub(crate) async fn send_payload(&mut self, link: LinkId, message_format: u32, payload: Bytes) -> DeliveryState {
        let sent = self.send_only(link, message_format, payload, false).await;
        self.outcome(link, sent).await
    }

    /// Sends once there is credit, and waits for nothing more.
    pub(crate) async fn send_only(
        &mut self,
        link: LinkId,
        message_format: u32,
        payload: Bytes,
        settled: bool,
    ) -> DeliveryId {
        while self.engine.sendable(link) == 0 {
            self.wait("credit", |event| {
                matches!(event, Event::Credit { link: granted, .. } if *granted == link).then_some(())
            })
            .await;
        }
        self.next_tag += 1;
        let tag = Bytes::copy_from_slice(&self.next_tag.to_be_bytes());
        let id = self.engine.send(link, Outgoing { tag, message_format, payload, settled }).expect("credit is there");
        self.flush().await;
        id
    }

    /// Waits for the settled outcome of a delivery.
    pub(crate) async fn outcome(&mut self, link: LinkId, id: DeliveryId) -> DeliveryState {
        self.wait("outcome", |event| match event {
            Event::Disposition { link: of, id: found, state, settled: true } if (*of, *found) == (link, id) => {
                Some(state.clone().expect("a state"))
            }
            _ => None,
        })
        .await
    }

    /// The next delivery on a link.
    pub(crate) async fn receive(&mut self, link: LinkId) -> Received {
        let delivery = self
            .wait("delivery", |event| match event {
                Event::Delivery { link: on, delivery } if *on == link => Some(delivery.clone()),
                _ => None,
            })
            .await;
        received(delivery)
    }

    /// Drains a link: every delivery that came by the time the broker said it is done.
    pub(crate) async fn drain(&mut self, link: LinkId) -> Vec<Received> {
        self.engine.drain(link).expect("attached");
        self.wait("end of drain", |event| matches!(event, Event::Drained { link: on } if *on == link).then_some(()))
            .await;
        let mut deliveries = Vec::new();
        self.events.retain(|event| match event {
            Event::Delivery { link: on, delivery } if *on == link => {
                deliveries.push(received(delivery.clone()));
                false
            }
            _ => true,
        });
        deliveries
    }

    /// Settles as a client in mode "second" does and waits for the broker's settled outcome.
    pub(crate) async fn settle(&mut self, link: LinkId, id: DeliveryId, state: DeliveryState) -> DeliveryState {
        self.engine.settle(link, id, state, false).expect("unsettled");
        self.outcome(link, id).await
    }

    /// Waits until the broker has detached a link.
    pub(crate) async fn detached(&mut self, link: LinkId) -> Option<AmqpError> {
        self.wait("detach", |event| match event {
            Event::Detached { link: gone, error, .. } if *gone == link => Some(error.clone()),
            _ => None,
        })
        .await
    }

    /// Puts a token and returns the reply.
    pub(crate) async fn put_token(&mut self, audience: &str, token: &str) -> Reply {
        let node = self.node("$cbs").await;
        let request = Message {
            application_properties: Map::from([
                ("operation", "put-token"),
                ("type", "servicebus.windows.net:sastoken"),
                ("name", audience),
            ]),
            ..Message::with_body(Body::value(&Value::from(token)))
        };
        self.request(node, request, Value::from("put"), None).await
    }

    /// A pair of links to a node, found by session as Python does it.
    pub(crate) async fn node(&mut self, address: &str) -> Node {
        let (requests, replies) = (self.fresh_name(), self.fresh_name());
        let (requests, _) = self.attach(Attach::sender(requests, address, address)).await.expect("accepted");
        let (replies, _) = self.attach(Attach::receiver(replies, address, address)).await.expect("accepted");
        self.engine.set_credit(replies, 100).expect("attached");
        Node { requests, replies }
    }

    /// A pair of links with a reply link of its own name and target.
    pub(crate) async fn node_with_reply_link(&mut self, address: &str, name: &str, target: &str) -> Node {
        let requests = self.fresh_name();
        let (requests, _) = self.attach(Attach::sender(requests, "here", address)).await.expect("accepted");
        let (replies, _) = self.attach(Attach::receiver(name, address, target)).await.expect("accepted");
        self.engine.set_credit(replies, 100).expect("attached");
        Node { requests, replies }
    }

    /// One management operation.
    pub(crate) async fn manage(&mut self, node: Node, operation: &str, body: Map) -> Reply {
        let request = Message {
            application_properties: Map::from([("operation", format!("com.microsoft:{operation}"))]),
            ..Message::with_body(Body::value(&Value::Map(body)))
        };
        self.request(node, request, Value::from(operation), None).await
    }

    /// Sends a request and waits for the reply on the node's reply link.
    pub(crate) async fn request(
        &mut self,
        node: Node,
        mut request: Message,
        message_id: Value,
        reply_to: Option<&str>,
    ) -> Reply {
        request.properties = Some(Properties {
            message_id: Some(message_id.clone()),
            reply_to: reply_to.map(str::to_owned),
            ..Properties::default()
        });
        let outcome = self.send(node.requests, &request).await;
        assert_eq!(outcome, DeliveryState::Accepted);
        let reply = self.receive(node.replies).await.message;
        assert_eq!(reply.properties.expect("properties").correlation_id, Some(message_id));
        Reply { application_properties: reply.application_properties, body: reply.body.as_value() }
    }

    fn fresh_name(&mut self) -> String {
        self.next_tag += 1;
        format!("link-{}", self.next_tag)
    }
}

fn received(delivery: Incoming) -> Received {
    let Incoming { id, tag, settled, payload, .. } = delivery;
    Received { id, tag, settled, message: Message::decode(&payload).expect("a message") }
}
