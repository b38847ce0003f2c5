//! The HTTP side: health, and the administration API of queues (Atom documents, as the SDKs speak it).
//!
//! Requests become events of the state; nothing is kept here. Topics, subscriptions and rules are answered as not
//! supported. A path may be percent-encoded and in any letter case; a queue's name may contain `/`.

mod answer;
mod change;
mod document;
mod feed;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, IF_MATCH};
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;

use crate::access::Access;
use crate::address::{covers, names_subscription, scope_of};
use crate::http::Caller;
use crate::hub::{Hub, system_time};
use crate::state::{Effect, EntityName, Event, QueueProperties, QueueSnapshot};
use answer::{Answer, Failure};
use change::properties;
use document::Requested;
use feed::{Page, QueueEntry, Scene};

/// A description has about 3 KB; the longest allowed text in it, the user metadata, 1,024 characters.
const MAX_BODY_BYTES: usize = 64 * 1024;
const BODY_DEADLINE: Duration = Duration::from_secs(10);
const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;
const DEFAULT_API_VERSION: &str = "2021-05";

/// The administration API over one hub.
#[derive(Debug)]
pub(crate) struct Admin {
    hub: Arc<Hub>,
    access: Arc<Access>,
    started: SystemTime,
}

impl Admin {
    pub(crate) fn new(hub: Arc<Hub>, access: Arc<Access>) -> Self {
        Self { hub, access, started: SystemTime::now() }
    }

    /// Answers one request.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = match self.handle(request).await {
            Ok(answer) => answer.into_response(),
            Err(failure) => {
                tracing::debug!(%method, path, status = failure.status.as_u16(), detail = failure.detail, "request refused");
                failure.into_response()
            }
        };
        tracing::trace!(%method, path, status = response.status().as_u16(), "request answered");
        response
    }

    async fn handle(&self, request: Request<Incoming>) -> Result<Answer, Failure> {
        let path = percent_decode_str(request.uri().path())
            .decode_utf8()
            .map_err(|_| Failure::new(StatusCode::BAD_REQUEST, "SubCode=40000. The path is not UTF-8."))?;
        let path = path.trim_matches('/').to_owned();
        let place = Place::of(&path)?;
        if matches!(place, Place::Health) {
            return match *request.method() {
                Method::GET => Ok(Answer::health()),
                _ => Err(Failure::method_not_allowed("GET")),
            };
        }
        let query = Query::of(&request)?;
        self.authorize(&request, &path)?;
        let base = base_of(&request);
        let scene = Scene { base: &base, api_version: &query.api_version, now: SystemTime::now() };
        match (place, request.method().clone()) {
            (Place::NamespaceInfo, Method::GET) => Answer::entry(feed::namespace_entry(&scene, self.started)),
            (Place::Queues, Method::GET) => self.list(&scene, &query),
            // There are none, which is an answer rather than a refusal.
            (Place::Topics, Method::GET) => {
                let page =
                    Page { path: "$Resources/Topics", title: "Topics", skip: query.skip, top: query.top, more: false };
                Answer::feed(feed::queue_feed(&scene, &page, &[]))
            }
            (Place::NamespaceInfo | Place::Queues | Place::Topics, _) => Err(Failure::method_not_allowed("GET")),
            (Place::Queue(name), Method::GET) => self.entry(&scene, &name, StatusCode::OK),
            (Place::Queue(name), Method::DELETE) => {
                self.administer(|request| Event::DeleteQueue { request, name: name.clone() })?;
                tracing::info!(queue = %name, "queue deleted");
                Ok(Answer::nothing())
            }
            (Place::Queue(name), Method::PUT) => {
                let update = request.headers().contains_key(IF_MATCH);
                let body = read_body(request.into_body()).await?;
                let requested = Requested::parse(&body)?;
                let status = self.put(&name, &requested, update)?;
                self.entry(&scene, &name, status)
            }
            (Place::Queue(_), Method::POST) if path.to_ascii_lowercase().ends_with("/messages") => {
                Err(Failure::not_supported("sending messages over HTTP"))
            }
            (Place::Queue(_), _) => Err(Failure::method_not_allowed("GET, PUT, DELETE")),
            (Place::Health, _) => Ok(Answer::health()),
        }
    }

    /// Creates the queue, or with `update` changes it.
    fn put(&self, name: &EntityName, requested: &Requested, update: bool) -> Result<StatusCode, Failure> {
        let before = if update {
            let snapshot = self.hub.describe(name).ok_or_else(Failure::not_found)?;
            Some(snapshot.properties)
        } else {
            None
        };
        let properties = properties(requested, before.as_ref())?;
        let name = name.clone();
        if update {
            self.administer(|request| Event::UpdateQueue { request, name: name.clone(), properties })?;
            tracing::info!(queue = %name, "queue updated");
            return Ok(StatusCode::OK);
        }
        self.administer(|request| Event::CreateQueue { request, name: name.clone(), properties })?;
        tracing::info!(queue = %name, "queue created");
        Ok(StatusCode::CREATED)
    }

    fn administer(
        &self,
        make: impl FnOnce(crate::state::RequestId) -> Event<crate::content::StoredMessage>,
    ) -> Result<(), Failure> {
        let result = self.hub.request(make, |effect| match effect {
            Effect::Administered { result, .. } => Some(result),
            _ => None,
        });
        result.map_err(Failure::from)
    }

    fn entry(&self, scene: &Scene<'_>, name: &EntityName, status: StatusCode) -> Result<Answer, Failure> {
        let snapshot = self.hub.describe(name).ok_or_else(Failure::not_found)?;
        Ok(Answer::entry(feed::queue_entry(scene, &entry_of(&snapshot)))?.with_status(status))
    }

    fn list(&self, scene: &Scene<'_>, query: &Query) -> Result<Answer, Failure> {
        let mut queues: Vec<QueueEntry> = self.hub.read(|state| {
            state.list().skip(query.skip).take(query.top + 1).map(|snapshot| entry_of(&snapshot)).collect()
        });
        let more = queues.len() > query.top;
        queues.truncate(query.top);
        let page = Page { path: "$Resources/Queues", title: "Queues", skip: query.skip, top: query.top, more };
        Answer::feed(feed::queue_feed(scene, &page, &queues))
    }

    /// Every request but health needs a token whose scope covers what it asks for.
    fn authorize(&self, request: &Request<Incoming>, path: &str) -> Result<(), Failure> {
        let header = request
            .headers()
            .get(AUTHORIZATION)
            .ok_or_else(|| Failure::unauthorized("MissingToken: The authorization header is required."))?;
        let token = header
            .to_str()
            .map_err(|_| Failure::unauthorized("MalformedToken: The authorization header is not text."))?;
        let token = token.strip_prefix("Bearer ").unwrap_or(token);
        let permit =
            self.access.check(token, SystemTime::now()).map_err(|error| Failure::unauthorized(&format!("{error}.")))?;
        if covers(&permit.scope, &scope_of(path)) {
            Ok(())
        } else {
            Err(Failure::unauthorized("Manage,EntityRead claims required for this operation."))
        }
    }
}

