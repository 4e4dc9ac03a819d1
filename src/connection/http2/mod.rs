//! A client's connection of HTTP/2: its streams, each served in a task of its own.
//!
//! The frames are the `h2` crate's care, within Pingora's limits. What a request must be is judged where
//! all requests are judged.

mod session;
mod streams;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use log::debug;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{default_h2_options, handshake};
use pingora_core::protocols::{Digest, GetSocketDigest, GetTimingDigest, Ssl};
use pingora_core::server::ShutdownWatch;

use self::session::Session;
pub(super) use self::streams::{Stream, Streams};
use super::{Guarded, current_task};

/// Streams that `h2` itself refuses, after which a connection is closed: those whose header list is too long, or
/// no header at all. Each is read to its end for nothing, and may be a thousand times as long as it looks.
const REFUSED_LIMIT: usize = 32;

/// How long a connection is kept, and how its requests are served.
pub trait Service: Send + Sync + 'static {
    /// Requests after which a client is told to open another connection.
    fn requests_per_connection(&self) -> u32;

    /// How long a connection may have no stream.
    fn keepalive(&self) -> Duration;

    /// Serves a request.
    fn serve(
        self: Arc<Self>,
        session: ServerSession,
        stopping: ShutdownWatch,
    ) -> impl Future<Output = ()> + Send;
}

/// Serves a connection to its end. Told to stop, and after so many requests, it says goodbye to the client: no
/// further streams (GOAWAY), then, once it has heard that, no more of the connection. What it sends until then
/// is served.
pub async fn serve_http2(stream: Guarded, service: Arc<impl Service>, stopping: &ShutdownWatch) {
    let connection = stream.connection().clone();
    let digest = Arc::new(Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: None,
        socket_digest: stream.get_socket_digest(),
    });
    let mut options = default_h2_options();
    options.max_local_error_reset_streams(Some(REFUSED_LIMIT));
    let mut client = match handshake(Box::new(stream), Some(options)).await {
        Ok(client) => client,
        Err(error) => return debug!("{error}"),
    };
    let mut unused = pin!(connection.streams.unused_for(|| service.keepalive()));
    let mut watch = stopping.clone();
    let mut stop = pin!(watch.wait_for(|is_stopping| *is_stopping));
    let mut requests = service.requests_per_connection();
    loop {
        let opened = tokio::select! {
            biased;
            _ = &mut stop, if requests > 0 => {
                requests = 0;
                client.graceful_shutdown();
                continue;
            }
            opened = client.accept() => opened,
            () = &mut unused => return,
        };
        let (request, respond) = match opened {
            Some(Ok(opened)) => opened,
            Some(Err(error)) => return debug!("a connection of HTTP/2 ends: {error}"),
            None => return,
        };
        if requests > 0 {
            requests -= 1;
            if requests == 0 {
                client.graceful_shutdown();
            }
        }
        let (connection, digest) = (connection.clone(), digest.clone());
        let (service, stopping) = (service.clone(), stopping.clone());
        tokio::spawn(async move {
            let stream = Arc::new(Stream::open(&connection, current_task().await));
            let session = Session::new(request, respond, digest, stream.clone());
            let session = ServerSession::new_custom(Box::new(session));
            stream.serve(service.serve(session, stopping)).await;
        });
    }
}
