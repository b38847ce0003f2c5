//! The requests: address, signature, deadline, limit, and what each status means.

use std::time::{Duration, SystemTime};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, StatusCode, Url, redirect};
use secrecy::ExposeSecret as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::atom::{self, Document};
use super::{AdministrationError, AdministrationOptions, NewQueue, QueueDescription};
use crate::connection_string::ConnectionString;
use crate::sas::TOKEN_LIFETIME;
use crate::tls;

/// The version of the API that is spoken; the one that KEDA's own client uses.
const API_VERSION: &str = "2021-05";
/// A `Retry-After` beyond this is taken for this: a broken clock must not stop a caller for days.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);

/// Reads and changes the queues of one namespace. Cheap to clone; clones share their HTTP connections.
#[derive(Clone, Debug)]
pub struct AdministrationClient {
    http: Client,
    base: Url,
    connection: ConnectionString,
    options: AdministrationOptions,
}

/// A listing, page by page.
#[derive(Debug)]
pub struct QueuePages<'a> {
    client: &'a AdministrationClient,
    skip: usize,
    finished: bool,
}

impl AdministrationClient {
    /// A client with the default deadline and limits.
    pub fn new(connection: &ConnectionString) -> Result<Self, AdministrationError> {
        Self::with_options(connection, AdministrationOptions::default())
    }

    /// A client with a deadline and limits of the caller's choice. Dials nothing yet.
    pub fn with_options(
        connection: &ConnectionString,
        options: AdministrationOptions,
    ) -> Result<Self, AdministrationError> {
        let base = connection.administration_url();
        let base = Url::parse(&base).map_err(|_| AdministrationError::InvalidArgument {
            argument: "endpoint",
            value: base,
            allowed: "a host and a port",
        })?;
        let tls = if connection.is_development_emulator() { tls::no_roots() } else { tls::system_roots() };
        let http = Client::builder()
            .tls_backend_preconfigured(tls.map_err(|error| AdministrationError::Tls(Box::new(error)))?)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(options.timeout)
            .build()
            .map_err(|error| AdministrationError::Tls(Box::new(error)))?;
        Ok(Self { http, base, connection: connection.clone(), options })
    }

    /// Describes one queue, its counts included. A missing queue is [`AdministrationError::NotFound`].
    pub async fn queue(&self, name: &str) -> Result<QueueDescription, AdministrationError> {
        let body = self.send(Method::GET, name, self.queue_url(name)?, None).await?;
        match atom::read(&body).map_err(|why| self.malformed(why))? {
            Document::Entry(queue) => Ok(queue),
            Document::Feed { .. } => Err(self.not_found(name)),
        }
    }

    /// Makes a queue. One of that name is [`AdministrationError::AlreadyExists`].
    pub async fn create_queue(&self, name: &str, queue: &NewQueue) -> Result<QueueDescription, AdministrationError> {
        let body = atom::write(queue).map_err(|error| self.malformed(error.to_string()))?;
        let body = self.send(Method::PUT, name, self.queue_url(name)?, Some(body)).await?;
        match atom::read(&body).map_err(|why| self.malformed(why))? {
            Document::Entry(queue) => Ok(queue),
            Document::Feed { .. } => Err(self.malformed("the answer to the creation of a queue is a feed".to_owned())),
        }
    }

    /// Removes a queue and all it holds. A missing queue is [`AdministrationError::NotFound`].
    pub async fn delete_queue(&self, name: &str) -> Result<(), AdministrationError> {
        self.send(Method::DELETE, name, self.queue_url(name)?, None).await.map(drop)
    }

