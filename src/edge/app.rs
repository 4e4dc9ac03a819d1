//! A connection, from accept to close.
//!
//! Wraps Pingora's HTTP proxy so that connections are seen whatever becomes of them: those that
//! never send a request reach no hook of `ProxyHttp`.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::apps::ServerApp;
use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;

use crate::metrics::metrics;
use crate::proxy::Gateway;

/// Pingora's proxy with its connections counted.
pub struct Edge {
    proxy: Arc<HttpProxy<Gateway>>,
}

impl Edge {
    /// Wraps a proxy.
    pub fn new(proxy: HttpProxy<Gateway>) -> Self {
        Self {
            proxy: Arc::new(proxy),
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
        self.proxy.process_new(stream, shutdown).await
    }

    async fn cleanup(&self) {
        self.proxy.cleanup().await;
    }
}
