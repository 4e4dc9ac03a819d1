//! What requests read: compiled, immutable, numbered.
//!
//! A request takes one [`Snapshot`] when it begins and keeps it to its end, so it never sees two
//! configurations. Nothing in here is looked up by name on a request's path: a Route holds its
//! Service, a Service its Upstream, an Upstream its Targets and the handles of their metrics.
//!
//! What must survive a change of configuration lives beside the snapshot and is handed to
//! [`Builder`]: positions, loads and health of Targets, what DNS last said ([`crate::health`]). So do
//! Pingora's connection pools. An Upstream that did not change keeps its compiled parts from one snapshot
//! to the next.

mod build;
mod consumers;
mod guard;
mod issuer;
mod plugins;
mod publish;
mod router;
mod table;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use pingora_core::upstreams::peer::PeerOptions;
use prometheus::{Histogram, IntCounter};

pub use build::Builder;
pub use consumers::{Consumer, ConsumerIndex, Consumers, Found, GroupId, Key, Password};
pub use guard::{Acl, Anonymous, Applies, BasicAuth, Common, Guard, Jwt, KeyAuth, KeyName};
pub use issuer::{Issuer, Unverified, decode_base64};
pub use plugins::{PluginIndex, RoutePlugins};
pub use publish::Published;
pub use router::{Matched, Router, Subject};
pub use upstream::{Availability, Endpoint, Endpoints, Hashing, Member, Selection, Session, Upstream};

use crate::access_log::AccessLog;
use crate::metrics::{ByStatusClass, HistogramSlot, STABLE, STATUS_CLASSES, Slot, metrics};
use crate::model::{self, PathHandling, PathPattern, RouteProtocol};

/// One generation of the proxy.
#[derive(Debug)]
pub struct Snapshot {
    /// Number of this configuration, counted from 1.
    pub generation: u64,
    /// Settings that apply live.
    pub settings: Arc<Settings>,
    /// The table that finds `routes`.
    pub router: Router,
    /// Routes by position.
    pub routes: Vec<Route>,
    /// Every Upstream in use or declared, for the control thread; requests do not come by here.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Whose credentials are.
    pub consumers: Arc<Consumers>,
    /// Query arguments in which some plugin looks for a credential: no log shows their values.
    pub secret_arguments: Box<[Box<str>]>,
    /// Requests that found no Route, by status class.
    unrouted: ByStatusClass,
    /// The model this was built from: what the next build compares with.
    pub source: model::Configuration,
}

impl Snapshot {
    /// Returns the counter of requests without a Route that were answered with `class`
    /// (a position in [`STATUS_CLASSES`]).
    pub fn unrouted(&self, class: usize) -> &IntCounter {
        let labels = ["", "", STATUS_CLASSES[class]];
        self.unrouted[class].get(|| metrics().requests.with_label_values(&labels))
    }
}

/// Settings that apply to requests and can change live.
#[derive(Debug)]
pub struct Settings {
    /// Sizes a request may have.
    pub limits: model::Limits,
    /// How long clients may take.
    pub timeouts: model::Timeouts,
    /// How much of the load may be retries.
    pub retries: model::RetryBudget,
    /// Peers whose forwarding headers are believed.
    pub trusted_ips: Vec<ipnet::IpNet>,
    /// Access log, if any.
    pub access_log: Option<AccessLog>,
}

/// A compiled Route.
#[derive(Debug)]
pub struct Route {
    /// What metrics and logs call it.
    pub label: String,
    /// The Service; without one the Route answers 503.
    pub service: Option<Arc<Service>>,
    /// Schemes under which clients may come.
    pub protocols: Vec<RouteProtocol>,
    /// Status for a client that comes by plain HTTP to a Route for HTTPS only.
    pub https_redirect_status_code: u16,
    /// Paths, for captures.
    pub paths: Vec<PathPattern>,
    /// Removes the matched part of the path.
    pub strip_path: bool,
    /// Sends the client's Host on.
    pub preserve_host: bool,
    /// How paths are joined.
    pub path_handling: PathHandling,
    /// What a request must show to pass, if anything.
    pub guard: Option<Arc<Guard>>,
    /// Requests by status class.
    requests: ByStatusClass,
}

