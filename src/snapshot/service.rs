//! A compiled Service, and where the requests of each of its variants go.

use std::sync::Arc;
use std::time::Duration;

use pingora_core::upstreams::peer::PeerOptions;
use prometheus::{Histogram, IntCounter};

use super::Upstream;
use crate::metrics::{ByStatusClass, HistogramSlot, STATUS_CLASSES, Slot, metrics};
use crate::model::{self, Variant};

/// A compiled Service.
#[derive(Debug)]
pub struct Service {
    /// What metrics and logs call it.
    pub label: Arc<str>,
    /// Where its requests go that no canary gets.
    pub stable: Destination,
    /// Further tries after the first one failed.
    pub retries: u16,
    /// Timeouts and protocol towards the Targets, ready for Pingora.
    pub peer_options: PeerOptions,
    retries_by_reason: [Slot<IntCounter>; RetryReason::ALL.len()],
    retries_denied: Slot<IntCounter>,
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
    pub(super) fn build(source: &model::Service, upstream: Arc<Upstream>) -> Self {
        let label: Arc<str> = source.label().into();
        let path = source.path.clone().unwrap_or_else(|| "/".to_owned());
        Self {
            stable: Destination::new(Variant::Stable, label.clone(), upstream, path),
            label,
            retries: source.retries,
            peer_options: peer_options(source),
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
