//! A connection, from accept to close.
//!
//! Wraps Pingora's HTTP proxy so that connections are seen whatever becomes of them: those that
//! never send a request reach no hook of `ProxyHttp`.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use pingora_core::apps::ServerApp;
use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;

use crate::connection::{Connections, Guarded};
use crate::lifecycle::IDLE_GRACE;
use crate::metrics::metrics;
use crate::proxy::Gateway;

/// Pingora's proxy with its connections counted and listed.
pub struct Edge {
    proxy: Arc<HttpProxy<Gateway>>,
    connections: Arc<Connections>,
}

impl Edge {
    /// Wraps a proxy.
    pub fn new(proxy: HttpProxy<Gateway>) -> Self {
        Self {
            proxy: Arc::new(proxy),
            connections: Connections::of_worker(),
        }
    }
}

/// Counts a connection while it is open, also when its task is dropped or panics.
struct Open;

impl Open {
    fn count() -> Self {
        metrics().connections.inc();
        metrics().connections_accepted.inc();
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics().connections.dec();
    }
}

#[async_trait]
impl ServerApp for Edge {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let _open = Open::count();
        // Pingora serves a connection in one task from here to its end.
        let task = poll_fn(|ctx| Poll::Ready(ctx.waker().clone())).await;
        let listed = self.connections.open(task);
        let stream = Guarded::new(stream, listed.connection().clone());
        self.proxy.process_new(Box::new(stream), shutdown).await
    }

    /// Called when no more connections are accepted: ends those without a request.
    async fn cleanup(&self) {
        tokio::time::sleep(IDLE_GRACE).await;
        self.proxy.cleanup().await;
    }
}
