//! Process settings: what the `server` key holds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::{CertificateFiles, TlsVersion};

/// Process settings, each with a default, so that a file without `server` runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Worker threads of the proxy; `None`: one for each core.
    pub threads: Option<usize>,
    /// Where clients are served; default `0.0.0.0:8000`.
    pub listeners: Vec<Listener>,
    /// Certificates in files, beside those that are entities.
    pub certificates: Vec<CertificateFiles>,
    /// The earliest version of TLS that clients may speak; default 1.2.
    pub tls_min_version: TlsVersion,
    /// Metrics, readiness and liveness; `None` for no such listener; default `127.0.0.1:8007`.
    pub status: Option<SocketAddr>,
    /// Admin API; `None` for no such listener; default `127.0.0.1:8001`.
    pub admin: Option<Admin>,
    /// Where what outlives the process is kept.
    pub store: Store,
    /// Keys rings whose input clients choose; at least 32 bytes.
    pub secret: Option<Secret>,
    /// Where the secret is kept when `secret` is not set; made on first need, mode 0600. `None` for
    /// `serin.secret` beside the store.
    pub secret_file: Option<PathBuf>,
    /// Peers whose `X-Forwarded-*` and `X-Real-IP` are believed.
    pub trusted_ips: Vec<IpNet>,
    /// Access log; `None` for none.
    pub access_log: Option<AccessLog>,
    /// Tells every client which variant served it, in `X-Serin-Variant`; default false.
    pub variant_header: bool,
    /// How names are looked up.
    pub dns: Dns,
    /// Sizes a request may have.
    pub limits: Limits,
    /// What becomes of a request's fields whose names have an underscore.
    pub underscores_in_headers: UnderscoresInHeaders,
    /// How long clients may take.
    pub timeouts: Timeouts,
    /// How much of the load may be retries.
    pub retries: RetryBudget,
    /// What happens on SIGTERM.
    pub shutdown: Shutdown,
    /// How another process takes over; `None` when none can.
    pub upgrade: Option<Upgrade>,
}

impl Settings {
    /// Returns where a successor asks for the sockets: by default beside the store's file. A store in
    /// memory cannot be taken over, so its settings have to name a place.
    pub fn upgrade_socket(&self) -> Option<PathBuf> {
        let upgrade = self.upgrade.as_ref()?;
        let beside = || match &self.store {
            Store::Embedded(path) => Some(path.with_extension("sock")),
            Store::Memory => None,
        };
        upgrade.socket.clone().or_else(beside)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threads: None,
            listeners: vec![Listener::http(SocketAddr::from(([0, 0, 0, 0], 8000)))],
            certificates: Vec::new(),
            tls_min_version: TlsVersion::default(),
            status: Some(SocketAddr::from(([127, 0, 0, 1], 8007))),
            admin: Some(Admin::default()),
            store: Store::default(),
            secret: None,
            secret_file: None,
            trusted_ips: Vec::new(),
            access_log: Some(AccessLog {
                format: AccessLogFormat::Json,
                path: PathBuf::from("/dev/stdout"),
            }),
            variant_header: false,
            dns: Dns::default(),
            limits: Limits::default(),
            underscores_in_headers: UnderscoresInHeaders::default(),
            timeouts: Timeouts::default(),
            retries: RetryBudget::default(),
            shutdown: Shutdown::default(),
            upgrade: Some(Upgrade::default()),
        }
    }
}

/// A socket on which clients are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it is.
    pub address: ListenAddress,
    /// What clients speak on it.
    pub protocol: ListenProtocol,
    /// Each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
}

/// Where a socket listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a port.
    Inet(SocketAddr),
    /// A path in the file system.
    Unix(PathBuf),
}

/// What clients speak on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenProtocol {
    /// HTTP/1.0 and HTTP/1.1 in plain text.
    Http,
    /// TLS, and inside HTTP/2 or HTTP/1.1, as the two agree by ALPN (RFC 7301).
    Https,
    /// HTTP/2 in plain text, by prior knowledge (RFC 9113 §3.3).
    H2c,
}

impl Listener {
    /// Makes a plain listener for HTTP/1.1.
    pub fn http(address: SocketAddr) -> Self {
        Self {
            address: ListenAddress::Inet(address),
            protocol: ListenProtocol::Http,
            proxy_protocol: false,
        }
    }
}

impl Listener {
    /// Makes a listener for TLS.
    pub fn https(address: SocketAddr) -> Self {
        Self {
            address: ListenAddress::Inet(address),
            protocol: ListenProtocol::Https,
            proxy_protocol: false,
        }
    }
}

impl ListenAddress {
    /// What stands in front of a path.
    pub const UNIX_PREFIX: &str = "unix:";
}

impl std::str::FromStr for ListenAddress {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(Self::UNIX_PREFIX) {
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Inet),
        }
    }
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{}{}", Self::UNIX_PREFIX, path.display()),
        }
    }
}

/// The Admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Address it listens on.
    pub address: SocketAddr,
    /// What those who may change something show; `None` on a loopback address only.
    pub token: Option<Token>,
    /// A file that holds it.
    pub token_file: Option<PathBuf>,
    /// What those who may only read show.
    pub read_token: Option<Token>,
    /// Names in `Host` beside addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Web pages that may call it, by their `Origin`.
    pub origins: Vec<String>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8001)),
            token: None,
            token_file: None,
            read_token: None,
            hosts: Vec::new(),
            origins: Vec::new(),
        }
    }
}

/// What somebody shows to be let in.
pub type Token = super::Masked;

/// Where entities and their history are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// In one file.
    Embedded(PathBuf),
    /// In memory: nothing outlives the process.
    Memory,
}