impl Route {
    /// Returns the counter of requests that this Route answered with `class`
    /// (a position in [`STATUS_CLASSES`]).
    pub fn requests(&self, class: usize) -> &IntCounter {
        self.requests[class].get(|| {
            let service = self.service.as_ref().map_or("", |service| &service.label);
            metrics()
                .requests
                .with_label_values(&[service, &self.label, STATUS_CLASSES[class]])
        })
    }
}

/// A compiled Service.
#[derive(Debug)]
pub struct Service {
    /// What metrics and logs call it.
    pub label: String,
    /// Where its requests go.
    pub upstream: Arc<Upstream>,
    /// Path put before the request's own.
    pub path: String,
    /// Further tries after the first one failed.
    pub retries: u16,
    /// Timeouts and protocol towards the Targets, ready for Pingora.
    pub peer_options: PeerOptions,
    metrics: ServiceMetrics,
}

#[derive(Debug, Default)]
struct ServiceMetrics {
    upstream_requests: ByStatusClass,
    request_duration: HistogramSlot,
    upstream_duration: HistogramSlot,
    retries: [Slot<IntCounter>; RetryReason::ALL.len()],
    retries_denied: Slot<IntCounter>,
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
    const ALL: [Self; 3] = [Self::Connect, Self::Timeout, Self::Reset];

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
    /// Returns the counter of tries whose answer was of `class`.
    pub fn upstream_requests(&self, class: usize) -> &IntCounter {
        self.metrics.upstream_requests[class].get(|| {
            let labels = [&*self.label, self.upstream.label(), STABLE, STATUS_CLASSES[class]];
            metrics().upstream_requests.with_label_values(&labels)
        })
    }

    /// Returns the histogram of whole requests.
    pub fn request_duration(&self) -> &Histogram {
        let find = || {
            metrics()
                .request_duration
                .with_label_values(&[&*self.label, STABLE])
        };
        self.metrics.request_duration.get(find)
    }

    /// Returns the histogram of the time Targets take to a response header.
    pub fn upstream_duration(&self) -> &Histogram {
        let find = || {
            metrics()
                .upstream_duration
                .with_label_values(&[&*self.label, STABLE])
        };
        self.metrics.upstream_duration.get(find)
    }

    /// Finds every handle that no request has needed so far.
    fn find_handles(&self) {
        for class in 0..STATUS_CLASSES.len() {
            self.upstream_requests(class);
        }
        self.request_duration();
        self.upstream_duration();
        for reason in RetryReason::ALL {
            self.retries(reason);
        }
    }

    /// Returns the counter of retries for `reason`.
    pub fn retries(&self, reason: RetryReason) -> &IntCounter {
        let find = || {
            metrics()
                .retries
                .with_label_values(&[&*self.label, reason.label()])
        };
        self.metrics.retries[reason as usize].get(find)
    }

    /// Returns the counter of retries that the budget did not allow.
    pub fn retries_denied(&self) -> &IntCounter {
        let find = || metrics().retries_denied.with_label_values(&[&*self.label]);
        self.metrics.retries_denied.get(find)
    }
}

/// How long an idle connection to a Target is kept: shorter than the 75 s that nginx and most
/// servers keep theirs, so that the side that closes is ours and no request meets a closing one.
const UPSTREAM_IDLE: Duration = Duration::from_secs(60);

/// Returns what Pingora must know of a Service to dial its Targets. Pingora's own defaults are no
/// timeout at all, so every one is set.
fn peer_options(service: &model::Service) -> PeerOptions {
    let mut options = PeerOptions::new();
    options.connection_timeout = Some(service.connect_timeout);
    options.total_connection_timeout = Some(service.connect_timeout);
    options.read_timeout = Some(service.read_timeout);
    options.write_timeout = Some(service.write_timeout);
    options.idle_timeout = Some(UPSTREAM_IDLE);
    options
}
