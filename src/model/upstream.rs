//! Upstream: a named pool. Target: an address in it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use uuid::Uuid;

use super::{HealthChecks, Weight};

/// A named pool of Targets and the way one of them is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Identity; derived from the name when the source gives none.
    pub id: Uuid,
    /// The name that a Service's `host` refers to.
    pub name: String,
    /// How a Target is chosen.
    pub algorithm: Algorithm,
    /// Host header sent to Targets instead of their own name, unless the Route preserves the client's.
    pub host_header: Option<String>,
    /// When a Target counts as healthy.
    pub health: HealthChecks,
    /// Time over which a Target that comes back is given its whole weight again, 1 s to 1 h; `None`
    /// (the default) for at once. Kong has no such field: the tag `serin:slow_start=30s` sets it.
    pub slow_start: Option<Duration>,
    /// Targets in the order of the source, weight 0 included.
    pub targets: Vec<Target>,
}

/// Identity of an Upstream across generations.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UpstreamKey {
    /// A declared Upstream, by name.
    Named(String),
    /// A Service's own host and port, dialled directly.
    Direct(TargetHost, u16),
}

impl UpstreamKey {
    /// Returns what metrics and logs call the Upstream.
    pub fn label(&self) -> Cow<'_, str> {
        match self {
            Self::Named(name) => Cow::Borrowed(name),
            Self::Direct(host, port) => Cow::Owned(host.label(*port)),
        }
    }
}

/// How a Target is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Algorithm {
    /// Weighted round robin in smooth order, exact over each cycle.
    RoundRobin,
    /// Ketama ring on an input taken from the request.
    ConsistentHashing(Hashing),
    /// The fewest requests in flight for its weight.
    LeastConnections,
    /// The shortest peak-sensitive average of response times for its load and weight.
    Latency,
    /// Round robin for a client's first request; the cookie it is given leads the next ones there.
    StickySessions(SessionCookie),
}

/// The cookie of a sticky session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCookie {
    /// Name of the cookie.
    pub name: String,
    /// `Path` attribute of the cookie; default `/`.
    pub path: String,
}

/// What a consistent-hashing Upstream hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashing {
    /// First choice.
    pub input: HashInput,
    /// Used when the request lacks the first; a request that lacks both is spread by round robin.
    pub fallback: Option<HashInput>,
    /// Kong's `slots`, 10 to 65536, default 10000. The ring has `max(1, slots / 625)` points for
    /// each unit of weight: a function of this field alone, never of the sum of weights, so that
    /// taking a Target away moves only its own keys.
    pub slots: u32,
}

/// An input of the hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashInput {
    /// The Consumer's id.
    Consumer,
    /// The client's address, as `server.trusted_ips` lets it be known.
    Ip,
    /// All values of a header, joined with `, `.
    Header(http::HeaderName),
    /// A cookie; a client that has none is given one.
    Cookie {
        /// Name of the cookie.
        name: String,
        /// `Path` attribute of the cookie that is issued; default `/`.
        path: String,
    },
    /// The request's path, normalised, without the query.
    Path,
    /// A query argument; several values are sorted and joined with `,`.
    QueryArg(String),
    /// A named or numbered group of the Route's regular expression.
    UriCapture(String),
}

impl HashInput {
    /// Says whether clients can choose the value freely, so that it must be keyed with
    /// `server.secret` lest they aim at one Target.
    pub fn is_chosen_by_client(&self) -> bool {
        !matches!(self, Self::Consumer | Self::Ip)
    }
}

/// An address in an Upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Identity; derived from Upstream and address when the source gives none.
    pub id: Uuid,
    /// Host of the Target.
    pub host: TargetHost,
    /// Port; default 8000, as in Kong.
    pub port: u16,
    /// Share relative to the other Targets; 0 takes it out.
    pub weight: Weight,
}

impl Target {
    /// Returns `host:port`, with brackets around IPv6: what metrics and logs call the Target.
    pub fn label(&self) -> String {
        self.host.label(self.port)
    }
}

/// The host of a Target or of a Service that names no Upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TargetHost {
    /// A literal address.
    Address(IpAddr),
    /// A name, resolved off the request path; lower case.
    Name(String),
}

impl TargetHost {
    /// Returns `host:port`, with brackets around IPv6.
    pub fn label(&self, port: u16) -> String {
        match self {
            Self::Address(IpAddr::V6(address)) => format!("[{address}]:{port}"),
            Self::Address(address) => format!("{address}:{port}"),
            Self::Name(name) => format!("{name}:{port}"),
        }
    }

    /// Takes a literal address (IPv6 with or without brackets) or else a name.
    pub fn parse(host: &str) -> Self {
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        match bare.parse() {
            Ok(address) => Self::Address(address),
            Err(_) => Self::Name(host.to_ascii_lowercase()),
        }
    }
}
