//! The control endpoint: what tests and operators ask of the broker itself, apart from what Service Bus has.
//!
//! Its paths begin with `$`, which no entity's name can. A caller must be on this machine, or hold the control key; a
//! browser is refused in any case. Nobody else learns that there is anything: the answer is that of an unknown path.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderValue, ORIGIN};
use hyper::{Method, Request, Response, StatusCode};
use std::sync::Arc;

use serde::Serialize;
use subtle::ConstantTimeEq as _;

use crate::counters::Counters;
use crate::http::Caller;

/// Serves `/$counters`.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) counters: Arc<Counters>,
    pub(crate) key: Option<ControlKey>,
}

/// The key that lets callers from other machines in.
#[derive(Clone)]
pub struct ControlKey(String);

impl ControlKey {
    /// Fewer bytes could be guessed.
    pub const MIN_BYTES: usize = 16;

    /// A key of at least [`Self::MIN_BYTES`]; `None` if it is shorter.
    pub fn new(key: impl Into<String>) -> Option<Self> {
        Some(key.into()).filter(|key| key.len() >= Self::MIN_BYTES).map(Self)
    }

    fn is(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl std::fmt::Debug for ControlKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ControlKey(***)")
    }
}

impl Control {
    /// Answers a request that is for the control endpoint; gives back any other.
    pub(crate) fn answer(
        &self,
        request: Request<Incoming>,
        caller: Caller,
    ) -> Result<Response<Full<Bytes>>, Request<Incoming>> {
        let path = request.uri().path().trim_end_matches('/').to_ascii_lowercase();
        if !matches!(path.as_str(), "/$counters" | "/%24counters") || !self.admits(&request, caller) {
            return Err(request);
        }
        Ok(match *request.method() {
            Method::GET => json(StatusCode::OK, &self.counters.snapshot()),
            Method::DELETE => json(StatusCode::OK, &self.counters.reset()),
            _ => not_allowed("GET, DELETE"),
        })
    }

    fn admits(&self, request: &Request<Incoming>, caller: Caller) -> bool {
        let bearer = request.headers().get(AUTHORIZATION).and_then(|header| header.to_str().ok());
        let bearer = bearer.and_then(|header| header.strip_prefix("Bearer "));
        let holds_key = self.key.as_ref().zip(bearer).is_some_and(|(key, bearer)| key.is(bearer));
        // A page in a browser on this machine is not its user.
        (caller.is_local() || holds_key) && !request.headers().contains_key(ORIGIN)
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    let (status, body) = match serde_json::to_vec(value) {
        Ok(body) => (status, body),
        Err(error) => {
            tracing::error!(%error, "an answer of the control endpoint could not be written");
            (StatusCode::INTERNAL_SERVER_ERROR, Vec::new())
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn not_allowed(allow: &'static str) -> Response<Full<Bytes>> {
    let mut response = json(StatusCode::METHOD_NOT_ALLOWED, &format!("allowed are {allow}"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}