impl Default for Store {
    fn default() -> Self {
        Self::Embedded(PathBuf::from("serin.redb"))
    }
}

/// How names are looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Name servers; none stands for those of `/etc/resolv.conf`.
    pub resolvers: Vec<SocketAddr>,
    /// Addresses that are used.
    pub family: AddressFamily,
}

/// Addresses of a name that are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AddressFamily {
    /// All that the name has.
    #[default]
    Any,
    /// A records.
    Ipv4,
    /// AAAA records.
    Ipv6,
}

/// A secret: shown as `***` wherever it might be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Fewest bytes a secret may have.
    pub const MIN_BYTES: usize = 32;

    /// Takes the bytes, or `None` when there are fewer than [`Secret::MIN_BYTES`].
    pub fn new(bytes: impl Into<Vec<u8>>) -> Option<Self> {
        let bytes = bytes.into();
        (bytes.len() >= Self::MIN_BYTES).then_some(Self(bytes))
    }

    /// Returns the bytes, for hashing only.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Shape of a line.
    pub format: AccessLogFormat,
    /// File that is appended to; `/dev/stdout` and `/dev/stderr` work.
    pub path: PathBuf,
}

/// Shape of an access log's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// One JSON object a line.
    Json,
    /// Apache's combined format.
    Combined,
}

/// Sizes a request may have; what is over is answered, not forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sum of header names and values; over it 431. Default 32 KiB.
    pub header_bytes: usize,
    /// Number of header fields; over it 431. Default 100.
    pub headers: usize,
    /// Length of path and query; over it 414. Default 8 KiB.
    pub uri_bytes: usize,
    /// Length of the body; over it 413. Default unlimited.
    pub body_bytes: Option<u64>,
    /// Bytes a second that a request's body must bring until the Target answers; below it 408. Default 240;
    /// 0 for no such limit.
    pub body_rate: u64,
    /// Connections of all clients; one more is closed at once. Default 65536.
    pub connections: usize,
    /// Connections of one address; one more is closed at once. Default unlimited.
    pub connections_per_ip: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 32 * 1024,
            headers: 100,
            uri_bytes: 8 * 1024,
            body_bytes: None,
            body_rate: 240,
            connections: 65_536,
            connections_per_ip: None,
        }
    }
}

/// What becomes of header fields whose names have an underscore, which CGI and its like cannot tell from a
/// hyphen: a client could write `X_Real_IP` where the gateway writes `X-Real-IP`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnderscoresInHeaders {
    /// The request goes on without them, as in nginx.
    #[default]
    Drop,
    /// The request is answered with 400.
    Refuse,
    /// They are passed on like others.
    Keep,
}

/// How long clients may take, and what is left at a Target out of rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Time for a request's header from its first byte to its end, and for the preface of HTTP/2. Default 10 s.
    pub header: Duration,
    /// Time for a TLS handshake. Default 10 s.
    pub tls_handshake: Duration,
    /// Longest pause within a request's body. Default 60 s.
    pub body_idle: Duration,
    /// How long an idle connection is kept. Default 75 s.
    pub keepalive: Duration,
    /// Requests after which a connection is closed. Default 10000.
    pub requests_per_connection: u32,
    /// How long requests and connections may go on at a Target that a change has taken out of rotation.
    /// `None` for as long as they like, which is the default: a release must break nothing that works.
    pub target_drain: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            tls_handshake: Duration::from_secs(10),
            body_idle: Duration::from_secs(60),
            keepalive: Duration::from_secs(75),
            requests_per_connection: 10_000,
            target_drain: None,
        }
    }
}

/// How many requests of an Upstream may be on a second or further retry at a time: a share of its
/// requests in flight, or a few where that is less.
///
/// Without it a pool that is down gets every request as many times as a Service has `retries`, just
/// when it can bear it least. The first retry is always allowed: it is what hides a single dead
/// Target from clients, and at most doubles the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    /// Share of the requests in flight, in percent, 0 to 100. Default 20, Envoy's and linkerd's.
    pub budget_percent: u8,
    /// Retries that are allowed at any load, so that an idle pool is retried at all. Default 3.
    pub min_concurrent: u32,
}

impl RetryBudget {
    /// Returns how many requests may be retried at a time while `in_flight` are served.
    pub fn limit(self, in_flight: u64) -> u64 {
        (in_flight * u64::from(self.budget_percent) / 100).max(self.min_concurrent.into())
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            budget_percent: 20,
            min_concurrent: 3,
        }
    }
}

/// What happens on SIGTERM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shutdown {
    /// How long the proxy goes on accepting after it has reported itself not ready. Default 0 s.
    pub pre_stop_delay: Duration,
    /// How long requests in flight may take after that. Default 30 s.
    pub drain: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            pre_stop_delay: Duration::ZERO,
            drain: Duration::from_secs(30),
        }
    }
}

/// How another process takes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// Unix socket at which it asks; default beside the store's file.
    pub socket: Option<PathBuf>,
    /// How long it may take to serve once it has the sockets. Default 60 s.
    pub deadline: Duration,
}

impl Default for Upgrade {
    fn default() -> Self {
        Self {
            socket: None,
            deadline: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_budget_is_a_share_of_the_load_or_a_few() {
        for (budget_percent, min_concurrent, in_flight, limit) in [
            (20, 3, 0, 3),
            (20, 3, 19, 3),
            (20, 3, 20, 4),
            (20, 3, 1_000, 200),
            (0, 0, 1_000, 0),
            (0, 2, 1_000, 2),
            (100, 0, 7, 7),
        ] {
            let budget = RetryBudget {
                budget_percent,
                min_concurrent,
            };
            assert_eq!(budget.limit(in_flight), limit, "{budget:?} of {in_flight}");
        }
    }
}
