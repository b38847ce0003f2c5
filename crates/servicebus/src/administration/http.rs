//! One exchange: address, credential, deadline, limit, and what each status means.

use std::error::Error;
use std::time::{Duration, Instant, SystemTime};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, IF_MATCH, LOCATION, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use secrecy::ExposeSecret as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::atom;
use super::{AdministrationError, AdministrationOptions};
use crate::said::said;
use crate::sas::TOKEN_LIFETIME;
use crate::{Credential, EntityName, Namespace};

/// The version of the API that is spoken; the one that KEDA's own client uses.
const API_VERSION: &str = "2021-05";
/// A `Retry-After` beyond this is taken for this: a broken clock must not stop a caller for days.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);

/// What is to be done.
pub(super) enum Request {
    /// Read.
    Get,
    /// Make or change an entity, by this document.
    Put(Change, Vec<u8>),
    /// Remove.
    Delete,
}

/// What a document is for.
pub(super) enum Change {
    /// A new entity.
    Create,
    /// One that is there.
    Update,
}

/// To what it is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// One entity.
    One(EntityName),
    /// All queues.
    Queues,
    /// All subscriptions of a topic.
    Subscriptions {
        /// The topic.
        topic: String,
    },
}

/// The way to one namespace.
#[derive(Debug)]
pub(super) struct Exchange {
    http: Client,
    base: Url,
    namespace: Namespace,
    credential: Credential,
    options: AdministrationOptions,
}

impl Exchange {
    pub(super) fn new(
        http: Client,
        namespace: Namespace,
        credential: Credential,
        options: AdministrationOptions,
    ) -> Result<Self, AdministrationError> {
        let base =
            Url::parse(&namespace.administration_url()).map_err(|error| AdministrationError::Tls(error.into()))?;
        Ok(Self { http, base, namespace, credential, options })
    }

    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Entities asked for in one page, as the service allows it.
    pub(super) fn page_size(&self) -> usize {
        self.options.page_size.clamp(1, 100) as usize
    }

    /// Sends one request and gives the body of the answer.
    pub(super) async fn send(&self, request: Request, scope: &Scope) -> Result<String, AdministrationError> {
        self.exchange(request, scope, self.url(scope)?).await
    }

    /// Asks for one page of a listing.
    pub(super) async fn send_page(
        &self,
        scope: &Scope,
        skip: usize,
        top: usize,
    ) -> Result<String, AdministrationError> {
        let mut url = self.url(scope)?;
        url.query_pairs_mut().append_pair("$skip", &skip.to_string()).append_pair("$top", &top.to_string());
        self.exchange(Request::Get, scope, url).await
    }

    fn url(&self, scope: &Scope) -> Result<Url, AdministrationError> {
        let mut url = self.base.clone();
        match scope {
            Scope::Queues => url.set_path("/$Resources/Queues"),
            Scope::One(entity) => {
                entity.check()?;
                set_segments(&mut url, entity.path().split('/'));
            }
            Scope::Subscriptions { topic } => {
                EntityName::topic(topic).check()?;
                set_segments(&mut url, topic.split('/').chain(["Subscriptions"]));
            }
        }
        url.query_pairs_mut().append_pair("api-version", API_VERSION);
        Ok(url)
    }

