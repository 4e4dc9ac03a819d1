//! What this request has learnt so far.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use http::HeaderValue;

use super::identify::Identity;
use super::release::Decision;
use super::request_id::RequestId;
use crate::balance::{Index, RingKey};
use crate::clock;
use crate::connection::Exchange;
use crate::health::RetryPermit;
use crate::metrics::Counted;
use crate::model::{Reason, Variant};
use crate::origin::Link;
use crate::snapshot::{
    Consumer, Destination, Endpoint, Endpoints, Matched, Release, Route, Service, Snapshot,
};

/// State of one request, from its header to its log line.
pub struct Context {
    /// The configuration this request lives under from beginning to end.
    pub snapshot: Arc<Snapshot>,
    /// Names the request in answers, logs and towards the origin.
    pub id: RequestId,
    /// When its header had been read.
    pub started: Instant,
    /// The client, as far as trusted peers can tell; `None` on a socket without addresses.
    pub client: Client,
    /// The Route, once found.
    pub matched: Option<Matched>,
    /// The request's path in normal form; `None` while it equals the path as sent.
    pub normalized_path: Option<String>,
    /// Who the client is to its credentials.
    pub identity: Identity,
    /// Tries made so far.
    pub tries: u32,
    /// Failures on kept connections that the Target had closed meanwhile; they are not its fault
    /// and not counted as tries.
    pub stale_connections: u32,
    /// The last try met such a connection: the next one goes to the same Target.
    pub goes_there_again: bool,
    /// The variant that serves the request; another than decided once stable has stepped in.
    pub variant: Variant,
    /// Stable has stepped in for the canary.
    pub has_fallen_back: bool,
    /// Which variant the request is meant for, once decided; `None` too where its Route has no release.
    pub decision: Option<Decision>,
    /// The cookie by which a new visitor is known the next time.
    pub visitor_cookie: Option<HeaderValue>,
    /// Addresses that failed this request; never chosen again.
    pub tried: Vec<SocketAddr>,
    /// Place of this request on its Upstream's ring.
    pub ring_key: Option<RingKey>,
    /// The Target of the current try.
    pub chosen: Option<Chosen>,
    /// Tells others where the request is served.
    pub exchange: Exchange,
    /// How the current try reaches its Target; `None` where Pingora keeps the connection.
    pub link: Option<Arc<Link>>,
    /// When the current try began.
    pub try_started: Option<Instant>,
    /// When the response header of the Target had come.
    pub header_received: Option<Instant>,
    /// Status the Target answered with.
    pub upstream_status: Option<u16>,
    /// Counts the request against the retry budget, from its second retry to the response header.
    pub retry_permit: Option<RetryPermit>,
    /// The cookie that the answer has to set: the hash cookie, or that of a sticky session.
    pub issued_cookie: Option<HeaderValue>,
    /// Bytes of the request's body so far, for the limit.
    pub body_bytes: u64,
    /// When the last part of the body had come.
    pub body_moved: Option<Instant>,
    /// The client may see how the decision came about.
    pub wants_debug: bool,
    /// Counts the request as being served while it lives.
    pub in_flight: Counted,
}

/// Who sent the request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Client {
    /// The other end of the connection.
    pub peer: Option<IpAddr>,
    /// The client: the peer, or what a trusted peer says.
    pub address: Option<IpAddr>,
    /// The peer is one of `server.trusted_ips`.
    pub is_trusted: bool,
    /// The client came by TLS, here or at a trusted peer in front.
    pub is_secure: bool,
    /// Port the client came to.
    pub server_port: u16,
}

impl Client {
    /// Returns the scheme under which the client came.
    pub fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }
}

/// A Target that was chosen, counted as serving the request until this is dropped.
pub struct Chosen {
    endpoints: Arc<Endpoints>,
    index: Index,
    is_upgraded: bool,
}

impl Chosen {
    /// Counts a request in.
    pub fn new(endpoints: Arc<Endpoints>, index: Index) -> Self {
        let chosen = Self {
            endpoints,
            index,
            is_upgraded: false,
        };
        chosen.endpoint().state.begin();
        chosen
    }

    /// Notes that the request has switched to another protocol.
    pub fn upgrade(&mut self) {
        if !std::mem::replace(&mut self.is_upgraded, true) {
            self.endpoint().state.begin_upgraded();
        }
    }

    /// Returns the Target's address.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoints.list[self.index]
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        let state = &self.endpoint().state;
        if self.is_upgraded {
            state.end_upgraded();
        }
        state.end();
    }
}

impl Context {
    /// Begins a request on the snapshot in force.
    pub fn new(snapshot: Arc<Snapshot>, id: RequestId, in_flight: Counted) -> Self {
        Self {
            snapshot,
            id,
            started: clock::monotonic(),
            client: Client::default(),
            matched: None,
            normalized_path: None,
            identity: Identity::default(),
            tries: 0,
            stale_connections: 0,
            goes_there_again: false,
            variant: Variant::Stable,
            has_fallen_back: false,
            decision: None,
            visitor_cookie: None,
            tried: Vec::new(),
            ring_key: None,
            chosen: None,
            exchange: Exchange::default(),
            link: None,
            try_started: None,
            header_received: None,
            upstream_status: None,
            retry_permit: None,
            issued_cookie: None,
            body_bytes: 0,
            body_moved: None,
            wants_debug: false,
            in_flight,
        }
    }

    /// Returns the Route, once found.
    pub fn route(&self) -> Option<&Route> {
        self.matched.map(|matched| &*self.snapshot.routes[matched.route])
    }

    /// Returns the Service of the Route, once found.
    pub fn service(&self) -> Option<&Arc<Service>> {
        self.route()?.service.as_ref()
    }

    /// Returns the Consumer, once known.
    pub fn consumer(&self) -> Option<&Consumer> {
        Some(self.snapshot.consumers.get(self.identity.consumer?))
    }

    /// Returns the Consumer unless it is the anonymous one, which stands for nobody in particular.
    pub fn known_consumer(&self) -> Option<&Consumer> {
        self.consumer().filter(|_| !self.identity.is_anonymous)
    }

    /// Returns the release under trial on the Route, if there is one.
    pub fn release(&self) -> Option<&Arc<Release>> {
        self.route()?.release.as_ref()
    }

    /// Returns where the request goes, by the variant that serves it.
    pub fn destination(&self) -> Option<&Destination> {
        self.destination_of(self.variant)
    }

    /// Returns where the request was meant to go.
    pub fn intended_destination(&self) -> Option<&Destination> {
        self.destination_of(self.decision.map_or(Variant::Stable, |decision| decision.variant))
    }

    fn destination_of(&self, variant: Variant) -> Option<&Destination> {
        let route = self.route()?;
        match (variant, &route.release) {
            (Variant::Canary, Some(release)) => Some(&release.canary),
            _ => Some(&route.service.as_ref()?.stable),
        }
    }

    /// Returns why the request is served by its variant; `None` where its Route has no release.
    pub fn reason(&self) -> Option<Reason> {
        let decision = self.decision?;
        Some(match self.has_fallen_back {
            true => Reason::Fallback,
            false => decision.reason,
        })
    }
}
