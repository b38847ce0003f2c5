//! The HTTP beside gRPC: probes and metrics on the pod's address; explanations and the log level for this host alone.
//!
//! Two routers for two listeners, so that what is for this host cannot be reached by any path at the pod's address. Whether
//! it is alive says nothing about Service Bus: a fault over there must not restart a healthy scaler. What a connection may cost
//! is `listener`'s business.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::known_triggers::KnownTriggers;
use crate::metrics::{self, Metrics};

mod exposition;
mod listener;

use exposition::Expositions;
pub(crate) use listener::serve;

/// The crates whose log level may be changed while running.
const OWN_CRATES: [&str; 6] = ["scaler", "servicebus", "scaling", "amqp", "runtime", "externalscaler"];
/// A log filter is shorter.
const MAX_BODY_BYTES: usize = 1024;

/// An address that only this host reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopbackAddress(SocketAddr);

impl LoopbackAddress {
    /// The address, whose IP is a loopback one.
    pub fn address(self) -> SocketAddr {
        self.0
    }
}

/// Not an address that only this host reaches.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be a loopback IP address and a port, such as 127.0.0.1:8081, because it is not for other hosts")]
pub struct NotLoopback;

impl FromStr for LoopbackAddress {
    type Err = NotLoopback;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address: SocketAddr = text.parse().map_err(|_| NotLoopback)?;
        if address.ip().is_loopback() { Ok(Self(address)) } else { Err(NotLoopback) }
    }
}

/// For the pod's address: `/livez`, `/readyz`, `/metrics`. Ready until `draining`.
pub(crate) fn pod_routes(metrics: Metrics, draining: CancellationToken) -> Router {
    let readiness = move || {
        let is_draining = draining.is_cancelled();
        async move { if is_draining { (StatusCode::SERVICE_UNAVAILABLE, "draining\n") } else { (StatusCode::OK, "ok\n") } }
    };
    let exposition = async |State(expositions): State<Expositions>| {
        ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], expositions.text())
    };
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readiness))
        .route("/metrics", get(exposition))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Expositions::new(metrics))
}

/// For loopback: `/explain`, `/log-level`.
pub(crate) fn local_routes(triggers: KnownTriggers) -> Router {
    Router::new()
        .route("/explain", get(explain))
        .route("/log-level", put(change_log_level).get(log_level).delete(reset_log_level))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(from_this_host))
        .with_state(triggers)
}

#[derive(Deserialize)]
struct Asked {
    namespace: Option<String>,
    name: Option<String>,
}

async fn explain(State(triggers): State<KnownTriggers>, Query(asked): Query<Asked>) -> Response {
    let Asked { namespace: Some(namespace), name: Some(name) } = asked else {
        return refused(StatusCode::BAD_REQUEST, "say which ScaledObject: /explain?namespace=NAMESPACE&name=NAME");
    };
    let triggers = triggers.explain(&namespace, &name);
    if triggers.is_empty() {
        let problem = "nothing was asked about a ScaledObject of this namespace and name in the last hour";
        return refused(StatusCode::NOT_FOUND, problem);
    }
    Json(json!({ "namespace": namespace, "name": name, "triggers": triggers })).into_response()
}

async fn change_log_level(wanted: String) -> Response {
    answer_log_level(runtime::change_log_level(wanted.trim(), &OWN_CRATES))
}

async fn reset_log_level() -> Response {
    answer_log_level(runtime::reset_log_level())
}

async fn log_level() -> Response {
    answer_log_level(runtime::log_level().ok_or(runtime::LogLevelError::NotInstalled))
}

fn answer_log_level(in_force: Result<String, runtime::LogLevelError>) -> Response {
    match in_force {
        Ok(filter) => format!("{filter}\n").into_response(),
        Err(error) => {
            let status = match error {
                runtime::LogLevelError::Part { .. } => StatusCode::BAD_REQUEST,
                runtime::LogLevelError::NotInstalled | runtime::LogLevelError::Filter(_) => {
                    StatusCode::INTERNAL_SERVER_ERROR
                }
            };
            refused(status, &error.to_string())
        }
    }
}

/// Refuses what was not addressed to this host by name: a web page that a person beside the port-forward visits could
/// have its own name lead here, but cannot make the browser say `localhost`.
async fn from_this_host(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let bare = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name);
    let bare = bare.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(bare);
    let is_this_host =
        bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if is_this_host {
        next.run(request).await
    } else {
        refused(StatusCode::FORBIDDEN, "this is for localhost alone; use kubectl port-forward")
    }
}

fn refused(status: StatusCode, problem: &str) -> Response {
    (status, Json(json!({ "error": problem }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_are_taken() {
        for address in ["127.0.0.1:8081", "127.3.2.1:0", "[::1]:8081"] {
            assert!(address.parse::<LoopbackAddress>().is_ok(), "{address}");
        }
        for address in ["0.0.0.0:8081", "[::]:8081", "10.0.0.1:8081", "localhost:8081", "8081", "[::ffff:10.0.0.1]:1"] {
            let error = address.parse::<LoopbackAddress>().expect_err(address).to_string();
            assert!(error.contains("127.0.0.1:8081"), "{error}");
        }
    }
}
