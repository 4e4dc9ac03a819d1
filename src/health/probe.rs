//! One probe: what is asked of an address, and what came of it.
//!
//! Pingora's health checks do the asking. Their own verdict is not used: what a status means, how
//! many failures it takes and when to ask again is Kong's to say. An HTTP check is ended by its
//! validator as soon as the header is there, with the status in the error, so the body of an answer
//! is never read and a Target that streams for ever costs no more than one that does not. One
//! deadline spans the whole probe; whoever asks keeps it.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue};
use pingora_core::connectors::ConnectorOptions;
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora_core::upstreams::peer::{HttpPeer, Scheme};
use pingora_error::{Error, ErrorType};
use pingora_http::RequestHeader;
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::{HealthCheck, HttpHealthCheck, TcpHealthCheck};

use super::machine::Report;
use super::passive::failure_of;
use crate::model::{ActiveChecks, Probe, Statuses, Target, TargetHost};

/// How a probe names itself.
const PROBE_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("serin/", env!("CARGO_PKG_VERSION"), " (health check)"));
/// What ends a check whose header has come.
const STATUS: &str = "status of a probe";
/// The certificates that a probe without TLS verifies with: none. The system's are 200 KiB a copy.
const NO_CERTIFICATES: &str = "/dev/null";
/// Descriptors that the reading of certificates may need at a time, and some for what others take meanwhile.
const DESCRIPTORS: usize = 8;

/// What to ask of the addresses of one Target.
#[derive(Debug)]
pub struct Order {
    ask: Ask,
    timeout: Duration,
    statuses: Statuses,
}

#[derive(Debug)]
enum Ask {
    Tcp,
    Http {
        request: Box<RequestHeader>,
        /// Name in the handshake and whether the certificate is verified.
        tls: Option<(String, bool)>,
    },
}

/// What came of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It counts.
    Counts(Report),
    /// The status is in neither list.
    Ignored,
    /// It failed on this side: no descriptor, no port, no memory.
    Local,
}

impl Outcome {
    /// Every value of the metric's label.
    pub const LABELS: [&'static str; 6] = [
        "success",
        "http_failure",
        "tcp_failure",
        "timeout",
        "ignored",
        "local",
    ];

    /// Returns the position of its label in [`Outcome::LABELS`].
    pub fn position(self) -> usize {
        match self {
            Self::Counts(Report::Success) => 0,
            Self::Counts(Report::HttpFailure) => 1,
            Self::Counts(Report::TcpFailure) => 2,
            Self::Counts(Report::Timeout) => 3,
            Self::Ignored => 4,
            Self::Local => 5,
        }
    }
}

impl Order {
    /// Makes the order for a Target of an Upstream.
    pub fn new(checks: &ActiveChecks, host_header: Option<&HeaderValue>, target: &Target) -> Self {
        let ask = match &checks.probe {
            Probe::Tcp => Ask::Tcp,
            Probe::Http { path, headers, tls } => {
                let own = own_host(target);
                let host = host_header.cloned().unwrap_or(own);
                let request = request(path.as_str(), &host, headers);
                let tls = tls.as_ref().map(|tls| {
                    let sni = tls.sni.clone().unwrap_or_else(|| server_name(&host));
                    (sni, tls.verify)
                });
                Ask::Http {
                    request: Box::new(request),
                    tls,
                }
            }
        };
        Self {
            ask,
            timeout: checks.timeout,
            statuses: checks.statuses,
        }
    }

