//! The client's address behind trusted proxies.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

use crate::proxy::client::{X_FORWARDED_FOR, X_REAL_IP, address_of};

const TRUSTED: [&str; 3] = ["10.0.0.0/8", "2001:db8:1::/48", "127.0.0.1/32"];
const TRUSTED_PEERS: [&str; 3] = ["10.0.0.1", "2001:db8:1::1", "127.0.0.1"];
const OTHER_PEERS: [&str; 4] = ["192.0.2.1", "2001:db8:2::1", "11.0.0.1", "::1"];

/// The client is the peer or an address that the header holds; the header of a peer that is not trusted never
/// counts, and of a trusted one's nothing left of the first address, from the right, that is not trusted.
///
/// Each line of the input is one `X-Forwarded-For`, one that begins with `=` an `X-Real-IP`.
pub fn client(data: &[u8]) {
    let trusted = TRUSTED.map(|network| network.parse::<IpNet>().expect("a network"));
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let (name, value) = match line.strip_prefix(b"=") {
            Some(value) => (&X_REAL_IP, value),
            None => (&X_FORWARDED_FOR, line),
        };
        // What cannot be a field never comes here.
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let shown = data.escape_ascii();
    for peer in OTHER_PEERS {
        let peer = Some(address(peer));
        assert_eq!(address_of(peer, &headers, &trusted), peer, "{shown}");
    }
    assert_eq!(address_of(None, &headers, &trusted), None, "{shown}");
    for peer in TRUSTED_PEERS.map(address) {
        assert_eq!(address_of(Some(peer), &headers, &[]), Some(peer), "{shown}");
        let found = address_of(Some(peer), &headers, &trusted);
        assert_eq!(found, Some(read(peer, &headers, &trusted)), "{shown}");
        // Whoever wrote what is left of an address that is not trusted says nothing by it.
        if found.is_some_and(|found| found != peer && !is_trusted(found, &trusted))
            && let Some(first) = headers.get(&X_FORWARDED_FOR)
        {
            let more = [b"203.0.113.9, ", first.as_bytes()].concat();
            let mut invented = headers.clone();
            if let Some(first) = invented.get_mut(&X_FORWARDED_FOR) {
                *first = HeaderValue::from_bytes(&more).expect("still a value");
            }
            let is_by_list = list(&headers).iter().any(|entry| read_address(entry) == found);
            if is_by_list {
                assert_eq!(address_of(Some(peer), &invented, &trusted), found, "{shown}");
            }
        }
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// Returns every entry of every line; what is no text is an entry that nobody can read.
fn list(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(&X_FORWARDED_FOR).iter();
    let entries = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let texts = entries.map(|entry| String::from_utf8_lossy(entry).trim().to_owned());
    texts.collect()
}

/// Walks the whole list from the right.
fn read(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut readable: Vec<IpAddr> = Vec::new();
    let entries = list(headers);
    for entry in entries.iter().rev() {
        let Some(address) = read_address(entry) else { break };
        readable.push(address);
    }
    if let Some(client) = readable.iter().find(|address| !is_trusted(**address, trusted)) {
        return *client;
    }
    if let Some(farthest) = readable.last() {
        return *farthest;
    }
    let is_list_empty = entries.is_empty();
    let real = headers.get(&X_REAL_IP).filter(|_| is_list_empty);
    let real = real.and_then(|value| read_address(value.to_str().ok()?.trim()));
    real.unwrap_or(peer)
}

fn read_address(text: &str) -> Option<IpAddr> {
    let address = match text.parse::<SocketAddr>() {
        Ok(address) => address.ip(),
        Err(_) => {
            let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
            inside.unwrap_or(text).parse().ok()?
        }
    };
    Some(address.to_canonical())
}
