//! Who sent the request: the other end of the connection, or what a trusted peer says of it.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::HeaderName;
use ipnet::IpNet;
use pingora_proxy::Session;

use super::context::Client;

/// `X-Forwarded-For`.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Real-IP`.
pub const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Port assumed for a socket without one (a Unix socket).
const NO_PORT: u16 = 0;

/// Works out who the client is.
pub fn identify_client(session: &Session, trusted_ips: &[IpNet]) -> Client {
    let peer = session
        .client_addr()
        .and_then(|address| address.as_inet())
        .map(|address| address.ip());
    let server_port = session
        .server_addr()
        .and_then(|address| address.as_inet())
        .map_or(NO_PORT, |a| a.port());
    // On a socket that is open to both families an IPv4 peer shows as a mapped IPv6 address.
    let peer = peer.map(|address| address.to_canonical());
    let is_trusted = peer.is_some_and(|address| is_in(address, trusted_ips));
    let address = address_of(peer, &session.req_header().headers, trusted_ips);
    let is_secure = session.digest().is_some_and(|digest| digest.ssl_digest.is_some())
        || is_trusted && is_forwarded_from_https(&session.req_header().headers);
    Client {
        peer,
        address,
        is_trusted,
        is_secure,
        server_port,
    }
}

/// Returns the client's address: a trusted peer's word for it, else the peer's own.
pub(crate) fn address_of(peer: Option<IpAddr>, headers: &HeaderMap, trusted_ips: &[IpNet]) -> Option<IpAddr> {
    match peer.is_some_and(|address| is_in(address, trusted_ips)) {
        true => forwarded_client(headers, trusted_ips).or(peer),
        false => peer,
    }
}

fn is_in(address: IpAddr, networks: &[IpNet]) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// Reads the client's address out of what a trusted peer sent: the last address of
/// `X-Forwarded-For` that is not a trusted proxy's, else `X-Real-IP`. From the right, since what
/// stands on the left was written by the client and may be invented.
fn forwarded_client(headers: &HeaderMap, trusted_ips: &[IpNet]) -> Option<IpAddr> {
    let mut first = None;
    for value in headers.get_all(&X_FORWARDED_FOR).iter().rev() {
        for entry in value.as_bytes().rsplit(|byte| *byte == b',') {
            let Some(address) = parse_address(entry) else {
                return first;
            };
            if !is_in(address, trusted_ips) {
                return Some(address);
            }
            first = Some(address);
        }
    }
    first.or_else(|| parse_address(headers.get(&X_REAL_IP)?.as_bytes()))
}

/// Says whether a proxy in front of this one took the request by TLS.
fn is_forwarded_from_https(headers: &HeaderMap) -> bool {
    headers
        .get("x-forwarded-proto")
        .is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// Takes an address with or without brackets and port, and blanks around it.
fn parse_address(bytes: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let address = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| {
            text.parse::<std::net::SocketAddr>()
                .ok()
                .map(|address| address.ip())
        })
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(forwarded_for: &[&str], real_ip: Option<&str>, client: Option<&str>) {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for value in forwarded_for {
            headers.append(
                &X_FORWARDED_FOR,
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        if let Some(value) = real_ip {
            headers.insert(&X_REAL_IP, value.parse().unwrap());
        }
        let expected = client.map(|address| address.parse::<IpAddr>().unwrap());
        assert_eq!(
            forwarded_client(&headers, &trusted),
            expected,
            "{forwarded_for:?} {real_ip:?}"
        );
    }

    #[test]
    fn the_last_address_that_no_trusted_proxy_has_is_the_client() {
        check(&["1.1.1.1, 2.2.2.2, 10.0.0.9"], None, Some("2.2.2.2"));
        check(
            &["1.1.1.1", "2.2.2.2, 10.0.0.9"],
            Some("9.9.9.9"),
            Some("2.2.2.2"),
        );
        check(&["10.0.0.7, 10.0.0.9"], None, Some("10.0.0.7"));
        check(&["[2001:db8::1]:4711"], None, Some("2001:db8::1"));
        check(&["3.3.3.3:1234"], None, Some("3.3.3.3"));
    }

    #[test]
    fn what_cannot_be_read_is_not_believed() {
        check(&["1.1.1.1, unknown, 10.0.0.9"], None, Some("10.0.0.9"));
        check(&["nonsense"], None, None);
        // Bytes that are no text spoil their own entry only: the client would hide behind its proxy by them.
        check(&["1.1.1.1, caf\u{e9}, 2.2.2.2, 10.0.0.9"], None, Some("2.2.2.2"));
        check(&["1.1.1.1, caf\u{e9}, 10.0.0.9"], None, Some("10.0.0.9"));
        check(&[], Some("4.4.4.4"), Some("4.4.4.4"));
        check(&[], None, None);
    }
}
