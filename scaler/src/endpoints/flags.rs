//! The flags that say where credentials may go besides Azure: the same for every command that reads Service Bus.

use clap::Args;

use super::{AllowedEndpoints, EndpointSuffix, HostPort};

/// What the operator allows beyond the defaults.
#[derive(Args, Clone, Debug)]
pub struct EndpointArgs {
    /// Endpoint that credentials may be sent to besides Azure (and emulators on loopback, which serve takes only if
    /// --listen is a loopback address); repeatable, or comma-separated
    #[arg(long, env = "SCALER_ALLOW_ENDPOINTS", value_delimiter = ',', value_name = "HOST:PORT")]
    pub allow_endpoint: Vec<HostPort>,
    /// DNS suffix whose Service Bus namespaces credentials may be sent to besides Azure's, such as a private cloud's;
    /// repeatable, or comma-separated
    #[arg(long, env = "SCALER_ALLOW_ENDPOINT_SUFFIXES", value_delimiter = ',', value_name = "SUFFIX")]
    pub allow_endpoint_suffix: Vec<EndpointSuffix>,
}

impl EndpointArgs {
    /// The endpoints allowed, with loopback addresses in emulator mode if `loopback`.
    pub(crate) fn allowed(self, loopback: bool) -> AllowedEndpoints {
        let Self { allow_endpoint, allow_endpoint_suffix } = self;
        AllowedEndpoints::with(allow_endpoint).and_suffixes(allow_endpoint_suffix).and_loopback(loopback)
    }
}
