//! Service: what clients ask for. Route: how a request finds it.

use std::time::Duration;

use regex::Regex;
use uuid::Uuid;

/// A Service: an application behind the proxy, reached through its `host`.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Identity; derived from the name when the source gives none.
    pub id: Uuid,
    /// Name as operators and metrics know it.
    pub name: Option<String>,
    /// How the origin is spoken to.
    pub protocol: Protocol,
    /// Whether the origin's certificate is verified, where there is one.
    pub verifies: bool,
    /// The authorities it is verified by; none stands for those of the system.
    pub ca_certificates: Vec<Uuid>,
    /// What is shown to an origin that asks for a certificate.
    pub client_certificate: Option<Uuid>,
    /// The name of an Upstream, or else a host name or address that is dialled directly.
    pub host: String,
    /// Port used when `host` names no Upstream; 0 to 65535, default 80.
    pub port: u16,
    /// Path put before the request's own; starts with `/`.
    pub path: Option<String>,
    /// Further tries after the first one failed; 0 to 32767, default 5.
    pub retries: u16,
    /// Time to open a connection to a Target, TLS included; default 60 s.
    pub connect_timeout: Duration,
    /// Time between two successful writes to a Target; default 60 s.
    pub write_timeout: Duration,
    /// Time between two successful reads from a Target; default 60 s.
    pub read_timeout: Duration,
    /// A disabled Service has no Routes in the table.
    pub enabled: bool,
}

impl Service {
    /// Returns the name, or the host where there is none: what metrics and logs call the Service.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.host)
    }
}

/// How an origin is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 in plain text.
    Http,
    /// HTTP/1.1 by TLS.
    Https,
    /// HTTP/2 in plain text, by prior knowledge.
    Grpc,
    /// HTTP/2 by TLS.
    Grpcs,
}

impl Protocol {
    /// Says whether it is spoken by TLS.
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Https | Self::Grpcs)
    }

    /// Says whether it is HTTP/2.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Grpc | Self::Grpcs)
    }
}

/// A Route: the conditions under which a request belongs to a Service.
///
/// A request matches when every attribute that is not empty matches; within one attribute any
/// value will do (Kong, `traditional_compatible` router).
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Identity; derived from the name when the source gives none.
    pub id: Uuid,
    /// Name as operators and metrics know it.
    pub name: Option<String>,
    /// The Service, by id; a Route without one answers 503.
    pub service: Option<Uuid>,
    /// Schemes under which clients may come.
    pub protocols: Vec<RouteProtocol>,
    /// The protocols are those of gRPC, which nothing else may be spoken by.
    pub is_grpc: bool,
    /// Status for a client that comes by plain HTTP to a Route for HTTPS only: 426, 301, 302, 307 or 308.
    pub https_redirect_status_code: u16,
    /// Methods, upper case; empty matches all.
    pub methods: Vec<String>,
    /// Hosts; empty matches all.
    pub hosts: Vec<HostPattern>,
    /// Paths; empty matches all.
    pub paths: Vec<PathPattern>,
    /// Header conditions, all of which must hold.
    pub headers: Vec<HeaderMatch>,
    /// Server names of the TLS handshake, lower case; empty matches all, and so does plain HTTP.
    pub snis: Vec<String>,
    /// Removes the matched part of the path before the request goes upstream; default true.
    pub strip_path: bool,
    /// Sends the client's Host on instead of the Target's; default false.
    pub preserve_host: bool,
    /// Among Routes that match by regular expression the higher one wins; default 0.
    pub regex_priority: i64,
    /// How the Service's path and the request's are joined.
    pub path_handling: PathHandling,
}

impl Route {
    /// Returns the name, or the id where there is none: what metrics and logs call the Route.
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.id.to_string())
    }
}

/// A scheme under which a client may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteProtocol {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

/// How a Service's path and a request's path are joined (Kong's `path_handling`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PathHandling {
    /// Joined as segments, with exactly one slash between them.
    #[default]
    V0,
    /// Concatenated as they are.
    V1,
}

/// A host condition. Names are lower case; a port, if given, must equal the request's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// The whole name, e.g. `shop.example`.
    Exact {
        /// Host name or address.
        host: String,
        /// Port, when the condition names one.
        port: Option<u16>,
    },
    /// `*.shop.example`: any name that ends in `suffix`, which starts with a dot.
    Suffix {
        /// What the name must end in, e.g. `.shop.example`.
        suffix: String,
        /// Port, when the condition names one.
        port: Option<u16>,
    },
    /// `shop.*`: any name that starts with `prefix`, which ends with a dot.
    Prefix {
        /// What the name must start with, e.g. `shop.`.
        prefix: String,
        /// Port, when the condition names one.
        port: Option<u16>,
    },
}

/// A path condition.
#[derive(Debug, Clone)]
pub enum PathPattern {
    /// Any path that starts with these bytes; not aware of segments, as in Kong.
    Prefix(String),
    /// A regular expression, anchored at the start only; written `~/…` by operators.
    Regex(Regex),
}

impl PathPattern {
    /// Takes a regular expression as it stands behind the `~`, and anchors it at the start.
    ///
    /// # Errors
    /// The expression is malformed, or its automaton would be too large.
    pub fn regex(pattern: &str) -> Result<Self, regex::Error> {
        // The group keeps `a|b` from anchoring its first alternative only.
        Regex::new(&format!("^(?:{pattern})")).map(Self::Regex)
    }

    /// Returns the pattern as operators write it.
    pub fn source(&self) -> String {
        match self {
            Self::Prefix(prefix) => prefix.clone(),
            Self::Regex(regex) => {
                let anchored = regex.as_str();
                let inner = anchored
                    .strip_prefix("^(?:")
                    .and_then(|rest| rest.strip_suffix(')'));
                format!("~{}", inner.unwrap_or(anchored))
            }
        }
    }
}

impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Prefix(a), Self::Prefix(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

/// A header condition: one of `values` must match one of the request's fields called `name`.
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderMatch {
    /// Field name, lower case.
    pub name: http::HeaderName,
    /// Alternatives.
    pub values: Vec<ValueMatch>,
}

/// A condition on a header's value.
#[derive(Debug, Clone)]
pub enum ValueMatch {
    /// Equal to this, which is lower case; the request's value is compared in lower case too.
    Exact(String),
    /// Found by this regular expression; written `~*…` by operators.
    Regex(Regex),
}

impl PartialEq for ValueMatch {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}
