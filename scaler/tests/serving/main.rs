//! How the scaler serves: TLS and who gets in, the HTTP beside gRPC, how connections and the process end, and what strangers
//! can make it remember.

mod certificates;
mod connections;
mod http;
mod metrics;
mod mutual_tls;
mod process;
mod support;
#[cfg(feature = "otlp")]
mod traces;
mod unfinished;
mod wire;
