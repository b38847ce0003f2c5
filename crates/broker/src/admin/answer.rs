//! What the administration API answers: documents, and failures with the service's status and words.

use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use super::change::Refused;
use super::document::DocumentError;
use super::feed;
use super::xml::timestamp;
use crate::state::Refusal;

/// The service's own words; SDKs look for them.
const NO_SUCH_ENTITY: &str = "No service is hosted at the specified address.";
const ENTRY: &str = "application/atom+xml;type=entry;charset=utf-8";
const FEED: &str = "application/atom+xml;type=feed;charset=utf-8";

/// A success.
pub(super) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Answer {
    /// The same with another status.
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(super) fn health() -> Self {
        Self {
            status: StatusCode::OK,
            content_type: "application/json",
            body: br#"{"status":"healthy","message":"Service is healthy."}"#.to_vec(),
        }
    }

    /// A success without a document.
    pub(super) fn nothing() -> Self {
        Self { status: StatusCode::OK, content_type: ENTRY, body: Vec::new() }
    }

    pub(super) fn entry(body: std::io::Result<Vec<u8>>) -> Result<Self, Failure> {
        Ok(Self { status: StatusCode::OK, content_type: ENTRY, body: body.map_err(|error| Failure::internal(&error))? })
    }

    pub(super) fn feed(body: std::io::Result<Vec<u8>>) -> Result<Self, Failure> {
        Ok(Self { status: StatusCode::OK, content_type: FEED, body: body.map_err(|error| Failure::internal(&error))? })
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        response
    }
}

/// A refusal, with the service's status and words.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(super) status: StatusCode,
    pub(super) detail: String,
    allow: Option<&'static str>,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, detail: &str) -> Self {
        Self { status, detail: detail.to_owned(), allow: None }
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, NO_SUCH_ENTITY)
    }

    pub(crate) fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    pub(super) fn not_supported(what: &str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, &format!("SubCode=50100. Not supported by this broker: {what}."))
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("Method not allowed; allowed are {allow}.");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, &detail) }
    }

    fn internal(error: &std::io::Error) -> Self {
        tracing::error!(%error, "an Atom document could not be written");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "SubCode=50000. Internal error.")
    }

    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        let tracking = uuid::Uuid::new_v4();
        let at = timestamp(SystemTime::now());
        let detail = format!("{} TrackingId:{tracking}, SystemTracker:broker, Timestamp:{at}", self.detail);
        let body = feed::error_body(self.status.as_u16(), &detail).unwrap_or_default();
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml; charset=utf-8"));
        if let Some(allow) = self.allow {
            headers.insert(hyper::header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("SharedAccessSignature"));
        }
        response
    }
}

impl From<DocumentError> for Failure {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Kind(_) => Self::new(StatusCode::NOT_IMPLEMENTED, &format!("SubCode=50100. {error}.")),
            _ => Self::new(StatusCode::BAD_REQUEST, &format!("SubCode=40000. {error}.")),
        }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotSupported { .. } => {
                Self::new(StatusCode::NOT_IMPLEMENTED, &format!("SubCode=50100. {refused}."))
            }
            Refused::Range { .. } => Self::new(StatusCode::BAD_REQUEST, &format!("SubCode=40000. {refused}.")),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound { .. } => Self::not_found(),
            Refusal::AlreadyExists { .. } => Self::new(StatusCode::CONFLICT, &format!("SubCode=40900. {refusal}.")),
            Refusal::TooManyEntities { .. } | Refusal::TooManySubscriptions { .. } => {
                Self::new(StatusCode::FORBIDDEN, &format!("SubCode=40300. {refusal}."))
            }
            Refusal::ForwardTarget { .. } | Refusal::NotAllowed { .. } => {
                Self::new(StatusCode::BAD_REQUEST, &format!("SubCode=40000. {refusal}."))
            }
            other => Self::new(StatusCode::INTERNAL_SERVER_ERROR, &format!("SubCode=50000. {other}.")),
        }
    }
}