    async fn exchange(&self, request: Request, scope: &Scope, url: Url) -> Result<String, AdministrationError> {
        let started = Instant::now();
        let authorization = self.authorization(&url).await?;
        // Waiting for a token is a part of the request.
        let left = self.options.timeout.saturating_sub(started.elapsed());
        let request = match request {
            Request::Get => self.http.get(url),
            Request::Delete => self.http.delete(url),
            Request::Put(change, body) => {
                let put = self.http.put(url).header(CONTENT_TYPE, "application/atom+xml;type=entry;charset=utf-8");
                match change {
                    Change::Create => put.body(body),
                    Change::Update => put.header(IF_MATCH, "*").body(body),
                }
            }
        };
        let request = request.header(AUTHORIZATION, authorization).timeout(left);
        let mut response = request.send().await.map_err(|error| self.no_answer(error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        if status == StatusCode::UNAUTHORIZED
            && let Credential::Entra(identity) = &self.credential
        {
            identity.refused();
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.no_answer(error))? {
            if body.len() + chunk.len() > self.options.max_response_bytes {
                return Err(self.malformed(format!("it is longer than {} bytes", self.options.max_response_bytes)));
            }
            body.extend_from_slice(&chunk);
        }
        let body = String::from_utf8(body);
        if status.is_success() {
            body.map_err(|_| self.malformed("it is not UTF-8"))
        } else {
            Err(self.refusal(scope, status, &headers, &body.unwrap_or_default()))
        }
    }

    /// The header by which the request is let in; marked so that nothing below logs or indexes it.
    async fn authorization(&self, url: &Url) -> Result<HeaderValue, AdministrationError> {
        let text = match &self.credential {
            Credential::SharedAccess(access) => {
                // The resource of the signature is the address without the query, as a key limited to one queue needs it.
                let mut resource = url.clone();
                resource.set_query(None);
                access.token(resource.as_str(), SystemTime::now(), TOKEN_LIFETIME).text
            }
            Credential::Entra(identity) => {
                let no_token = |source| AdministrationError::NoToken { host: self.namespace.host().to_owned(), source };
                let token = tokio::time::timeout(self.options.timeout, identity.token())
                    .await
                    .map_err(|_| no_token(identity.timeout(self.options.timeout)))?
                    .map_err(no_token)?;
                format!("Bearer {}", token.expose_secret()).into()
            }
        };
        let mut authorization =
            HeaderValue::from_str(text.expose_secret()).map_err(|_| self.malformed("the token is no header"))?;
        authorization.set_sensitive(true);
        Ok(authorization)
    }

    /// What an unsuccessful status means.
    fn refusal(&self, scope: &Scope, status: StatusCode, headers: &HeaderMap, body: &str) -> AdministrationError {
        let host = self.namespace.host().to_owned();
        let detail = atom::error_detail(body).map(|detail| format!(": {detail}")).unwrap_or_default();
        let code = status.as_u16();
        match status {
            StatusCode::NOT_FOUND => self.not_found(scope),
            StatusCode::CONFLICT if matches!(scope, Scope::One(_)) => {
                AdministrationError::AlreadyExists { entity: scope.entity(), host }
            }
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
            status if status.is_redirection() => {
                AdministrationError::Redirected { host, status: code, target: self.redirect_target(headers) }
            }
            _ => AdministrationError::Refused { host, status: code, detail },
        }
    }

    /// The host that a redirect points to. Only the host: a query can hold what is nobody's business.
    fn redirect_target(&self, headers: &HeaderMap) -> String {
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let target = location.and_then(|location| self.base.join(location).ok());
        match target.as_ref().map(|url| (url.host_str(), url.port_or_known_default())) {
            Some((Some(host), Some(port))) => format!("{host}:{port}"),
            Some((Some(host), None)) => host.to_owned(),
            _ => "nowhere".to_owned(),
        }
    }

    pub(super) fn not_found(&self, scope: &Scope) -> AdministrationError {
        AdministrationError::NotFound { entity: scope.entity(), host: self.namespace.host().to_owned() }
    }

    pub(super) fn malformed(&self, why: impl AsRef<str>) -> AdministrationError {
        AdministrationError::Malformed { host: self.namespace.host().to_owned(), why: said(why.as_ref()) }
    }

    fn no_answer(&self, error: reqwest::Error) -> AdministrationError {
        let host = self.namespace.host().to_owned();
        if error.is_timeout() {
            return AdministrationError::Timeout { host, after: self.options.timeout };
        }
        if let Some(refused) = tls_refusal(&error) {
            return AdministrationError::Untrusted { host, source: Box::new(refused) };
        }
        let why = if error.is_connect() {
            format!("cannot connect to port {}", self.namespace.administration_port())
        } else {
            "the exchange broke off".to_owned()
        };
        AdministrationError::Unavailable { host, why, source: Some(Box::new(error.without_url())) }
    }
}

impl Scope {
    /// The entity that is missing when the service says that something is.
    fn entity(&self) -> EntityName {
        match self {
            Self::One(entity) => entity.clone(),
            Self::Queues => EntityName::queue("$Resources/Queues"),
            Self::Subscriptions { topic } => EntityName::topic(topic),
        }
    }
}

fn set_segments<'a>(url: &mut Url, segments: impl Iterator<Item = &'a str>) {
    // A base with a host always has a path of segments.
    if let Ok(mut path) = url.path_segments_mut() {
        path.clear().extend(segments);
    }
}

/// What rustls found wrong, where that is why there is no connection. An `io::Error` hides its content from `source`.
fn tls_refusal(error: &(dyn Error + 'static)) -> Option<rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(refusal) = error.downcast_ref::<rustls::Error>() {
            return Some(refusal.clone());
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
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
    use std::sync::Arc;

    use super::super::AdministrationClient;
    use super::*;
    use crate::ConnectionString;

    fn exchange() -> Arc<Exchange> {
        let text = "Endpoint=sb://h:1;SharedAccessKeyName=n;SharedAccessKey=PLANTED;UseDevelopmentEmulator=true";
        let connection = ConnectionString::parse(text).expect("well formed");
        AdministrationClient::new(&connection).expect("plain HTTP").0
    }

    #[test]
    fn a_name_is_one_path_and_never_another_host() {
        for (scope, path) in [
            (Scope::One(EntityName::queue("orders")), "/orders"),
            (Scope::One(EntityName::queue("Orders/EU")), "/Orders/EU"),
            (Scope::One(EntityName::queue("a b?c#d")), "/a%20b%3Fc%23d"),
            (Scope::One(EntityName::queue("k%2Fse@evil.example:1")), "/k%252Fse@evil.example:1"),
            (Scope::One(EntityName::subscription("area/t", "a?b")), "/area/t/Subscriptions/a%3Fb"),
            (Scope::Subscriptions { topic: "area/t".to_owned() }, "/area/t/Subscriptions"),
            (Scope::Queues, "/$Resources/Queues"),
        ] {
            let url = exchange().url(&scope).expect("allowed");
            assert_eq!((url.host_str(), url.port(), url.path()), (Some("h"), Some(1), path), "{scope:?}");
            assert_eq!(url.query(), Some("api-version=2021-05"), "{scope:?}");
        }
        for name in ["", "//evil.example/q", "a/../b", "$Resources/Queues"] {
            assert!(exchange().url(&Scope::One(EntityName::queue(name))).is_err(), "{name:?}");
            assert!(exchange().url(&Scope::Subscriptions { topic: name.to_owned() }).is_err(), "{name:?}");
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
    fn what_a_peer_repeats_is_one_line_of_bounded_length() {
        let text = exchange().malformed(format!("it has a <{}>\n", "x\n".repeat(1 << 20))).to_string();
        assert!(text.starts_with("h sent an answer that is not understood: it has a <x x "), "{text}");
        assert!(!text.contains('\n') && text.len() < 1_000, "{} bytes", text.len());
    }

    #[test]
    fn debug_shows_no_secret() {
        assert!(!format!("{:?}", exchange()).contains("PLANTED"));
    }
}