    /// Lists all queues, a page at a time.
    pub fn queues(&self) -> QueuePages<'_> {
        QueuePages { client: self, skip: 0, finished: false }
    }

    fn queue_url(&self, name: &str) -> Result<Url, AdministrationError> {
        let invalid = || AdministrationError::InvalidArgument {
            argument: "queue name",
            value: name.chars().take(300).collect(),
            allowed: "1 to 260 characters, no control characters, no empty part, `.` or `..` between slashes, no `$` first",
        };
        let bad_part = |part: &str| matches!(part, "" | "." | "..");
        if name.chars().count() > 260
            || name.starts_with('$')
            || name.chars().any(char::is_control)
            || name.split('/').any(bad_part)
        {
            return Err(invalid());
        }
        let mut url = self.base.clone();
        url.path_segments_mut().map_err(|()| invalid())?.clear().extend(name.split('/'));
        url.query_pairs_mut().append_pair("api-version", API_VERSION);
        Ok(url)
    }

    async fn send(
        &self,
        method: Method,
        entity: &str,
        url: Url,
        body: Option<Vec<u8>>,
    ) -> Result<String, AdministrationError> {
        // The resource of the signature is the address without the query, as a key limited to one queue needs it.
        let mut resource = url.clone();
        resource.set_query(None);
        let token = self.connection.credential().token(resource.as_str(), SystemTime::now(), TOKEN_LIFETIME);
        let mut authorization = HeaderValue::from_str(token.text.expose_secret())
            .map_err(|_| self.malformed("the token is no header".to_owned()))?;
        authorization.set_sensitive(true);
        let mut request = self.http.request(method, url).header(AUTHORIZATION, authorization);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/atom+xml;type=entry;charset=utf-8").body(body);
        }
        let mut response = request.send().await.map_err(|error| self.unavailable(error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unavailable(error))? {
            if body.len() + chunk.len() > self.options.max_response_bytes {
                return Err(self.malformed(format!("it is longer than {} bytes", self.options.max_response_bytes)));
            }
            body.extend_from_slice(&chunk);
        }
        let body = String::from_utf8(body);
        if status.is_success() {
            body.map_err(|_| self.malformed("it is not UTF-8".to_owned()))
        } else {
            Err(self.refusal(entity, status, &headers, &body.unwrap_or_default()))
        }
    }

    /// What an unsuccessful status means.
    fn refusal(&self, entity: &str, status: StatusCode, headers: &HeaderMap, body: &str) -> AdministrationError {
        let host = self.connection.host().to_owned();
        let detail = atom::error_detail(body).map(|detail| format!(": {detail}")).unwrap_or_default();
        let code = status.as_u16();
        match status {
            StatusCode::NOT_FOUND => self.not_found(entity),
            StatusCode::CONFLICT => AdministrationError::AlreadyExists { entity: entity.to_owned(), host },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                AdministrationError::Unauthorized { host, status: code, detail }
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let retry_after = headers
                    .get(RETRY_AFTER)
                    .and_then(|value| value.to_str().ok())
                    .and_then(|value| retry_after(value, SystemTime::now()));
                AdministrationError::Throttled { host, status: code, retry_after, detail }
            }
            _ => AdministrationError::Refused { host, status: code, detail },
        }
    }

    fn not_found(&self, entity: &str) -> AdministrationError {
        AdministrationError::NotFound { entity: entity.to_owned(), host: self.connection.host().to_owned() }
    }

    fn malformed(&self, why: String) -> AdministrationError {
        AdministrationError::Malformed { host: self.connection.host().to_owned(), why }
    }

    fn unavailable(&self, error: reqwest::Error) -> AdministrationError {
        let why = if error.is_timeout() {
            format!("nothing within {:?}", self.options.timeout)
        } else if error.is_connect() {
            format!("cannot connect to port {}", self.connection.administration_port())
        } else {
            "the exchange broke off".to_owned()
        };
        AdministrationError::Unavailable {
            host: self.connection.host().to_owned(),
            why,
            source: Some(Box::new(error.without_url())),
        }
    }
}

impl QueuePages<'_> {
    /// The next page, at most [`AdministrationOptions::page_size`] queues; `None` after the last. After an error the same
    /// page may be asked for again.
    pub async fn next(&mut self) -> Result<Option<Vec<QueueDescription>>, AdministrationError> {
        if self.finished {
            return Ok(None);
        }
        let page_size = self.client.options.page_size.clamp(1, 100) as usize;
        let mut url = self.client.base.clone();
        url.set_path("/$Resources/Queues");
        url.query_pairs_mut()
            .append_pair("api-version", API_VERSION)
            .append_pair("$skip", &self.skip.to_string())
            .append_pair("$top", &page_size.to_string());
        let body = self.client.send(Method::GET, "$Resources/Queues", url, None).await?;
        let Document::Feed { queues, has_next } = atom::read(&body).map_err(|why| self.client.malformed(why))? else {
            return Err(self.client.malformed("the listing is not a feed".to_owned()));
        };
        self.skip += queues.len();
        // A short page without a next one is the last: asking once more would cost ten credits to learn nothing.
        self.finished = queues.is_empty() || (queues.len() < page_size && !has_next);
        Ok((!queues.is_empty()).then_some(queues))
    }
}

/// `Retry-After` as RFC 9110, section 10.2.3, has it: seconds, or an HTTP date.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let wait = if let Ok(seconds) = value.trim().parse() {
        Duration::from_secs(seconds)
    } else {
        let until = OffsetDateTime::parse(&value.trim().replace("GMT", "+0000"), &Rfc2822).ok()?;
        SystemTime::from(until).duration_since(now).unwrap_or_default()
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> AdministrationClient {
        let text = "Endpoint=sb://h:1;SharedAccessKeyName=n;SharedAccessKey=TOPSECRET;UseDevelopmentEmulator=true";
        AdministrationClient::new(&ConnectionString::parse(text).expect("well formed")).expect("plain HTTP")
    }

    #[test]
    fn a_queue_name_is_one_path_and_never_another_host() {
        for (name, path) in [
            ("orders", "/orders"),
            ("Orders/EU", "/Orders/EU"),
            ("a b?c#d", "/a%20b%3Fc%23d"),
            ("@evil.example", "/@evil.example"),
        ] {
            let url = client().queue_url(name).expect("a name");
            assert_eq!((url.host_str(), url.port(), url.path()), (Some("h"), Some(1), path), "{name}");
            assert_eq!(url.query(), Some("api-version=2021-05"), "{name}");
        }
        for name in ["", "/", "//evil.example/q", "a//b", "a/../b", "..", "$Resources/Queues", "a\r\nb"] {
            assert!(client().queue_url(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("999999999", now), Some(LONGEST_RETRY_AFTER));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn debug_shows_no_secret() {
        assert!(!format!("{:?}", client()).contains("TOPSECRET"));
    }
}
