//! From a Target to what Pingora reaches it by: TLS, timeouts, the connection.

use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::upstreams::peer::{HttpPeer, Scheme};
use pingora_error::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::context::Context;
use super::{forward, hop_by_hop};
use crate::connection;
use crate::origin::{Link, Pool, PoolKey, Writing};
use crate::snapshot::{Service, Upstream};

/// Returns what Pingora reaches the chosen Target by.
///
/// # Errors
///
/// When its certificate is to be verified, and there is no name to verify it by.
pub fn reach_target(
    session: &mut Session,
    service: &Service,
    upstream: &Upstream,
    pool: &Arc<Pool>,
    ctx: &mut Context,
) -> Result<HttpPeer> {
    let address = ctx.chosen.as_ref().expect("just chosen").endpoint().address;
    let mut peer = HttpPeer {
        _address: SocketAddr::Inet(address),
        scheme: Scheme::HTTP,
        sni: String::new(),
        proxy: None,
        client_cert_key: None,
        group_key: upstream.group_key,
        options: service.peer_options.clone(),
    };
    peer.options.http_upstream_request_policy = hop_by_hop::request_policy(&session.req_header().headers);
    if let Some(tls) = &service.tls {
        peer.scheme = Scheme::HTTPS;
        peer.sni = forward::server_name(session.req_header(), ctx, upstream);
        peer.client_cert_key.clone_from(&tls.client);
        peer.group_key ^= tls.pool_key;
        // Without a name Pingora would verify nothing, and not say so.
        if peer.sni.is_empty() && tls.verifies {
            let error = Error::explain(ErrorType::InvalidCert, "no name to verify the origin by");
            return Err(error.into_up());
        }
    }
    ctx.link = service.is_plain.then(|| {
        let group = upstream.group_key;
        Link::new(
            pool,
            PoolKey { address, group },
            service.timeouts,
            writing(session),
        )
    });
    if let Some(link) = &ctx.link {
        peer.options.custom_l4 = Some(link.clone());
    }
    Ok(peer)
}

/// Returns how a request goes out in the fewest writes, none of which waits for its client.
fn writing(session: &mut Session) -> Writing {
    if session.is_body_empty() {
        Writing::AsItComes
    } else if !session.req_header().headers.contains_key(CONTENT_LENGTH) {
        Writing::Gathered
    } else if connection::is_body_at_hand(session) {
        Writing::HeaderWithBody
    } else {
        Writing::AsItComes
    }
}
