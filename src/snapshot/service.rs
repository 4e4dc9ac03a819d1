//! A compiled Service, and where the requests of each of its variants go.

use std::sync::Arc;

use ahash::RandomState;
use pingora_core::upstreams::peer::PeerOptions;
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use prometheus::{Histogram, IntCounter};

use super::Upstream;
use crate::metrics::{ByStatusClass, HistogramSlot, STATUS_CLASSES, Slot, metrics};
use crate::model::{self, Variant};
use crate::origin::{KEPT_FOR, Timeouts};

/// A compiled Service.
#[derive(Debug)]
pub struct Service {
    /// What metrics and logs call it.
    pub label: Arc<str>,
    /// Where its requests go that no canary gets.
    pub stable: Destination,
    /// Further tries after the first one failed.
    pub retries: u16,
    /// Protocol towards the Targets and what else Pingora keeps to, ready for it.
    pub peer_options: PeerOptions,
    /// TLS towards the Targets, if it is spoken.
    pub tls: Option<OriginTls>,
    /// Neither TLS nor HTTP/2 is spoken: its connections are made and kept by the worker, not by Pingora.
    pub is_plain: bool,
    /// How long its Targets may take.
    pub timeouts: Timeouts,
    retries_by_reason: [Slot<IntCounter>; RetryReason::ALL.len()],
    retries_denied: Slot<IntCounter>,
}

/// TLS towards origins.
#[derive(Debug)]
pub struct OriginTls {
    /// The origin's certificate is verified.
    pub verifies: bool,
    /// What is shown to an origin that asks for a certificate.
    pub client: Option<Arc<CertKey>>,
    /// Tells connections apart that were verified by other authorities or under another certificate of this
    /// side: Pingora's pool knows nothing of the first, and of the second the serial number alone.
    pub pool_key: u64,
}

/// Certificates that a Service refers to.
#[derive(Debug, Clone, Default)]
pub(super) struct ServiceCertificates {
    /// Authorities that its origins are verified by.
    pub authorities: Vec<Arc<model::CaCertificate>>,
    /// What it shows.
    pub client: Option<Arc<model::Certificate>>,
}

impl ServiceCertificates {
    /// Says whether these are the same, and not only equal.
    pub(super) fn are(&self, other: &Self) -> bool {
        let mut authorities = self.authorities.iter().zip(&other.authorities);
        let client = self.client.as_ref().map(Arc::as_ptr) == other.client.as_ref().map(Arc::as_ptr);
        client
            && self.authorities.len() == other.authorities.len()
            && authorities.all(|(one, other)| Arc::ptr_eq(one, other))
    }
}

/// Where the requests of one variant of a Service go.
#[derive(Debug)]
pub struct Destination {
    /// The pool.
    pub upstream: Arc<Upstream>,
    /// Path put before the request's own.
    pub path: String,
    variant: Variant,
    service: Arc<str>,
    requests: ByStatusClass,
    request_duration: HistogramSlot,
    upstream_duration: HistogramSlot,
}

/// Why a request was tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryReason {
    /// The Target could not be connected to.
    Connect,
    /// The Target took longer than the Service allows.
    Timeout,
    /// The connection broke before a response header came.
    Reset,
}

impl RetryReason {
    pub(super) const ALL: [Self; 3] = [Self::Connect, Self::Timeout, Self::Reset];

    /// Returns the value of the metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
        }
    }
}

impl Service {
    /// Compiles a Service whose stable requests go to `upstream`.
    pub(super) fn build(
        source: &model::Service,
        upstream: Arc<Upstream>,
        certificates: &ServiceCertificates,
    ) -> Self {
        let label: Arc<str> = source.label().into();
        let path = source.path.clone().unwrap_or_else(|| "/".to_owned());
        Self {
            stable: Destination::new(Variant::Stable, label.clone(), upstream, path),
            label,
            retries: source.retries,
            peer_options: peer_options(source, &certificates.authorities),
            tls: source
                .protocol
                .is_secure()
                .then(|| origin_tls(source, certificates)),
            is_plain: is_plain(source),
            timeouts: timeouts(source),
            retries_by_reason: Default::default(),
            retries_denied: Slot::default(),
        }
    }

    /// Returns the counter of retries for `reason`.
    pub fn retries(&self, reason: RetryReason) -> &IntCounter {
        let find = || {
            metrics()
                .retries
                .with_label_values(&[&*self.label, reason.label()])
        };
        self.retries_by_reason[reason as usize].get(find)
    }

    /// Returns the counter of retries that the budget did not allow.
    pub fn retries_denied(&self) -> &IntCounter {
        let find = || metrics().retries_denied.with_label_values(&[&*self.label]);
        self.retries_denied.get(find)
    }

