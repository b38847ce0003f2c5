//! Listeners and the life of a broker: bind, accept, tell protocols apart, end.
//!
//! Each connection is a task; their number is capped. The state lives in the [`Hub`], so a broker that is shut down, or
//! dropped, takes everything with it.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::access::{Access, SharedAccessKey};
use crate::admin::Admin;
use crate::budget::Budget;
use crate::caller::Caller;
use crate::control::Control;
use crate::counters::{Counters, Counts};
use crate::faults::{self, Denial, Faults, Plane, Stall, TooManyFaults};
use crate::http::Http;
use crate::hub::Hub;
use crate::initial;
use crate::options::Options;
use crate::peer::{self, PeerSettings};
use crate::sniff::{FIRST_BYTES_DEADLINE, Protocol, Sniffed, sniff};
use crate::socket::Socket;
use crate::state::{Config, EntityName, InvalidName, Refusal, State};
use crate::tls::{Tls, TlsError};

/// How long connections may take to say good-bye at the end.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(5);
/// After a failed accept (too many open files, say) the next try waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a broker could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken, or an address is not this machine's.
    #[error("cannot listen on {address}")]
    Listen {
        /// As asked for.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// No address to listen on.
    #[error("no address to listen on is given")]
    NoAddress,
    /// No shared access key, so that nobody could sign.
    #[error("no shared access key is given")]
    NoKey,
    /// Two shared access keys have one name, by which a token says which key signed it.
    #[error("two shared access keys are named {name:?}")]
    RepeatedKey {
        /// As given.
        name: String,
    },
    /// TLS cannot be served.
    #[error("cannot serve TLS")]
    Tls(#[from] TlsError),
    /// Too many faults are asked for.
    #[error(transparent)]
    Faults(#[from] TooManyFaults),
    /// The name of an entity breaks the rules.
    #[error("cannot create {kind} {name:?}")]
    EntityName {
        /// Queue, topic or subscription.
        kind: &'static str,
        /// As asked for.
        name: String,
        /// Which rule.
        #[source]
        source: InvalidName,
    },
    /// An entity cannot be created.
    #[error("cannot create {kind} {name}")]
    Entity {
        /// Queue, topic or subscription.
        kind: &'static str,
        /// As asked for.
        name: EntityName,
        /// Why.
        #[source]
        source: Box<Refusal>,
    },
}

/// A running broker. Dropping it ends it at once; [`shutdown`](Self::shutdown) ends it politely.
pub struct Broker {
    addresses: Vec<SocketAddr>,
    connection_string: String,
    tls_connection_string: Option<String>,
    certificate_authority_pem: Option<String>,
    counters: Arc<Counters>,
    faults: Faults,
    tasks: TaskTracker,
    stop: DropGuard,
}

impl Broker {
    /// Binds all addresses, creates the entities, and serves in tasks of the current runtime.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Options {
            listen,
            queues,
            topics,
            subscriptions,
            active_count_includes_locked,
            keys,
            accept_any_jwt,
            acknowledge_delay,
            max_connections,
            tls,
            control_key,
            allow_faults,
            faults: faults_at_start,
            credits_per_second,
        } = options;
        let key = keys.first().ok_or(StartError::NoKey)?.clone();
        let mut names = HashSet::new();
        if let Some(repeated) = keys.iter().find(|key| !names.insert(&key.name)) {
            return Err(StartError::RepeatedKey { name: repeated.name.clone() });
        }
        let mut listeners = Vec::with_capacity(listen.len());
        for address in listen {
            let failed = |source| StartError::Listen { address, source };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let bound = listener.local_addr().map_err(failed)?;
            listeners.push((listener, bound));
        }
        let addresses: Vec<SocketAddr> = listeners.iter().map(|(_, bound)| *bound).collect();
        let first = *addresses.first().ok_or(StartError::NoAddress)?;
        let tls = tls.map(|options| Tls::new(&options, &addresses)).transpose()?;
        let tls_connection_string = tls.as_ref().map(|tls| connection_string(&tls.endpoint(reachable(first)), &key));
        let certificate_authority_pem = tls.as_ref().and_then(Tls::authority_pem).map(str::to_owned);
        let connection_string = match &tls_connection_string {
            Some(connection) if tls.as_ref().is_some_and(|tls| tls.only) => connection.clone(),
            _ => format!("{}UseDevelopmentEmulator=true;", connection_string(&reachable(first).to_string(), &key)),
        };

        let config = Config { count_locked_as_active: active_count_includes_locked, ..Config::default() };
        let hub = Arc::new(Hub::new(State::new(config, random_seed())));
        initial::create(&hub, queues, topics, subscriptions)?;
        let access = Arc::new(Access::new(keys, accept_any_jwt));
        let counters = Arc::new(Counters::default());
        let budget = Arc::new(Budget::new(credits_per_second, Instant::now()));
        let faults = Faults::default();
        for fault in faults_at_start {
            faults.add(fault)?;
        }
        let shared = Arc::new(Shared {
            counters: Arc::clone(&counters),
            faults: faults.clone(),
            http: Arc::new(Http {
                admin: Admin::new(Arc::clone(&hub), Arc::clone(&access)),
                control: Control {
                    counters: Arc::clone(&counters),
                    key: control_key,
                    faults: allow_faults.then(|| faults.clone()),
                },
                counters: Arc::clone(&counters),
                faults: faults.clone(),
                budget: Arc::clone(&budget),
            }),
            hub: Arc::clone(&hub),
            peers: Arc::new(PeerSettings {
                access,
                acknowledge_delay,
                counters: Arc::clone(&counters),
                faults: faults.clone(),
                budget,
            }),
            tls,
            places: Arc::new(Semaphore::new(max_connections.clamp(1, Semaphore::MAX_PERMITS))),
        });

        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let ticker_stop = stop.clone();
        tasks.spawn(async move { hub.run_ticker(ticker_stop).await });
        for (listener, address) in listeners {
            let accepting = accept(listener, Arc::clone(&shared), tasks.clone(), stop.clone());
            tasks.spawn(accepting.instrument(tracing::info_span!("listener", %address)));
            tracing::info!(%address, "listening for AMQP and HTTP");
        }
        let stop = stop.drop_guard();
        Ok(Self {
            addresses,
            connection_string,
            tls_connection_string,
            certificate_authority_pem,
            counters,
            faults,
            tasks,
            stop,
        })
    }

    /// The addresses it listens on, with their real ports, in the order of the options.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Reaches the first address with the first key: without TLS, unless only TLS is served. Holds the key.
    pub fn connection_string(&self) -> &str {
        &self.connection_string
    }

    /// Reaches the first address with the first key over TLS. Holds the key.
    pub fn tls_connection_string(&self) -> Option<&str> {
        self.tls_connection_string.as_deref()
    }

    /// The certificate that clients must trust, as PEM, where the broker generated its own.
    pub fn certificate_authority_pem(&self) -> Option<&str> {
        self.certificate_authority_pem.as_deref()
    }

    /// What clients have asked for since the start or the last reset.
    pub fn counters(&self) -> Counts {
        self.counters.snapshot()
    }

    /// The same, and begins anew.
    pub fn reset_counters(&self) -> Counts {
        self.counters.reset()
    }

    /// The faults on demand; whether the control endpoint serves them does not matter here.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Stops accepting, closes every connection with `amqp:connection:forced`, and returns when all are gone (at most
    /// after five seconds).
    pub async fn shutdown(self) {
        let Self { tasks, stop, .. } = self;
        tasks.close();
        drop(stop);
        if tokio::time::timeout(SHUTDOWN_PATIENCE, tasks.wait()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "some connections did not end in time");
        }
    }
}

