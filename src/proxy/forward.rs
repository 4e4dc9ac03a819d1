//! The request as the origin gets it: path, Host and forwarding headers.

use http::header::{HOST, HeaderName, HeaderValue, TE, VIA};
use http::{HeaderMap, Version};
use pingora_error::{Error, ErrorType, OrErr, Result};
use pingora_http::RequestHeader;

use super::client::{X_FORWARDED_FOR, X_REAL_IP};
use super::context::{Client, Context};
use super::fields::{change_request, set, set_or_remove};
use super::identify::{rewrite_fields, visible_query};
use super::path::join;
use crate::connection::Ends;
use crate::model::PathHandling;
use crate::snapshot::{Destination, Route, Upstream};

/// How this proxy names itself in `Via` and `Server`.
pub const PRODUCT: &str = concat!("serin/", env!("CARGO_PKG_VERSION"));
/// The part of [`PRODUCT`] that all releases have in common.
pub const PRODUCT_NAME: &[u8] = b"serin/";
/// `Via` towards the next hop for a message that came by HTTP/1.1.
pub const VIA_HTTP_1: HeaderValue =
    HeaderValue::from_static(concat!("1.1 serin/", env!("CARGO_PKG_VERSION")));
/// `Via` towards the next hop for a message that came by HTTP/2.
pub const VIA_HTTP_2: HeaderValue = HeaderValue::from_static(concat!("2 serin/", env!("CARGO_PKG_VERSION")));

/// Kong's name for the request's id, in both directions.
pub const X_KONG_REQUEST_ID: HeaderName = HeaderName::from_static("x-kong-request-id");
/// Asks for headers that say how an answer came about; heard from `server.trusted_ips` only.
pub const X_SERIN_DEBUG: HeaderName = HeaderName::from_static("x-serin-debug");

/// The scheme under which the client came, as a trusted peer tells it.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PATH: HeaderName = HeaderName::from_static("x-forwarded-path");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// Fields that a request gets here at most, but for a Consumer's.
const OWN_FIELDS: usize = 12;

/// Rewrites a copy of the client's request for the Target of this try.
///
/// Pingora has already taken the hop-by-hop fields out (RFC 9110 §7.6.1). `received` is the request
/// as the client sent it.
pub fn rewrite_request(received: &RequestHeader, request: &mut RequestHeader, ctx: &Context) -> Result<()> {
    let (Some(route), Some(destination)) = (ctx.route(), ctx.destination()) else {
        return Error::e_explain(
            ErrorType::InternalError,
            "a request without a service goes upstream",
        );
    };
    let is_http2 = received.version == Version::HTTP_2 && request.version == Version::HTTP_2;
    change_request(request, |fields| -> Result<()> {
        fields.reserve(OWN_FIELDS);
        set_forwarding_fields(received, fields, ctx, route)?;
        let guard = route.guard.as_deref();
        rewrite_fields(fields, guard, &ctx.identity, &ctx.snapshot.consumers);
        if is_http2 {
            keep_trailers(&received.headers, fields);
        }
        set_host(fields, ctx, route, &destination.upstream);
        Ok(())
    })?;
    set_path(received, request, ctx, route, destination)
}

/// Passes `TE: trailers` on from HTTP/2 to HTTP/2, where it concerns no single hop (RFC 9113 §8.2.2), and where
/// servers of gRPC ask for it to tell that no proxy between loses trailers.
fn keep_trailers(received: &HeaderMap, fields: &mut HeaderMap) {
    if let Some(value) = received.get(TE).filter(|value| *value == "trailers") {
        set(fields, TE, value.clone());
    }
}

fn set_path(
    received: &RequestHeader,
    request: &mut RequestHeader,
    ctx: &Context,
    route: &Route,
    destination: &Destination,
) -> Result<()> {
    // RFC 9110 §9.3.7: it asks about the server as a whole, and no path of a Service says where that is.
    if received.raw_path() == b"*" {
        return Ok(());
    }
    let path = ctx.normalized_path.as_deref().unwrap_or(received.uri.path());
    let stripped = stripped_bytes(ctx, route);
    let received_query = received.uri.query();
    let query = received_query.map(|query| visible_query(route.guard.as_deref(), query));
    // What is hidden with nothing left beside it takes the question mark along.
    let query = query.filter(|query| !query.is_empty() || received_query == Some(""));
    let is_as_received = destination.path == "/"
        && matches!(stripped, None | Some(0 | 1))
        && route.path_handling == PathHandling::V0
        && ctx.normalized_path.is_none()
        && query.as_deref() == received_query;
    if is_as_received && received.raw_path().first() == Some(&b'/') {
        return Ok(());
    }
    let mut target = join(route.path_handling, &destination.path, path, stripped);
    // A bare question mark at the end is kept too.
    if let Some(query) = query {
        target.push('?');
        target.push_str(&query);
    }
    request.set_raw_path(target.as_bytes())
}

/// How many bytes of the path the Route takes away, or `None` when it keeps them.
fn stripped_bytes(ctx: &Context, route: &Route) -> Option<usize> {
    ctx.matched.filter(|_| route.strip_path)?.path_bytes
}

/// Returns the name that the origin is asked for in a TLS handshake, and verified by: the host that is sent
/// to it, without the port. An address is a name too.
pub fn server_name(received: &RequestHeader, ctx: &Context, upstream: &Upstream) -> String {
    let is_preserved = ctx.route().is_some_and(|route| route.preserve_host);
    let own = || received.headers.get(HOST);
    let host = is_preserved
        .then(own)
        .flatten()
        .or_else(|| host_of(ctx, upstream));
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match (host.strip_prefix('['), host.rsplit_once(':')) {
        (Some(rest), _) => rest.split(']').next().unwrap_or_default(),
        (None, Some((name, _))) => name,
        (None, None) => host,
    };
    name.to_owned()
}