    /// Finds every handle of its own that no request has needed so far.
    pub(super) fn find_handles(&self) {
        for reason in RetryReason::ALL {
            self.retries(reason);
        }
        self.retries_denied();
    }
}

impl Destination {
    /// Leads the requests of one variant of the Service of this label to a pool.
    pub(super) fn new(variant: Variant, service: Arc<str>, upstream: Arc<Upstream>, path: String) -> Self {
        Self {
            upstream,
            path,
            variant,
            service,
            requests: Default::default(),
            request_duration: Slot::default(),
            upstream_duration: Slot::default(),
        }
    }

    /// Returns what its series are told apart by: Service, Upstream, variant.
    pub(super) fn labels(&self) -> [&str; 3] {
        [&self.service, self.upstream.label(), self.variant.label()]
    }

    /// Returns the counter of tries whose answer was of `class`.
    pub fn requests(&self, class: usize) -> &IntCounter {
        self.requests[class].get(|| {
            let [service, upstream, variant] = self.labels();
            let labels = [service, upstream, variant, STATUS_CLASSES[class]];
            metrics().upstream_requests.with_label_values(&labels)
        })
    }

    /// Returns the histogram of whole requests.
    pub fn request_duration(&self) -> &Histogram {
        let labels = [&*self.service, self.variant.label()];
        self.request_duration
            .get(|| metrics().request_duration.with_label_values(&labels))
    }

    /// Returns the histogram of the time Targets take to a response header.
    pub fn upstream_duration(&self) -> &Histogram {
        let labels = [&*self.service, self.variant.label()];
        self.upstream_duration
            .get(|| metrics().upstream_duration.with_label_values(&labels))
    }

    /// Finds every handle that no request has needed so far.
    pub(super) fn find_handles(&self) {
        for class in 0..STATUS_CLASSES.len() {
            self.requests(class);
        }
        self.request_duration();
        self.upstream_duration();
    }
}

/// Requests of gRPC that share a connection to a Target: what origins allow at least (RFC 9113 §6.5.2).
/// Pingora's 1 would open a connection for each.
const STREAMS_PER_CONNECTION: usize = 100;

fn origin_tls(source: &model::Service, certificates: &ServiceCertificates) -> OriginTls {
    let authorities = certificates.authorities.iter().map(|ca| ca.authority.der());
    let client = certificates
        .client
        .as_ref()
        .and_then(|certificate| certificate.pairs.first());
    let shown = client.map(|pair| pair.certified().cert.as_slice());
    OriginTls {
        verifies: source.verifies,
        client: client.map(|pair| {
            let chain = pair
                .certified()
                .cert
                .iter()
                .map(|certificate| certificate.to_vec());
            Arc::new(CertKey::new(chain.collect(), pair.secret_der().to_vec()))
        }),
        pool_key: RandomState::with_seeds(5, 6, 7, 8).hash_one((authorities.collect::<Vec<_>>(), shown)),
    }
}

/// Says whether neither TLS nor HTTP/2 is spoken to a Service's Targets.
fn is_plain(service: &model::Service) -> bool {
    !service.protocol.is_secure() && !service.protocol.is_http2()
}

fn timeouts(service: &model::Service) -> Timeouts {
    Timeouts {
        connect: service.connect_timeout,
        read: service.read_timeout,
        write: service.write_timeout,
    }
}

/// Returns what Pingora must know of a Service to dial its Targets. Pingora's own defaults are no
/// timeout at all, so every one is set. What the worker connects by itself keeps to them without Pingora.
fn peer_options(service: &model::Service, authorities: &[Arc<model::CaCertificate>]) -> PeerOptions {
    let mut options = PeerOptions::new();
    if !is_plain(service) {
        let timeouts = timeouts(service);
        options.connection_timeout = Some(timeouts.connect);
        options.total_connection_timeout = Some(timeouts.connect);
        options.read_timeout = Some(timeouts.read);
        options.write_timeout = Some(timeouts.write);
    }
    options.idle_timeout = Some(KEPT_FOR);
    options.verify_cert = service.verifies;
    options.verify_hostname = service.verifies;
    if !authorities.is_empty() {
        let wrapped = authorities
            .iter()
            .map(|ca| WrappedX509::new(ca.authority.der().to_vec(), parse_x509));
        options.ca = Some(wrapped.collect());
    }
    if service.protocol.is_http2() {
        options.set_http_version(2, 2);
        options.max_h2_streams = STREAMS_PER_CONNECTION;
    }
    options
}
