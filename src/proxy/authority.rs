//! The authority that a request names: `Host`, `:authority`, or the one in an absolute-form target.
//!
//! What is routed on, logged and forwarded is read by others with other rules, so nothing passes that
//! two readers could take for different hosts: userinfo, blanks, a list, a port beyond 65535. That there
//! is one `Host` only, and that it agrees with an absolute-form target, is Pingora's care with HTTP/1, where it
//! refuses such a request before any hook, and is asked of it with HTTP/2.

use std::net::Ipv6Addr;

use http::Version;
use http::header::HOST;
use pingora_core::protocols::http::authority::validate_request_authority;
use pingora_http::RequestHeader;

/// Says whether a request names its host as its version asks (RFC 9112 §3.2, RFC 9113 §8.3.1): once, in
/// the form of [`is_authority`]; an HTTP/1.0 request may do without.
pub fn names_its_host(request: &RequestHeader) -> bool {
    let host = request.headers.get(HOST).map(|host| host.as_bytes());
    let pseudo = || {
        request
            .uri
            .authority()
            .map(|authority| authority.as_str().as_bytes())
    };
    // HTTP/1.1 asks for the field itself, even beside an absolute-form target.
    match host.or_else(|| pseudo().filter(|_| request.version > Version::HTTP_11)) {
        Some(authority) => is_authority(authority) && agrees_with_pseudo_fields(request),
        None => request.version < Version::HTTP_11,
    }
}

/// Says whether HTTP/2's `:authority` is the only `Host` that there is, and its `:path` names no other (RFC 9113
/// §8.3.1).
fn agrees_with_pseudo_fields(request: &RequestHeader) -> bool {
    request.version < Version::HTTP_2
        || (matches!(request.raw_path(), [b'/', ..] | b"*") && validate_request_authority(request).is_ok())
}

/// Says whether bytes are `uri-host [ ":" port ]` (RFC 9110 §7.2, RFC 3986 §3.2.2): a name or an IPv4
/// address of at least one character, or an IPv6 address in brackets, and a port of at most 65535. A
/// colon without a port is one, as RFC 3986 has it. `IPvFuture` and zone identifiers, which no resolver
/// and no certificate knows, are not.
///
/// One pass, no allocation.
pub fn is_authority(bytes: &[u8]) -> bool {
    let (is_host, port) = match bytes {
        [b'[', rest @ ..] => match split_at_byte(rest, b']') {
            (address, Some(port)) => (is_ipv6(address), port),
            (_, None) => return false,
        },
        _ => {
            let name = bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len());
            (is_name(&bytes[..name]), &bytes[name..])
        }
    };
    is_host && is_port(port)
}

/// Splits at the first such byte, which neither half keeps.
fn split_at_byte(bytes: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    match bytes.iter().position(|byte| *byte == separator) {
        Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
        None => (bytes, None),
    }
}

fn is_ipv6(address: &[u8]) -> bool {
    std::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// `reg-name`, of which an IPv4 address is one; RFC 3986 lets it be empty, RFC 9110 §4.2.1 does not.
fn is_name(name: &[u8]) -> bool {
    let mut rest = name;
    loop {
        rest = match rest {
            [] => return !name.is_empty(),
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if is_name_byte(*byte) => rest,
            _ => return false,
        }
    }
}

/// `unreserved` and `sub-delims` of RFC 3986 §2.
const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
        )
}

