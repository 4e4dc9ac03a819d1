//! Process settings: what the `server` key holds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// Process settings, each with a default, so that a file without `server` runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Worker threads of the proxy; `None`: one for each core.
    pub threads: Option<usize>,
    /// Addresses on which clients are served; default `0.0.0.0:8000`.
    pub listeners: Vec<SocketAddr>,
    /// Metrics, readiness and liveness; `None` for no such listener; default `127.0.0.1:8007`.
    pub status: Option<SocketAddr>,
    /// Keys rings whose input clients choose; at least 32 bytes.
    pub secret: Option<Secret>,
    /// Where the secret is kept when `secret` is not set; made on first need, mode 0600.
    pub secret_file: PathBuf,
    /// Peers whose `X-Forwarded-*` and `X-Real-IP` are believed.
    pub trusted_ips: Vec<IpNet>,
    /// Access log; `None` for none.
    pub access_log: Option<AccessLog>,
    /// Name servers; none stands for those of `/etc/resolv.conf`.
    pub resolvers: Vec<SocketAddr>,
    /// Sizes a request may have.
    pub limits: Limits,
    /// How long clients may take.
    pub timeouts: Timeouts,
    /// What happens on SIGTERM.
    pub shutdown: Shutdown,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threads: None,
            listeners: vec![SocketAddr::from(([0, 0, 0, 0], 8000))],
            status: Some(SocketAddr::from(([127, 0, 0, 1], 8007))),
            secret: None,
            secret_file: PathBuf::from("serin.secret"),
            trusted_ips: Vec::new(),
            access_log: Some(AccessLog {
                format: AccessLogFormat::Json,
                path: PathBuf::from("/dev/stdout"),
            }),
            resolvers: Vec::new(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            shutdown: Shutdown::default(),
        }
    }
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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 32 * 1024,
            headers: 100,
            uri_bytes: 8 * 1024,
            body_bytes: None,
        }
    }
}

/// How long clients may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Longest pause within a request's body. Default 60 s.
    pub body_idle: Duration,
    /// How long an idle connection is kept. Default 75 s.
    pub keepalive: Duration,
    /// Requests after which a connection is closed. Default 10000.
    pub requests_per_connection: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            body_idle: Duration::from_secs(60),
            keepalive: Duration::from_secs(75),
            requests_per_connection: 10_000,
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
