//! What `azure_identity` sends its requests through: to one host, without redirects and proxies, with a limit on the answer.
//!
//! Everything that goes wrong becomes an [`EntraError`] here, where host and status are known, and the library is left nothing
//! to retry: when to try again is decided in one place.

use azure_core::Bytes;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::Headers;
use azure_core::http::request::Body;
use azure_core::http::{AsyncRawResponse, HttpClient, Method, Request};
use reqwest::header::HeaderValue;
use reqwest::{Client, Url, redirect};

use super::EntraError;
use crate::said::said;
use crate::{ExtraRoots, tls};

/// Longer answers are no tokens.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// The way to whoever gives an identity its tokens.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    http: Client,
    /// Scheme, host and port that requests may go to.
    origin: Url,
    identity: &'static str,
}

impl Transport {
    /// To one place alone. `origin` is plain HTTP only for an endpoint on this machine.
    pub(super) fn new(origin: Url, identity: &'static str, extra_roots: &ExtraRoots) -> Result<Self, EntraError> {
        let host = origin.host_str().unwrap_or_default().to_owned();
        let tls = if origin.scheme() == "https" { tls::trusting(extra_roots) } else { tls::no_roots() };
        let failed = |why: String| EntraError::Tls { host: host.clone(), why };
        let http = Client::builder()
            .tls_backend_preconfigured(tls.map_err(|error| failed(error.to_string()))?)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| failed(one_line(&error)))?;
        Ok(Self { http, origin, identity })
    }

    /// Who gives the tokens.
    pub(super) fn host(&self) -> String {
        self.origin.host_str().unwrap_or_default().to_owned()
    }

    async fn exchange(&self, request: &Request) -> Result<(u16, Bytes), EntraError> {
        let (identity, host) = (self.identity, self.host());
        if request.url().origin() != self.origin.origin() {
            let why = "the request was meant for another host".to_owned();
            return Err(EntraError::Unavailable { identity, host, why });
        }
        let Body::Bytes(body) = request.body() else {
            let why = "the request is no form".to_owned();
            return Err(EntraError::Unavailable { identity, host, why });
        };
        let method = match request.method() {
            Method::Post => reqwest::Method::POST,
            _ => reqwest::Method::GET,
        };
        let mut outgoing = self.http.request(method, request.url().clone()).body(body.clone());
        for (name, value) in request.headers().iter() {
            let Some(value) = unshown(value.as_str()) else {
                let why = format!("the value of {} has characters that no header has", name.as_str());
                return Err(EntraError::Unavailable { identity, host, why });
            };
            outgoing = outgoing.header(name.as_str(), value);
        }
        let no_answer = |error: reqwest::Error| EntraError::Unavailable {
            identity,
            host: host.clone(),
            why: one_line(&error.without_url()),
        };
        let mut response = outgoing.send().await.map_err(no_answer)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
            if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                let why = format!("it is longer than {MAX_RESPONSE_BYTES} bytes");
                return Err(EntraError::Malformed { identity, host, why });
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok((status.as_u16(), body.into()));
        }
        let why = if status.is_redirection() {
            "a redirect, which is not followed".to_owned()
        } else {
            refusal(&body).unwrap_or_else(|| "no reason given".to_owned())
        };
        Err(EntraError::Refused { identity, host, status: status.as_u16(), why })
    }
}

#[async_trait::async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        match self.exchange(request).await {
            Ok((status, body)) => Ok(AsyncRawResponse::from_bytes(status.into(), Headers::new(), body)),
            Err(error) => Err(Error::new(ErrorKind::Other, error)),
        }
    }
}

/// A header's value that no library shows or keeps: one of them, `IDENTITY_HEADER`'s, is a secret, and the others need not be
/// seen. `None` for what cannot be one.
fn unshown(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What Entra and the metadata service say when they refuse: `error_description` or else `error`, on one line.
fn refusal(body: &[u8]) -> Option<String> {
    let document: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = ["error_description", "error", "message"].iter().find_map(|key| document.get(key)?.as_str())?;
    let line = said(text);
    (!line.is_empty()).then_some(line)
}

/// An error and all it came from. An `io::Error` shows its content itself.
fn one_line(error: &reqwest::Error) -> String {
    let first = error as &dyn std::error::Error;
    let texts: Vec<String> =
        std::iter::successors(first.source(), |error| error.source()).map(ToString::to_string).collect();
    if texts.is_empty() { error.to_string() } else { texts.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_not_shown() {
        let value = unshown("PLANTED-identity-header").expect("a header's value");
        assert_eq!(
            (format!("{value:?}").as_str(), value.as_bytes()),
            ("Sensitive", b"PLANTED-identity-header".as_slice())
        );
        assert_eq!(unshown("two\nlines"), None);
    }
}
