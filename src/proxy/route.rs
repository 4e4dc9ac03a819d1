//! Host, path, method, headers → Route and Service.

use std::borrow::Cow;

use http::Version;
use http::header::CONTENT_TYPE;
use pingora_http::RequestHeader;

use super::context::Context;
use super::path::normalize;
use crate::model::RouteProtocol;
use crate::snapshot::Subject;

/// Why a request has no Service to go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrouted {
    /// No Route matches.
    NoRoute,
    /// The Route has no Service.
    NoService,
    /// The Route is for HTTPS and the client came by plain HTTP; the status to tell it with.
    HttpsOnly(u16),
    /// The Route is for gRPC, and this is none.
    NotGrpc,
    /// The Route is for gRPC, which came by HTTP/1.
    NotHttp2,
    /// The Route is for gRPC over TLS and the client came without.
    GrpcsOnly,
}

/// Finds the Route and leaves it, with the path in normal form, in the context.
///
/// Allocates only for a host in capitals or a path out of normal form.
pub fn find_route(request: &RequestHeader, ctx: &mut Context) -> Result<(), Unrouted> {
    let (host, port) = host_of(request);
    let host = match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    };
    let path = normalize(request.uri.path());
    let subject = Subject {
        method: &request.method,
        host: &host,
        port: port.unwrap_or(ctx.client.server_port),
        path: &path,
        headers: &request.headers,
        sni: ctx.exchange.server_name(),
    };
    ctx.matched = ctx.snapshot.router.find(&subject);
    if let Cow::Owned(path) = path {
        ctx.normalized_path = Some(path);
    }
    let route = ctx.route().ok_or(Unrouted::NoRoute)?;
    let is_too_plain = !ctx.client.is_secure && !route.protocols.contains(&RouteProtocol::Http);
    // In Kong's order.
    if route.is_grpc {
        if !is_grpc(request) {
            return Err(Unrouted::NotGrpc);
        }
        if request.version != Version::HTTP_2 {
            return Err(Unrouted::NotHttp2);
        }
        if is_too_plain {
            return Err(Unrouted::GrpcsOnly);
        }
    } else if is_too_plain {
        return Err(Unrouted::HttpsOnly(route.https_redirect_status_code));
    }
    if route.service.is_none() {
        return Err(Unrouted::NoService);
    }
    Ok(())
}

/// Says whether a request is one of gRPC, whatever it came by.
pub fn is_grpc(request: &RequestHeader) -> bool {
    let content_type = request.headers.get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Returns the host a client asked for, without the port, and the port if it named one.
pub(crate) fn host_of(request: &RequestHeader) -> (&str, Option<u16>) {
    let authority = match request.headers.get(http::header::HOST) {
        Some(host) => host.to_str().unwrap_or_default(),
        None => request.uri.authority().map_or("", |authority| authority.as_str()),
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()),
        _ => (authority, None),
    };
    (host, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_their_port() {
        for (header, host, port) in [
            ("shop.example", "shop.example", None),
            ("shop.example:8080", "shop.example", Some(8080)),
            ("127.0.0.1:80", "127.0.0.1", Some(80)),
            ("[::1]:80", "[::1]", Some(80)),
            ("[::1]", "[::1]", None),
            ("::1", "::1", None),
            ("", "", None),
        ] {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            request.insert_header("Host", header).unwrap();
            assert_eq!(host_of(&request), (host, port), "{header}");
        }
    }
}
