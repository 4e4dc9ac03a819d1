//! What requests read: compiled, immutable, numbered.
//!
//! A request takes one [`Snapshot`] when it begins and keeps it to its end, so it never sees two
//! configurations. Nothing in here is looked up by name on a request's path: a Route holds its
//! Service, a Service its Upstream, an Upstream its Targets and the handles of their metrics.
//!
//! What must survive a change of configuration lives beside the snapshot and is handed to
//! [`Builder`]: positions, loads and health of Targets, what DNS last said ([`crate::health`]). So do
//! Pingora's connection pools. What did not change keeps its compiled parts from one snapshot to the next.

mod build;
mod certificates;
mod consumer;
mod consumers;
mod difference;
mod guard;
mod issuer;
mod plugins;
mod pools;
mod publish;
mod release;
mod rotation;
mod router;
mod service;
mod table;
mod upstream;

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::IntCounter;
use uuid::Uuid;

pub use build::Builder;
pub use certificates::Certificates;
pub use consumer::{Consumer, GroupId};
pub use consumers::{ConsumerIndex, Consumers, Found, Key, Password};
pub use guard::{Acl, Anonymous, Applies, BasicAuth, Common, Guard, Jwt, KeyAuth, KeyName};
pub use issuer::{Issuer, Unverified, decode_base64};
pub use plugins::{PluginIndex, RoutePlugins};
pub use publish::Published;
pub use release::{Audience, Release, Rule, Split};
pub use router::{Matched, Router, Subject};
use service::ServiceCertificates;
pub use service::{Destination, OriginTls, RetryReason, Service};
pub use upstream::{Availability, Endpoint, Endpoints, Hashing, Member, Selection, Session, Upstream};

use crate::access_log::AccessLog;
use crate::health::Observed;
use crate::metrics::{ByStatusClass, STATUS_CLASSES, metrics};
use crate::model::{self, PathHandling, PathPattern, RouteProtocol};

/// One generation of the proxy.
#[derive(Debug)]
pub struct Snapshot {
    /// Number of this configuration, counted from 1.
    pub generation: u64,
    /// Settings that apply live.
    pub settings: Arc<Settings>,
    /// The table that finds `routes`.
    pub router: Arc<Router>,
    /// Routes by position.
    pub routes: Vec<Arc<Route>>,
    /// Every Service that a Route leads to, for the next build. Not the others: their series are taken out of
    /// the metrics, and a Service that is routed again begins new ones.
    services: Services,
    /// Every Upstream, those that are declared first, then those that a host stands for which a Route leads
    /// to; for the control thread: requests do not come by here.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Whose credentials are.
    pub consumers: Arc<Consumers>,
    /// What clients that come by TLS are shown.
    pub certificates: Arc<Certificates>,
    /// Query arguments in which some plugin looks for a credential: no log shows their values.
    pub secret_arguments: Box<[Box<str>]>,
    /// Who gets the canary, for each plugin in use; for the control thread.
    pub rules: Vec<Arc<Rule>>,
    /// Requests that found no Route, by status class.
    unrouted: ByStatusClass,
    /// The model this was built from: what the next build compares with.
    pub source: model::Configuration,
}

/// Services by id.
type Services = HashMap<Uuid, BuiltService, ahash::RandomState>;

/// A Service with what it was compiled from.
#[derive(Debug, Clone)]
struct BuiltService {
    source: Arc<model::Service>,
    certificates: ServiceCertificates,
    service: Arc<Service>,
}

impl Snapshot {
    /// Makes the snapshot before the first: it has nothing.
    pub fn empty(generation: u64) -> Self {
        let builder = Builder {
            previous: None,
            secret: None,
            access_log: None,
            observed: &Observed::default(),
            now: Default::default(),
        };
        builder.build(model::Configuration::default(), generation)
    }

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
    /// What becomes of fields whose names have an underscore.
    pub underscores_in_headers: model::UnderscoresInHeaders,
    /// How long clients may take.
    pub timeouts: model::Timeouts,
    /// How much of the load may be retries.
    pub retries: model::RetryBudget,
    /// Peers whose forwarding headers are believed.
    pub trusted_ips: Vec<ipnet::IpNet>,
    /// Access log, if any.
    pub access_log: Option<AccessLog>,
    /// Every client is told which variant served it.
    pub variant_header: bool,
}

/// A compiled Route.
#[derive(Debug)]
pub struct Route {
    /// Identity.
    pub id: Uuid,
    /// What metrics and logs call it.
    pub label: String,
    /// The Service; without one the Route answers 503.
    pub service: Option<Arc<Service>>,
    /// The release under trial, if there is one.
    pub release: Option<Arc<Release>>,
    /// Schemes under which clients may come.
    pub protocols: Vec<RouteProtocol>,
    /// Only gRPC may be spoken.
    pub is_grpc: bool,
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
    /// What it was compiled from.
    source: Arc<model::Route>,
    /// Requests by status class.
    requests: ByStatusClass,
}

impl Route {
    /// Says whether this is what comes of a source and a Service when nothing else has changed.
    fn is_built_from(&self, source: &Arc<model::Route>, service: Option<&Arc<Service>>) -> bool {
        let own = self.service.as_ref().map(Arc::as_ptr);
        Arc::ptr_eq(&self.source, source) && own == service.map(Arc::as_ptr)
    }

    /// Returns the counter of requests that this Route answered with `class`
    /// (a position in [`STATUS_CLASSES`]).
    pub fn requests(&self, class: usize) -> &IntCounter {
        self.requests[class].get(|| {
            let service = self.service.as_ref().map_or("", |service| &*service.label);
            metrics()
                .requests
                .with_label_values(&[service, &self.label, STATUS_CLASSES[class]])
        })
    }
}
