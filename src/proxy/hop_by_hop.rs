//! Fields that end at this hop (RFC 9110 §7.6.1).
//!
//! On the way to an origin Pingora takes them out, before [`forward`](super::forward) writes what is ours,
//! so that no client can nominate that away. It looks for each; most requests have none, which is seen in one
//! pass, and Pingora told to leave them as they are. Out of an origin's answer they are taken here.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, PROXY_AUTHENTICATE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use pingora_core::upstreams::peer::HttpUpstreamRequestPolicy;

use super::fields::set;

/// Fields of an answer that end here whether `Connection` names them or not. `Proxy-Authenticate` and its
/// like are for the client next to their sender (RFC 9110 §11.7), which is this gateway; trailer fields do
/// not pass, so what announces them does not either. `Connection` itself is Pingora's to write.
static ALWAYS: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    TE,
    TRAILER,
];

/// Says how Pingora is to treat the fields of a request for its origin: by its standard, or not at all where it would
/// find nothing to take out.
pub fn request_policy(fields: &HeaderMap) -> HttpUpstreamRequestPolicy {
    match fields.keys().any(may_end_here) {
        true => HttpUpstreamRequestPolicy::standard(),
        false => HttpUpstreamRequestPolicy::preserve(),
    }
}

/// Takes out of an answer what was for this hop only. An answer that switches protocols keeps its
/// `Upgrade`, and `Connection` names that alone.
pub fn strip_hop_by_hop(fields: &mut HeaderMap, status: StatusCode) {
    let is_switching = status == StatusCode::SWITCHING_PROTOCOLS;
    if fields.keys().any(may_end_here) {
        for name in nominated(fields) {
            fields.remove(name);
        }
        for name in &ALWAYS {
            fields.remove(name);
        }
        if !is_switching {
            fields.remove(UPGRADE);
        }
    }
    if is_switching {
        set(fields, CONNECTION, HeaderValue::from_static("Upgrade"));
    }
}

/// Says whether a field is one of those that end at a hop, of requests or of answers, or names such. Without
/// any there is nothing to take out: one pass over what is there costs less than to look for each.
fn may_end_here(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// The fields that `Connection` names. Those that frame the body stay, whatever an origin says, and
/// `Upgrade` is left to the rule about it. Empty, and without allocation, where it names none.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let options = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    options
        .filter(|option| {
            !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive")
        })
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .filter(|name| ![CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE].contains(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, fields: &[(&'static str, &str)], left: &[(&str, &str)]) {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        strip_hop_by_hop(&mut map, StatusCode::from_u16(status).unwrap());
        let mut found: Vec<_> = map
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        found.sort_unstable();
        assert_eq!(found, left, "{status} {fields:?}");
    }

    #[test]
    fn what_is_for_one_hop_goes() {
        let fields = [
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authenticate", "Basic"),
            ("Proxy-Authentication-Info", "x"),
            ("TE", "trailers"),
            ("Trailer", "X-Sum"),
            ("Upgrade", "h2c"),
            ("X-Public", "1"),
        ];
        check(200, &fields, &[("x-public", "1")]);
        check(426, &fields, &[("x-public", "1")]);
    }

    #[test]
    fn pingora_looks_for_the_fields_of_a_request_where_there_is_one() {
        let policy = |names: &[&'static str]| {
            let fields = names
                .iter()
                .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x")));
            request_policy(&fields.collect())
        };
        let none = ["accept", "authorization", "content-length", "host", "x-te"];
        assert_eq!(policy(&none), HttpUpstreamRequestPolicy::preserve());
        // Those that Pingora 0.9.1 takes out (`strip_standard_hop_by_hop_headers`).
        for name in [
            "connection",
            "http2-settings",
            "keep-alive",
            "proxy-authenticate",
            "proxy-authorization",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ] {
            assert_eq!(
                policy(&["host", name]),
                HttpUpstreamRequestPolicy::standard(),
                "{name}"
            );
        }
    }

    #[test]
    fn what_connection_names_goes_but_for_what_frames_the_body() {
        let fields = [
            ("Connection", "keep-alive, X-One,x-TWO ,, bad name"),
            ("Connection", "close, content-length, Transfer-Encoding"),
            ("X-One", "1"),
            ("X-Two", "2"),
            ("X-Three", "3"),
            ("Content-Length", "5"),
        ];
        check(200, &fields, &[("content-length", "5"), ("x-three", "3")]);
    }

    #[test]
    fn a_switch_of_protocols_keeps_its_upgrade() {
        let fields = [
            ("Connection", "Upgrade, X-Hop"),
            ("Upgrade", "websocket"),
            ("X-Hop", "1"),
            ("Sec-WebSocket-Accept", "a"),
        ];
        let left = [
            ("connection", "Upgrade"),
            ("sec-websocket-accept", "a"),
            ("upgrade", "websocket"),
        ];
        check(101, &fields, &left);
    }
}
