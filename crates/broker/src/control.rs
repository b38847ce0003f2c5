//! The control endpoint: what tests and operators ask of the broker itself, apart from what Service Bus has.
//!
//! Its paths begin with `$`, which no entity's name can. A caller must be on this machine, or hold the control key; a
//! page in a browser is refused in any case; faults must have been allowed at the start besides. Nobody else learns
//! that there is anything: the answer is that of an unknown path. Faults do not touch this endpoint, so that they can be
//! removed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, ORIGIN};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use subtle::ConstantTimeEq as _;

use crate::caller::Caller;
use crate::counters::Counters;
use crate::faults::{Fault, FaultId, FaultReport, Faults};

const MAX_BODY_BYTES: usize = 64 * 1024;
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// Serves `/$counters` and `/$faults`.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) counters: Arc<Counters>,
    pub(crate) key: Option<ControlKey>,
    /// Nothing where they are not allowed.
    pub(crate) faults: Option<Faults>,
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

impl fmt::Debug for ControlKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ControlKey(***)")
    }
}

impl Control {
    /// Answers a request that is for the control endpoint; gives back any other.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        caller: &Caller,
    ) -> Result<Response<Full<Bytes>>, Request<Incoming>> {
        let path = request.uri().path().to_ascii_lowercase().replacen("/%24", "/$", 1);
        let path = path.trim_end_matches('/');
        let is_ours = path == "/$counters" || path == "/$faults" || path.starts_with("/$faults/");
        if !is_ours || !admits(self.key.as_ref(), caller.is_local(), request.headers()) {
            return Err(request);
        }
        if path == "/$counters" {
            return Ok(match *request.method() {
                Method::GET => json(StatusCode::OK, &self.counters.snapshot()),
                Method::DELETE => json(StatusCode::OK, &self.counters.reset()),
                _ => not_allowed("GET, DELETE"),
            });
        }
        let Some(faults) = &self.faults else {
            tracing::info!("faults are not allowed; start the broker with --allow-faults");
            return Err(request);
        };
        let Some(id) = path.strip_prefix("/$faults/") else {
            return Ok(match *request.method() {
                Method::GET => json(StatusCode::OK, &faults.list()),
                Method::POST => add(faults, request.into_body()).await,
                Method::DELETE => json(StatusCode::OK, &Removed { removed: faults.clear() }),
                _ => not_allowed("GET, POST, DELETE"),
            });
        };
        let known = id.parse().ok().and_then(|id: FaultId| faults.get(id));
        Ok(match (request.method(), known) {
            (_, None) => problem(StatusCode::NOT_FOUND, "there is no such fault"),
            (&Method::GET, Some(report)) => json(StatusCode::OK, &report),
            (&Method::DELETE, Some(report)) => {
                json(StatusCode::OK, &Removed { removed: faults.remove(report.id).into() })
            }
            _ => not_allowed("GET, DELETE"),
        })
    }
}

fn admits(key: Option<&ControlKey>, is_local: bool, headers: &HeaderMap) -> bool {
    let bearer = headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok());
    let bearer = bearer.and_then(|header| header.strip_prefix("Bearer "));
    let holds_key = key.zip(bearer).is_some_and(|(key, bearer)| key.is(bearer));
    // A page in a browser on this machine is not its user.
    (is_local || holds_key) && !headers.contains_key(ORIGIN)
}

/// Adds the faults in a body, one a line: all of them, or none if one is wrong.
async fn add(faults: &Faults, body: Incoming) -> Response<Full<Bytes>> {
    let reading = tokio::time::timeout(BODY_DEADLINE, Limited::new(body, MAX_BODY_BYTES).collect());
    let Ok(Ok(body)) = reading.await else {
        return problem(StatusCode::BAD_REQUEST, "the body is too long or did not come in time");
    };
    let Ok(text) = String::from_utf8(body.to_bytes().into()) else {
        return problem(StatusCode::BAD_REQUEST, "the body is not UTF-8");
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let parsed: Result<Vec<Fault>, _> = lines.map(str::parse).collect();
    match parsed {
        Err(error) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
        Ok(parsed) if parsed.is_empty() => {
            problem(StatusCode::BAD_REQUEST, "the body holds no fault; write one a line")
        }
        Ok(parsed) => match faults.add_all(parsed) {
            Err(error) => problem(StatusCode::CONFLICT, &error.to_string()),
            Ok(ids) => {
                let reports: Vec<FaultReport> = ids.into_iter().filter_map(|id| faults.get(id)).collect();
                json(StatusCode::CREATED, &reports)
            }
        },
    }
}

#[derive(Serialize)]
struct Removed {
    removed: usize,
}

#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
}

fn problem(status: StatusCode, error: &str) -> Response<Full<Bytes>> {
    json(status, &Problem { error })
}

fn not_allowed(allow: &'static str) -> Response<Full<Bytes>> {
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, &format!("allowed are {allow}"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    let (status, mut body) = match serde_json::to_vec(value) {
        Ok(body) => (status, body),
        Err(error) => {
            tracing::error!(%error, "an answer of the control endpoint could not be written");
            (StatusCode::INTERNAL_SERVER_ERROR, Vec::new())
        }
    };
    body.push(b'\n');
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_and_who_holds_the_key_come_in_and_no_browser() {
        let key = ControlKey::new("sixteen-bytes-or-more").expect("long enough");
        let bearer = |text: &str| {
            let text = format!("Bearer {text}");
            HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::try_from(text).expect("valid"))])
        };
        let browser = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static("http://evil.example"))]);
        for (key, is_local, headers, wanted) in [
            (None, true, HeaderMap::new(), true),
            (None, false, HeaderMap::new(), false),
            (None, false, bearer(""), false),
            (Some(&key), false, HeaderMap::new(), false),
            (Some(&key), false, bearer("sixteen-bytes-or-more"), true),
            (Some(&key), false, bearer("sixteen-bytes-or-less"), false),
            (None, true, browser, false),
        ] {
            assert_eq!(admits(key, is_local, &headers), wanted, "{is_local} {headers:?}");
        }
        assert!(ControlKey::new("too-short").is_none());
        assert!(!format!("{key:?}").contains("sixteen"));
    }
}
