//! The host that a request names.

use std::net::Ipv6Addr;

use http::header::HOST;
use pingora_http::RequestHeader;

use crate::proxy::authority::{is_authority, names_its_host};
use crate::proxy::route::host_of;

/// What is taken for an authority is one to a reader that works by the text of RFC 3986, and the other way round;
/// a Route sees the host and the port that are in it.
pub fn authority(data: &[u8]) {
    let expected = read(data);
    assert_eq!(is_authority(data), expected.is_some(), "{}", data.escape_ascii());
    let Ok(value) = http::HeaderValue::from_bytes(data) else {
        assert!(expected.is_none(), "no field can hold {}", data.escape_ascii());
        return;
    };
    let mut request = RequestHeader::build("GET", b"/", None).expect("a plain request");
    request.insert_header(HOST, value).expect("a plain field");
    assert_eq!(names_its_host(&request), expected.is_some());
    let Some((host, port)) = expected else { return };
    assert_eq!(host_of(&request), (host, port), "{}", data.escape_ascii());
    // What is written of it is read as the same again.
    let again = match port {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    assert_eq!(read(again.as_bytes()), Some((host, port)));
    assert!(is_authority(again.to_ascii_lowercase().as_bytes()));
}

/// Reads `host [":" port]` with one rule after the other.
fn read(bytes: &[u8]) -> Option<(&str, Option<u16>)> {
    const NAME: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=%";
    let text = std::str::from_utf8(bytes).ok()?;
    let end = match text.strip_prefix('[') {
        Some(_) => text.find(']')? + 1,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(end);
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let encoded = host.split('%').skip(1);
            !host.is_empty()
                && host.chars().all(|char| NAME.contains(char))
                && encoded
                    .map(|rest| rest.get(..2))
                    .all(|digits| digits.is_some_and(|two| two.chars().all(|char| char.is_ascii_hexdigit())))
        }
    };
    let digits = match rest.strip_prefix(':') {
        Some(digits) => digits,
        None if rest.is_empty() => "",
        None => return None,
    };
    let port = match digits {
        "" => None,
        _ if digits.chars().all(|char| char.is_ascii_digit()) => Some(digits.parse::<u16>().ok()?),
        _ => return None,
    };
    is_host.then_some((host, port))
}
