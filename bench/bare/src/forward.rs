//! What happens to a request: a Target by weight, X-Forwarded-For.

use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora_load_balancing::discovery::Static;
use pingora_load_balancing::selection::RoundRobin;
use pingora_load_balancing::{Backend, Backends, LoadBalancer};
use pingora_proxy::{ProxyHttp, Session};

/// Serin's defaults, which Pingora's are not, since it has no limits: a Service's `connect_timeout`, `read_timeout` and
/// `write_timeout`, the idle time of a connection to a Target, `body_idle` of a client.
const LIMIT: Option<Duration> = Some(Duration::from_secs(60));

/// Forwards to the Targets of one pool in turn, by weight.
pub(crate) struct Forward(LoadBalancer<RoundRobin>);

impl Forward {
    pub(crate) fn new(targets: &[(&str, usize)]) -> Result<Self, Box<dyn Error>> {
        let backends = targets
            .iter()
            .map(|(target, weight)| Backend::new_with_weight(target, *weight))
            .collect::<Result<_, _>>()?;
        let pool = LoadBalancer::from_backends(Backends::new(Static::new(backends)));
        // Nothing is looked up, so it is there at once.
        pool.update().now_or_never().ok_or("the pool is not ready")??;
        Ok(Self(pool))
    }
}

#[async_trait]
impl ProxyHttp for Forward {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn early_request_filter(&self, session: &mut Session, _: &mut ()) -> pingora::Result<()> {
        session.set_read_timeout(LIMIT);
        session.set_write_timeout(LIMIT);
        session.set_total_drain_timeout(LIMIT);
        Ok(())
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> pingora::Result<Box<HttpPeer>> {
        let target = self.0.select(b"", 256);
        let target = target.ok_or_else(|| pingora::Error::new_str("no Target"))?;
        let mut peer = HttpPeer::new(target.addr, false, String::new());
        peer.options.connection_timeout = LIMIT;
        peer.options.total_connection_timeout = LIMIT;
        peer.options.read_timeout = LIMIT;
        peer.options.write_timeout = LIMIT;
        peer.options.idle_timeout = LIMIT;
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        _: &mut (),
    ) -> pingora::Result<()> {
        let client = session.client_addr().and_then(|address| address.as_inet());
        match client {
            Some(client) => request.insert_header("X-Forwarded-For", client.ip().to_string()),
            None => Ok(()),
        }
    }
}