/// The host that belongs to the Target, or to its whole Upstream.
fn host_of<'a>(ctx: &'a Context, upstream: &'a Upstream) -> Option<&'a HeaderValue> {
    let endpoint = ctx.chosen.as_ref().map(|chosen| chosen.endpoint());
    let own = upstream.host_header.as_ref();
    own.or(endpoint.map(|endpoint| &endpoint.host_header))
}

fn set_host(fields: &mut HeaderMap, ctx: &Context, route: &Route, upstream: &Upstream) {
    if route.preserve_host {
        return;
    }
    if let Some(host) = host_of(ctx, upstream) {
        set(fields, HOST, host.clone());
    }
}

fn ends_of(client: &Client) -> Ends {
    let peer = client.peer.map(|peer| peer.to_string());
    Ends {
        // An address is visible ASCII.
        peer: peer.and_then(|peer| HeaderValue::try_from(peer).ok()),
        port: HeaderValue::from(client.server_port),
    }
}

/// Returns `X-Forwarded-For` with the peer at its end.
fn forwarded_for(headers: &HeaderMap, peer: &HeaderValue) -> Result<HeaderValue> {
    let mut before = headers.get_all(X_FORWARDED_FOR).iter().peekable();
    if before.peek().is_none() {
        return Ok(peer.clone());
    }
    let mut chain = Vec::with_capacity(64);
    for value in before {
        chain.extend_from_slice(value.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer.as_bytes());
    HeaderValue::from_bytes(&chain).or_err(HEADER, "X-Forwarded-For cannot be written")
}

fn set_forwarding_fields(
    received: &RequestHeader,
    fields: &mut HeaderMap,
    ctx: &Context,
    route: &Route,
) -> Result<()> {
    let client = &ctx.client;
    let new_ends;
    let ends = match ctx.exchange.connection() {
        Some(connection) => connection.ends(|| ends_of(client)),
        None => {
            new_ends = ends_of(client);
            &new_ends
        }
    };
    if let Some(peer) = &ends.peer {
        set(fields, X_FORWARDED_FOR, forwarded_for(&received.headers, peer)?);
        let real = match client.address {
            Some(address) if client.address != client.peer => header_value(&address.to_string())?,
            _ => peer.clone(),
        };
        set(fields, X_REAL_IP, real);
    }
    let own = |name: &HeaderName| !(client.is_trusted && received.headers.contains_key(name));
    if own(&X_FORWARDED_PROTO) {
        set(
            fields,
            X_FORWARDED_PROTO,
            HeaderValue::from_static(client.scheme()),
        );
    }
    if own(&X_FORWARDED_HOST) {
        set_or_remove(fields, X_FORWARDED_HOST, host_without_port(received));
    }
    if own(&X_FORWARDED_PORT) {
        set(fields, X_FORWARDED_PORT, ends.port.clone());
    }
    if own(&X_FORWARDED_PATH) {
        // Absolute in the request line, it is a path here as everywhere.
        let raw = match received.raw_path() {
            raw if raw.first() == Some(&b'/') => raw,
            _ => received.uri.path().as_bytes(),
        };
        let path = raw.split(|byte| *byte == b'?').next().unwrap_or(raw);
        let path = HeaderValue::from_bytes(path).or_err(HEADER, "path")?;
        set(fields, X_FORWARDED_PATH, path);
    }
    if own(&X_FORWARDED_PREFIX) {
        let path = ctx.normalized_path.as_deref().unwrap_or(received.uri.path());
        let prefix = stripped_bytes(ctx, route).map(|bytes| &path[..bytes.min(path.len())]);
        let prefix = prefix.filter(|prefix| prefix.len() > 1);
        set_or_remove(fields, X_FORWARDED_PREFIX, prefix.map(header_value).transpose()?);
    }
    set(fields, VIA, via(&received.headers, received.version)?);
    set(fields, X_KONG_REQUEST_ID, ctx.id.header_value());
    Ok(())
}

const HEADER: ErrorType = ErrorType::InvalidHTTPHeader;

fn header_value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).or_err(HEADER, "a forwarding header cannot be written")
}

/// Returns `Via` with this hop at its end (RFC 9110 §7.6.3); `version` is that of the message received.
pub fn via(headers: &HeaderMap, version: Version) -> Result<HeaderValue> {
    let own = if version == Version::HTTP_2 {
        VIA_HTTP_2
    } else {
        VIA_HTTP_1
    };
    if !headers.contains_key(VIA) {
        return Ok(own);
    }
    let mut hops = Vec::new();
    for hop in headers.get_all(VIA) {
        hops.extend_from_slice(hop.as_bytes());
        hops.extend_from_slice(b", ");
    }
    hops.extend_from_slice(own.as_bytes());
    HeaderValue::from_bytes(&hops).or_err(HEADER, "Via cannot be written")
}

/// Gives a request of HTTP/2 that has its host in `:authority` alone, as it should, the Host field that it
/// will have at an HTTP/1.1 origin (RFC 9113 §8.3.1), so that one place tells the host.
pub fn set_host_by_authority(request: &mut RequestHeader) -> Result<()> {
    if request.version != Version::HTTP_2 || request.headers.contains_key(HOST) {
        return Ok(());
    }
    match request.uri.authority() {
        Some(authority) => request.insert_header(HOST, header_value(authority.as_str())?),
        None => Ok(()),
    }
}

fn host_without_port(received: &RequestHeader) -> Option<HeaderValue> {
    let host = received.headers.get(HOST)?;
    let text = host.to_str().ok()?;
    match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => HeaderValue::from_str(name).ok(),
        _ => Some(host.clone()),
    }
}