    /// Returns how long a probe may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// Host of a Target without its port, as Kong's probes have it.
fn own_host(target: &Target) -> HeaderValue {
    let host = match &target.host {
        TargetHost::Address(std::net::IpAddr::V6(address)) => format!("[{address}]"),
        TargetHost::Address(address) => address.to_string(),
        TargetHost::Name(name) => name.clone(),
    };
    HeaderValue::try_from(host).expect("the model holds valid hosts")
}

/// Name to verify the certificate against: the Host without its port. Never empty, because Pingora
/// takes an empty one for "do not verify".
fn server_name(host: &HeaderValue) -> String {
    let host = host.to_str().unwrap_or_default();
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    match bare {
        "" => "invalid".to_owned(),
        name => name.to_owned(),
    }
}

fn request(path: &str, host: &HeaderValue, headers: &[(HeaderName, HeaderValue)]) -> RequestHeader {
    let mut request = RequestHeader::build("GET", path.as_bytes(), Some(headers.len() + 3))
        .expect("the model holds valid paths");
    let mut set = |name: &HeaderName, value: &HeaderValue| {
        let _ = request.insert_header(name.clone(), value.clone());
    };
    set(&HOST, host);
    set(&USER_AGENT, &PROBE_AGENT);
    set(&CONNECTION, &HeaderValue::from_static("close"));
    // What the operator gives replaces ours; what he gives several times is sent several times.
    for (name, _) in headers {
        request.remove_header(name);
    }
    for (name, value) in headers {
        let _ = request.append_header(name.clone(), value.clone());
    }
    request
}

/// Of all probers, since nothing in it is a Target's own: so it is there from the first pass on, before clients come
/// who may leave no descriptor to make it with.
static TCP: OnceLock<Box<TcpHealthCheck>> = OnceLock::new();

/// Carries probes out, one at a time. Kept from one to the next, because Pingora gives each of its
/// checks a connector of its own.
#[derive(Default)]
pub struct Prober {
    http: Option<Box<HttpHealthCheck>>,
    https: Option<Box<HttpHealthCheck>>,
}

impl Prober {
    /// Carries out one probe. It has timed out when `is_over` comes first.
    pub async fn probe(
        &mut self,
        order: &Order,
        address: SocketAddr,
        is_over: impl Future<Output = ()>,
    ) -> Outcome {
        let backend = Backend {
            addr: PeerAddress::Inet(address),
            weight: 1,
            ext: http::Extensions::new(),
        };
        let Some(check) = self.check_for(&order.ask) else {
            return Outcome::Local;
        };
        tokio::select! {
            result = check.check(&backend) => match result {
                Ok(()) => Outcome::Counts(Report::Success),
                Err(error) => outcome_of(&error, &order.statuses),
            },
            () = is_over => Outcome::Counts(Report::Timeout),
        }
    }

    /// Returns the check, without time-outs of its own: each would be a timer. `None` when it cannot be set up
    /// now: Pingora panics where it cannot read a file of certificates.
    fn check_for(&mut self, ask: &Ask) -> Option<&(dyn HealthCheck + Send + Sync)> {
        let is_set_up = match ask {
            Ask::Tcp => TCP.get().is_some(),
            Ask::Http { tls: None, .. } => self.http.is_some(),
            Ask::Http { tls: Some(_), .. } => self.https.is_some(),
        };
        if !is_set_up && !has_descriptors() {
            return None;
        }
        Some(match ask {
            Ask::Tcp => &**TCP.get_or_init(tcp_check),
            Ask::Http { request, tls } => {
                let check = match tls {
                    None => self.http.get_or_insert_with(|| http_check(Some(NO_CERTIFICATES))),
                    Some(_) => self.https.get_or_insert_with(|| http_check(None)),
                };
                check.req = (**request).clone();
                if let Some((sni, verify)) = tls {
                    let peer = &mut check.peer_template;
                    peer.scheme = Scheme::HTTPS;
                    peer.sni.clone_from(sni);
                    peer.options.verify_cert = *verify;
                    peer.options.verify_hostname = *verify;
                }
                &**check
            }
        })
    }
}

/// Says whether a few descriptors are left.
fn has_descriptors() -> bool {
    let opened: Vec<_> = (0..DESCRIPTORS).map(|_| File::open(NO_CERTIFICATES)).collect();
    opened.iter().all(Result::is_ok)
}

/// Options of a connector that keeps nothing and trusts the certificates of a file, or the system's.
fn options(certificates: Option<&str>) -> ConnectorOptions {
    let mut options = ConnectorOptions::new(1);
    options.ca_file = certificates.map(str::to_owned);
    options
}

fn tcp_check() -> Box<TcpHealthCheck> {
    let mut check = TcpHealthCheck::new();
    check.peer_template.options.connection_timeout = None;
    let connector = pingora_core::connectors::TransportConnector::new(Some(options(Some(NO_CERTIFICATES))));
    check.set_connector(connector);
    check
}

fn http_check(certificates: Option<&str>) -> Box<HttpHealthCheck> {
    let connector = Connector::new(Some(options(certificates)));
    let mut check = HttpHealthCheck::new_custom("", false, connector);
    check.peer_template = HttpPeer::new(SocketAddr::from(([0, 0, 0, 0], 1)), false, String::new());
    check.reuse_connection = false;
    check.validator = Some(Box::new(|response| {
        Error::e_explain(ErrorType::CustomCode(STATUS, response.status.as_u16()), "")
    }));
    Box::new(check)
}

fn outcome_of(error: &Error, statuses: &Statuses) -> Outcome {
    match error.etype() {
        ErrorType::CustomCode(STATUS, status) if statuses.healthy.contains(*status) => {
            Outcome::Counts(Report::Success)
        }
        ErrorType::CustomCode(STATUS, status) if statuses.unhealthy.contains(*status) => {
            Outcome::Counts(Report::HttpFailure)
        }
        ErrorType::CustomCode(STATUS, _) => Outcome::Ignored,
        // What is no HTTP has status 0 in Kong, which is a failing one.
        ErrorType::InvalidHTTPHeader => Outcome::Counts(Report::HttpFailure),
        _ => failure_of(error).map_or(Outcome::Local, Outcome::Counts),
    }
}
