//! The HTTP side: health, and the administration API (Atom documents, as the SDKs speak it).
//!
//! Requests become events of the state; nothing is kept here. A path may be percent-encoded and in any letter case; a
//! queue's or topic's name may contain `/`.

mod answer;
mod change;
mod description;
mod document;
mod entities;
mod feed;
mod routes;
mod xml;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue, IF_MATCH};
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;

use crate::access::{Access, Permit, Right};
use crate::address::scope_of;
use crate::caller::Caller;
use crate::hub::Hub;
use answer::Answer;
pub(crate) use answer::Failure;
use document::Requested;
use routes::{Place, Query};
use xml::Scene;

/// A description has about 3 KB; the longest allowed text in it, the user metadata, 1,024 characters.
const MAX_BODY_BYTES: usize = 64 * 1024;
const BODY_DEADLINE: Duration = Duration::from_secs(10);

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

    /// Whether a name is that of a topic.
    pub(crate) fn is_topic(&self, name: &str) -> bool {
        crate::state::EntityName::new(name)
            .is_ok_and(|name| self.hub.read(|state| state.describe_topic(&name).is_some()))
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
        let query = Query::of(request.uri().query().unwrap_or_default())?;
        let permit = self.authorize(&request, &path)?;
        let base = base_of(&request);
        let scene = Scene { base: &base, api_version: &query.api_version, now: SystemTime::now() };
        match (place, request.method().clone()) {
            (Place::NamespaceInfo, Method::GET) => Answer::entry(feed::namespace_entry(&scene, self.started)),
            (Place::Queues, Method::GET) => self.queues(&scene, &query),
            (Place::Topics, Method::GET) => self.topics(&scene, &query),
            (Place::Subscriptions(topic), Method::GET) => self.subscriptions(&scene, &query, &topic),
            (Place::Rules(subscription), Method::GET) => self.rules(&scene, &query, &subscription),
            (Place::NamespaceInfo | Place::Queues | Place::Topics | Place::Subscriptions(_) | Place::Rules(_), _) => {
                Err(Failure::method_not_allowed("GET"))
            }
            (Place::Entity(name) | Place::Subscription(name), Method::GET) => self.entry(&scene, &name),
            (Place::Entity(name) | Place::Subscription(name), Method::DELETE) => self.delete(&name),
            (Place::Entity(name) | Place::Subscription(name), Method::PUT) => {
                let (head, body) = request.into_parts();
                let requested = Requested::parse(&read_body(body).await?)?;
                let update = head.headers.contains_key(IF_MATCH);
                let status = self.put(&name, &requested, update, &permit, &head.headers)?;
                Ok(self.entry(&scene, &name)?.with_status(status))
            }
            (Place::Entity(_), Method::POST) if path.to_ascii_lowercase().ends_with("/messages") => {
                Err(Failure::not_supported("sending messages over HTTP"))
            }
            (Place::Rule(subscription, rule), Method::GET) => self.rule(&scene, &subscription, &rule),
            (Place::Rule(subscription, rule), method @ (Method::PUT | Method::DELETE)) => {
                let creates = method == Method::PUT && !request.headers().contains_key(IF_MATCH);
                Err(self.refuse_rule(&subscription, &rule, creates))
            }
            (Place::Entity(_) | Place::Subscription(_) | Place::Rule(..), _) => {
                Err(Failure::method_not_allowed("GET, PUT, DELETE"))
            }
            (Place::Health, _) => Ok(Answer::health()),
        }
    }

    /// Every request but health needs a token whose scope covers what it asks for.
    fn authorize(&self, request: &Request<Incoming>, path: &str) -> Result<Permit, Failure> {
        let token = request
            .headers()
            .get(AUTHORIZATION)
            .ok_or_else(|| Failure::unauthorized("MissingToken: The authorization header is required."))?;
        let permit = self.check_token(token)?;
        if permit.allows(&scope_of(path), Right::Manage) {
            Ok(permit)
        } else {
            Err(Failure::unauthorized("Manage,EntityRead claims required for this operation."))
        }
    }

    fn check_token(&self, token: &HeaderValue) -> Result<Permit, Failure> {
        let token = token
            .to_str()
            .map_err(|_| Failure::unauthorized("MalformedToken: The authorization header is not text."))?;
        let token = token.strip_prefix("Bearer ").unwrap_or(token);
        self.access.check(token, SystemTime::now()).map_err(|error| Failure::unauthorized(&format!("{error}.")))
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
