//! A connection, from accept to close.
//!
//! Pingora's own loop over the requests of a connection holds a whole request's state while the connection
//! is idle, with one limit for each read. Here the wait for a request comes first, holding the stream
//! alone; Pingora gets the connection once the first byte is there, and has the header's deadline to read
//! the rest.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use log::debug;
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{ALPN, Ssl, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use pingora_timeout::timeout;

use super::admission::{Admission, Admitted};
use super::proxy_protocol;
use super::spread::Taken;
use crate::connection::{
    ClientSocket, Connections, Guarded, HeadLimits, Http2Service, Protocol, current_task, serve_http2,
};
use crate::metrics::metrics;
use crate::model::{ListenProtocol, Listener};
use crate::pace::Pace;
use crate::proxy::{Gateway, record_refusal};
use crate::snapshot::{Published, Settings};
use crate::tls::{self, HandshakeError};

/// To Pingora: no limit to the wait for a request, which begins before Pingora has the connection, nor to that for the rest
/// of its header, which has its deadline below.
const WITHOUT_LIMIT: u64 = 0;

/// Pingora's proxy behind what a worker does for every connection.
pub struct Edge {
    worker: Arc<EdgeWorker>,
    protocol: ListenProtocol,
    /// A load balancer in front says whose connection it is.
    has_proxy_protocol: bool,
}

/// What the listeners of one worker share.
pub struct EdgeWorker {
    /// The proxy, and with it the connections to Targets.
    pub proxy: Arc<HttpProxy<Gateway>>,
    /// The configuration in force, for its limits.
    pub published: Arc<Published>,
    /// Shakes hands with clients that come by TLS.
    pub tls: Arc<tls::Server>,
    /// Counts the connections of all workers.
    pub admission: Arc<Admission>,
    /// The requests of this worker.
    pub pace: Arc<Pace>,
    /// The open connections of this worker.
    pub connections: Arc<Connections>,
}

impl Edge {
    /// Serves what comes in by a listener.
    pub fn new(worker: Arc<EdgeWorker>, listener: &Listener) -> Self {
        Self {
            worker,
            protocol: listener.protocol,
            has_proxy_protocol: listener.proxy_protocol,
        }
    }

    /// Lets a connection in, as one of the client that is behind it.
    async fn admit(&self, socket: &mut ClientSocket) -> Option<Admitted> {
        let snapshot = self.worker.published.current();
        let Settings {
            limits,
            timeouts,
            trusted_ips,
            ..
        } = &*snapshot.settings;
        let mut admitted = self.worker.admission.admit(limits.connections)?;
        if self.has_proxy_protocol {
            let header = proxy_protocol::take_header(socket, trusted_ips);
            let header = timeout(timeouts.header, header).await;
            let outcome = header.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
            if let Err(distrust) = outcome {
                debug!("a connection is closed: {distrust}");
                metrics()
                    .connections_refused
                    .with_label_values(&["proxy_protocol"])
                    .inc();
                return None;
            }
        }
        let peer = socket.peer().map(|peer| peer.ip().to_canonical());
        admitted
            .is_of(peer, limits.connections_per_ip)
            .then_some(admitted)
    }

    /// Serves a connection that was accepted, in a task of its own.
    pub(super) fn serve(self: Arc<Self>, mut socket: ClientSocket, taken: Taken, shutdown: &ShutdownWatch) {
        metrics().connections_accepted.inc();
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            if let Some(admitted) = self.admit(&mut socket).await {
                self.serve_admitted(socket, admitted, &shutdown).await;
            }
            drop(taken);
        });
    }

    async fn serve_admitted(&self, socket: ClientSocket, admitted: Admitted, shutdown: &ShutdownWatch) {
        let (stream, protocol, server_name): (Stream, _, _) = match self.protocol {
            ListenProtocol::Http => (Box::new(socket), Protocol::Http1, None),
            ListenProtocol::H2c => (Box::new(socket), Protocol::Http2, None),
            ListenProtocol::Https => match Box::pin(self.worker.shake_hands(socket)).await {
                Some(secure) => secure,
                None => return,
            },
        };
        // A connection is served in one task from here to its end.
        let listed = self.worker.connections.open(current_task().await, server_name);
        let mut stream = Guarded::new(stream, listed.connection().clone(), protocol);
        match protocol {
            Protocol::Http1 => self.worker.serve_http1(stream, shutdown).await,
            Protocol::Http2 => {
                stream.await_header(self.worker.head_limits());
                Box::pin(serve_http2(stream, self.worker.clone(), shutdown)).await;
            }
        }
        if let Some(refusal) = listed.connection().refusal() {
            record_refusal(&self.worker.published.current(), admitted.peer(), refusal);
        }
    }
}