/// What a path names.
enum Place {
    Health,
    NamespaceInfo,
    Queues,
    Topics,
    Queue(EntityName),
}

impl Place {
    fn of(path: &str) -> Result<Self, Failure> {
        match path.to_ascii_lowercase().as_str() {
            "health" => return Ok(Self::Health),
            "$namespaceinfo" => return Ok(Self::NamespaceInfo),
            "$resources/queues" => return Ok(Self::Queues),
            "$resources/topics" => return Ok(Self::Topics),
            "" => return Err(Failure::not_found()),
            "$servicebus/websocket" => return Err(Failure::not_supported("AMQP over WebSocket")),
            _ => {}
        }
        if names_subscription(path) {
            return Err(Failure::not_supported("topics and subscriptions"));
        }
        EntityName::new(path)
            .map(Self::Queue)
            .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, &format!("SubCode=40000. {error}.")))
    }
}

/// The query's parts that matter here.
struct Query {
    api_version: String,
    skip: usize,
    top: usize,
}

impl Query {
    fn of(request: &Request<Incoming>) -> Result<Self, Failure> {
        let mut query = Self { api_version: DEFAULT_API_VERSION.to_owned(), skip: 0, top: PAGE };
        for part in request.uri().query().unwrap_or_default().split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = percent_decode_str(name).decode_utf8_lossy();
            let number = || {
                value.parse::<usize>().map_err(|_| {
                    Failure::new(StatusCode::BAD_REQUEST, &format!("SubCode=40000. {name} is not a whole number."))
                })
            };
            match name.to_ascii_lowercase().as_str() {
                "$skip" => query.skip = number()?,
                "$top" => query.top = number()?.clamp(1, MAX_PAGE),
                "api-version" if value.len() <= 16 => {
                    query.api_version = percent_decode_str(value).decode_utf8_lossy().into_owned();
                }
                _ => {}
            }
        }
        Ok(query)
    }
}

/// Scheme and authority as the client wrote them; they come back in ids and links.
fn base_of(request: &Request<Incoming>) -> String {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let scheme = request.extensions().get::<Caller>().map_or("http", Caller::scheme);
    format!("{scheme}://{host}")
}

async fn read_body(body: Incoming) -> Result<String, Failure> {
    let reading = Limited::new(body, MAX_BODY_BYTES).collect();
    let bytes = tokio::time::timeout(BODY_DEADLINE, reading)
        .await
        .map_err(|_| Failure::new(StatusCode::REQUEST_TIMEOUT, "The body did not come in time."))?
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                let detail = format!("SubCode=40000. The body has more than {MAX_BODY_BYTES} bytes.");
                Failure::new(StatusCode::PAYLOAD_TOO_LARGE, &detail)
            } else {
                Failure::new(StatusCode::BAD_REQUEST, "SubCode=40000. The body could not be read.")
            }
        })?
        .to_bytes();
    String::from_utf8(bytes.into())
        .map_err(|_| Failure::new(StatusCode::BAD_REQUEST, "SubCode=40000. The body is not UTF-8."))
}

fn entry_of(snapshot: &QueueSnapshot) -> QueueEntry {
    let QueueSnapshot { name, properties, counts, size_bytes, created_at, updated_at, accessed_at } = snapshot;
    let QueueProperties {
        lock_duration,
        max_delivery_count,
        default_time_to_live,
        dead_letter_on_expiration,
        max_size_bytes,
        status,
        requires_session: _,
        user_metadata,
    } = properties;
    QueueEntry {
        name: name.as_str().to_owned(),
        lock_duration: *lock_duration,
        max_size_in_megabytes: max_size_bytes / change::MEGABYTE,
        default_message_time_to_live: default_time_to_live.unwrap_or(crate::durations::NEVER),
        dead_lettering_on_message_expiration: *dead_letter_on_expiration,
        max_delivery_count: *max_delivery_count,
        size_in_bytes: *size_bytes,
        status: status.as_str(),
        user_metadata: user_metadata.clone(),
        created: system_time(*created_at),
        updated: system_time(*updated_at),
        accessed: accessed_at.map(system_time),
        active: counts.active,
        dead_letter: counts.dead_letter,
        scheduled: counts.scheduled,
        total: counts.total(),
    }
}