impl fmt::Debug for Broker {
    /// Without the connection string, which holds a key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Broker").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// What connections share.
struct Shared {
    hub: Arc<Hub>,
    http: Arc<Http>,
    counters: Arc<Counters>,
    faults: Faults,
    peers: Arc<PeerSettings>,
    tls: Option<Tls>,
    places: Arc<Semaphore>,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tasks: TaskTracker, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
            tracing::warn!(%client, "connection refused: --max-connections is reached");
            continue;
        };
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        let serving = async move {
            let _open = shared.counters.connected();
            serve(Socket::new(stream), client, &shared, stop).await;
            drop(place);
        };
        tasks.spawn(serving.instrument(tracing::info_span!("connection", %client)));
    }
}

async fn serve(mut socket: Socket, client: SocketAddr, shared: &Shared, stop: CancellationToken) {
    socket.set_nodelay();
    let Some(sniffed) = first_bytes(&mut socket, &stop).await else { return };
    let rewound = socket.rewound(sniffed.taken);
    let connection = Connection { socket, client, is_tls: sniffed.protocol == Protocol::Tls, stop };
    if !connection.is_tls {
        if shared.tls.as_ref().is_some_and(|tls| tls.only) {
            tracing::warn!("a client does not speak TLS, and --tls-only is given");
            return;
        }
        return connection.serve(sniffed.protocol, rewound.clone(), rewound, shared).await;
    }
    let Some(tls) = &shared.tls else {
        tracing::warn!(
            "a client speaks TLS, which is off: use UseDevelopmentEmulator=true or http://, or start the broker with --tls-generate"
        );
        return;
    };
    if !connection.passes(None, shared).await {
        return;
    }
    let handshake = tokio::select! {
        handshake = tls.accept(rewound) => handshake,
        () = connection.stop.cancelled() => return,
    };
    let mut stream = match handshake {
        Ok(stream) => stream,
        Err(error) => {
            tracing::info!(%error, "the TLS handshake failed; does the client trust the certificate?");
            return;
        }
    };
    shared.counters.secured();
    let Some(sniffed) = first_bytes(&mut stream, &connection.stop).await else { return };
    let (read, write) = tokio::io::split(stream);
    let read = io::Cursor::new(sniffed.taken).chain(read);
    connection.serve(sniffed.protocol, read, write, shared).await;
}