/// Nothing, or a colon and digits that make no more than 65535.
fn is_port(bytes: &[u8]) -> bool {
    match bytes {
        [] => true,
        [b':', digits @ ..] => digits
            .iter()
            .try_fold(0_u16, |port, digit| {
                let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
                port.checked_mul(10)?.checked_add(digit)
            })
            .is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(authority: &str, expected: bool) {
        assert_eq!(is_authority(authority.as_bytes()), expected, "{authority:?}");
    }

    #[test]
    fn names_and_addresses_with_and_without_a_port_pass() {
        for authority in [
            "shop.example",
            "SHOP.example",
            "shop.example.",
            "a",
            "xn--bcher-kva.example",
            "under_score.example",
            "127.0.0.1",
            "999.1.1.1",
            "[::1]",
            "[::ffff:192.0.2.1]",
            "[2001:DB8::1]",
            "b%C3%BCcher.example",
            "a!$&'()*+,;=~b",
        ] {
            check(authority, true);
            for port in [":", ":0", ":80", ":065535", ":65535"] {
                check(&format!("{authority}{port}"), true);
            }
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for authority in [
            "",
            ":",
            ":80",
            "user@shop.example",
            "user:pass@shop.example",
            "a b",
            "a\tb",
            " a",
            "a ",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a:b",
            "a:80:80",
            "a:-1",
            "a:+1",
            "a: 80",
            "a:65536",
            "a:99999999999999999999",
            "::1",
            "[::1",
            "::1]",
            "[]",
            "[::1]80",
            "[::1]:x",
            "[::1%25eth0]",
            "[v1.a]",
            "[127.0.0.1]",
            "[[::1]]",
            "a[::1]",
            "%",
            "%4",
            "%zz",
            "a%0",
            "bücher.example",
            "a\0",
            "a\u{7f}",
            "<a>",
            "\"a\"",
            "a|b",
            "a^b",
            "{a}",
            "a`b",
            "http://a",
        ] {
            check(authority, false);
        }
        assert!(!is_authority(b"\xff"));
    }

    #[test]
    fn each_version_has_its_rule_for_a_missing_host() {
        for (version, host, expected) in [
            (Version::HTTP_10, None, true),
            (Version::HTTP_10, Some(""), false),
            (Version::HTTP_10, Some("a b"), false),
            (Version::HTTP_10, Some("a"), true),
            (Version::HTTP_11, None, false),
            (Version::HTTP_11, Some(""), false),
            (Version::HTTP_11, Some("a"), true),
            (Version::HTTP_2, None, false),
            (Version::HTTP_2, Some("a"), true),
        ] {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            request.set_version(version);
            if let Some(host) = host {
                request.insert_header(HOST, host).unwrap();
            }
            assert_eq!(names_its_host(&request), expected, "{version:?} {host:?}");
        }
    }

    #[test]
    fn http_2_may_name_it_in_its_pseudo_field() {
        for (uri, expected) in [
            ("http://shop.example/", true),
            ("http://a!b:99999/", false),
            ("/", false),
        ] {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            request.set_version(Version::HTTP_2);
            request.set_uri(uri.parse().unwrap());
            assert_eq!(names_its_host(&request), expected, "{uri}");
        }
    }

    #[test]
    fn http_2_names_one_host_only() {
        let check = |authority: &str, hosts: &[&str], path: &[u8], expected: bool| {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            request.set_uri(format!("http://{authority}/").parse().unwrap());
            if path != b"/" {
                request.set_raw_path(path).unwrap();
            }
            request.set_version(Version::HTTP_2);
            for host in hosts {
                request.append_header(HOST, *host).unwrap();
            }
            let found = names_its_host(&request);
            assert_eq!(found, expected, "{authority} {hosts:?} {path:?}");
        };
        check("a", &["a"], b"/", true);
        check("a", &["b"], b"/", false);
        check("a", &["a", "a"], b"/", false);
        check("a", &["a:80"], b"/", false);
        check("u@a", &["a"], b"/", false);
        check("a", &["a"], b"http://a/", false);
        check("a", &["a"], b"http:\\\\a/", false);
        check("a", &["a"], b"*", true);
    }

    proptest! {
        #[test]
        fn nothing_passes_that_ends_a_field_or_splits_a_list(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if is_authority(&bytes) {
                prop_assert!(bytes.iter().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(!bytes.iter().any(|byte| b"@/?#\\\"<>".contains(byte)));
            }
        }

        #[test]
        fn what_passes_is_an_authority_to_another_parser_too(text in "[a-z0-9.:\\[\\]@%-]{1,20}") {
            if is_authority(text.as_bytes()) && !text.contains('%') {
                prop_assert!(text.parse::<http::uri::Authority>().is_ok(), "{text}");
            }
        }

        #[test]
        fn every_address_and_port_passes(address: std::net::IpAddr, port: u16) {
            let authority = std::net::SocketAddr::new(address, port).to_string();
            prop_assert!(is_authority(authority.as_bytes()), "{authority}");
        }
    }
}
