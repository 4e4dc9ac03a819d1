//! A connection, from accept to close.
//!
//! Pingora's own loop over the requests of a connection holds a whole request's state while the connection
//! is idle, with one limit for each read. Here the wait for a request comes first, holding the stream
//! alone; Pingora gets the connection once the first byte is there, and has the header's deadline to read
//! the rest.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use log::debug;
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{ALPN, Ssl, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;

use super::admission::{Admission, Admitted};
use crate::connection::{Connections, Guarded, HeadLimits, Protocol};
use crate::metrics::metrics;
use crate::model::ListenProtocol;
use crate::proxy::{Gateway, record_refusal};
use crate::snapshot::Published;
use crate::tls::{self, HandshakeError};

/// Pingora's proxy behind what a worker does for every connection.
pub struct Edge {
    worker: Arc<EdgeWorker>,
    protocol: ListenProtocol,
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
    /// The open connections of this worker.
    pub connections: Arc<Connections>,
}

impl Edge {
    /// Serves what comes in by listeners of this protocol.
    pub fn new(worker: Arc<EdgeWorker>, protocol: ListenProtocol) -> Self {
        Self { worker, protocol }
    }

    async fn serve(&self, stream: Stream, admitted: Admitted, shutdown: &ShutdownWatch) {
        let (stream, protocol, server_name) = match self.protocol {
            ListenProtocol::Http => (stream, Protocol::Http1, None),
            ListenProtocol::H2c => (stream, Protocol::Http2, None),
            ListenProtocol::Https => match self.worker.shake_hands(stream).await {
                Some(secure) => secure,
                None => return,
            },
        };
        // Pingora serves a connection in one task from here to its end.
        let task = poll_fn(|ctx| Poll::Ready(ctx.waker().clone())).await;
        let listed = self.worker.connections.open(task, server_name);
        let mut stream = Guarded::new(stream, listed.connection().clone(), protocol);
        match protocol {
            Protocol::Http1 => self.worker.serve_http1(stream, shutdown).await,
            Protocol::Http2 => {
                stream.await_header(self.worker.head_limits());
                self.worker.proxy.process_new(Box::new(stream), shutdown).await;
            }
        }
        if let Some(refusal) = listed.connection().refusal() {
            record_refusal(&self.worker.published.current(), admitted.peer(), refusal);
        }
    }
}

impl EdgeWorker {
    /// Shakes hands; returns what is spoken from then on, and the name that the client asked for.
    async fn shake_hands(&self, stream: Stream) -> Option<(Stream, Protocol, Option<Box<str>>)> {
        let limit = self
            .published
            .peek(|snapshot| snapshot.settings.timeouts.tls_handshake);
        let outcome = self.tls.accept(stream, limit).await;
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
        let mut stopping = shutdown.clone();
        let mut stream = Box::new(stream);
        let mut kept: Option<HttpPersistentSettings> = None;
        loop {
            let idle = self
                .published
                .peek(|snapshot| snapshot.settings.timeouts.keepalive);
            if !stream.has_request(idle, &mut stopping).await {
                stream.close().await;
                return;
            }
            stream.await_header(self.head_limits());
            let mut session = ServerSession::new_http1(stream);
            match kept.take() {
                Some(kept) => kept.apply_to_session(&mut session),
                None => {
                    session.set_keepalive((!*shutdown.borrow()).then_some(idle.as_secs()));
                    let options = self.proxy.server_options();
                    session.set_keepalive_reuses_remaining(
                        options.and_then(|options| options.keepalive_request_limit),
                    );
                }
            }
            let Some(reused) = self.proxy.process_new_http(session, shutdown).await else {
                return;
            };
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

#[async_trait]
impl ServerApp for Edge {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        metrics().connections_accepted.inc();
        let limits = |snapshot: &crate::snapshot::Snapshot| {
            let limits = &snapshot.settings.limits;
            (limits.connections, limits.connections_per_ip)
        };
        let (total, per_address) = self.worker.published.peek(limits);
        let admitted = self.worker.admission.admit(&stream, total, per_address)?;
        self.serve(stream, admitted, shutdown).await;
        None
    }

    /// Called when no more connections are accepted: ends those without a request.
    async fn cleanup(&self) {
        self.worker.proxy.cleanup().await;
    }
}