/// A connection of which it is known what it speaks.
struct Connection {
    socket: Socket,
    client: SocketAddr,
    is_tls: bool,
    stop: CancellationToken,
}

impl Connection {
    async fn serve(
        self,
        protocol: Protocol,
        read: impl AsyncRead + Unpin + 'static,
        write: impl AsyncWrite + Unpin + 'static,
        shared: &Shared,
    ) {
        let (cut, stop) = (CancellationToken::new(), self.stop.clone());
        match protocol {
            Protocol::Amqp => {
                // Over TLS, faults that do not tell AMQP from HTTP were asked before the handshake.
                if !self.is_tls && !self.passes(None, shared).await || !self.passes(Some(Plane::Amqp), shared).await {
                    return;
                }
                let _open = shared.counters.speaks_amqp();
                let (hub, peers) = (Arc::clone(&shared.hub), Arc::clone(&shared.peers));
                let serving = peer::serve(read, write, hub, peers, cut.clone(), stop.clone());
                faults::conduct(serving, Plane::Amqp, &self.socket, &cut, &shared.faults, &stop).await;
            }
            // Faults are asked for each request, so that the control endpoint keeps answering.
            Protocol::Http => {
                let caller = Caller { address: self.client, is_tls: self.is_tls, cut: cut.clone() };
                let serving = Arc::clone(&shared.http).serve(tokio::io::join(read, write), caller, stop.clone());
                faults::conduct(serving, Plane::Administration, &self.socket, &cut, &shared.faults, &stop).await;
            }
            Protocol::Tls => tracing::warn!("a client speaks TLS inside TLS"),
            Protocol::Unknown => tracing::warn!("a client speaks neither AMQP nor HTTP"),
        }
    }

    /// Whether faults let the connection go on: when it stands still, once that is over.
    async fn passes(&self, plane: Option<Plane>, shared: &Shared) -> bool {
        match shared.faults.judge_connection(plane) {
            Some(Denial::Reset) => {
                self.socket.reset_at_end();
                false
            }
            Some(Denial::Stall(stall)) => tokio::select! {
                () = Stall::lifted(Some(&stall)) => true,
                () = self.stop.cancelled() => false,
            },
            _ => true,
        }
    }
}

/// What the client says first; nothing when it leaves or stays silent.
async fn first_bytes(stream: &mut (impl AsyncRead + Unpin), stop: &CancellationToken) -> Option<Sniffed> {
    let sniffed = tokio::select! {
        sniffed = sniff(stream, FIRST_BYTES_DEADLINE) => sniffed,
        () = stop.cancelled() => return None,
    };
    sniffed
        .inspect_err(|error| tracing::debug!(%error, "the client left or stayed silent before it said what it speaks"))
        .ok()
}

/// A connection string for TLS; more can be put behind it.
fn connection_string(endpoint: &str, key: &SharedAccessKey) -> String {
    format!("Endpoint=sb://{endpoint};SharedAccessKeyName={};SharedAccessKey={};", key.name, key.secret())
}

/// An address that a client on this machine can connect to, where "all addresses" was asked for.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Randomness for lock tokens, from the system by way of two random UUIDs (122 bits each).
fn random_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    seed[16..].copy_from_slice(Uuid::new_v4().as_bytes());
    seed
}