impl Http2Service for EdgeWorker {
    fn requests_per_connection(&self) -> u32 {
        self.published
            .peek(|snapshot| snapshot.settings.timeouts.requests_per_connection)
    }

    fn keepalive(&self) -> Duration {
        self.published
            .peek(|snapshot| snapshot.settings.timeouts.keepalive)
    }

    async fn serve(self: Arc<Self>, session: ServerSession, stopping: ShutdownWatch) {
        let _under_way = self.pace.begin().await;
        self.proxy.process_new_http(session, &stopping).await;
    }
}

impl EdgeWorker {
    /// Shakes hands; returns what is spoken from then on, and the name that the client asked for.
    async fn shake_hands(&self, socket: ClientSocket) -> Option<(Stream, Protocol, Option<Box<str>>)> {
        let limit = self
            .published
            .peek(|snapshot| snapshot.settings.timeouts.tls_handshake);
        let outcome = self.tls.accept(socket, limit).await;
        let label = match &outcome {
            Ok(_) => "ok",
            Err(HandshakeError::Timeout) => "timeout",
            Err(HandshakeError::Failed(_)) => "failed",
        };
        metrics().tls_handshakes.with_label_values(&[label]).inc();
        let stream = outcome.inspect_err(|error| debug!("{error}")).ok()?;
        let server_name = stream.get_ssl().and_then(|tls| tls.server_name());
        let server_name = Some(server_name.unwrap_or_default().into());
        let protocol = match stream.selected_alpn_proto() {
            Some(ALPN::H2) => Protocol::Http2,
            _ => Protocol::Http1,
        };
        Some((Box::new(stream), protocol, server_name))
    }

    fn head_limits(&self) -> HeadLimits {
        self.published.peek(|snapshot| {
            let settings = &snapshot.settings;
            HeadLimits::new(settings.timeouts.header, &settings.limits)
        })
    }

    async fn serve_http1(&self, stream: Guarded, shutdown: &ShutdownWatch) {
        let mut shutdown_watch = shutdown.clone();
        let stopping = async { drop(shutdown_watch.changed().await) };
        let mut stopping = pin!(stopping.fuse());
        let mut stream = Box::new(stream);
        let mut kept: Option<HttpPersistentSettings> = None;
        loop {
            let (idle, requests) = self.published.peek(|snapshot| {
                let timeouts = &snapshot.settings.timeouts;
                (timeouts.keepalive, timeouts.requests_per_connection)
            });
            if stream.is_overread() || !stream.has_request(idle, stopping.as_mut()).await {
                stream.close().await;
                return;
            }
            let under_way = self.pace.begin().await;
            stream.await_header(self.head_limits());
            let mut session = ServerSession::new_http1(stream);
            match kept.take() {
                Some(kept) => kept.apply_to_session(&mut session),
                None => {
                    session.set_keepalive((!*shutdown.borrow()).then_some(WITHOUT_LIMIT));
                    // Pingora counts how often it may serve again.
                    session.set_keepalive_reuses_remaining(Some(requests.saturating_sub(1)));
                }
            }
            let Some(reused) = self.proxy.process_new_http(session, shutdown).await else {
                return;
            };
            drop(under_way);
            let (reused, settings) = reused.consume();
            kept = settings;
            stream = match reused.into_any().downcast() {
                Ok(stream) => stream,
                // Pingora gives back the stream it was given.
                Err(_) => return,
            };
        }
    }
}
