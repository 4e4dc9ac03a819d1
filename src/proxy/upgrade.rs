//! Changing the protocol of a connection (RFC 9110 §7.8): WebSocket, and nothing else.
//!
//! After 101 the bytes of both sides pass unread, so both must mean the same by it. Pingora forwards
//! `Upgrade: websocket` of an HTTP/1.1 request and drops any other; where only one side asked, it refuses
//! the 101. What is added here: `Connection` must name the `Upgrade`, and the origin must say which protocol
//! it switches to.

use http::header::{CONNECTION, UPGRADE};
use http::{StatusCode, Version};
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};

const WEBSOCKET: &[u8] = b"websocket";

/// Takes an `Upgrade` out of the request for the origin unless the client nominated it, as RFC 9110 §7.8
/// demands: without that, a proxy in front may have passed it on unread.
pub fn forward_upgrade(received: &RequestHeader, request: &mut RequestHeader) {
    if request.headers.contains_key(UPGRADE) && !asks_for_websocket(received) {
        request.remove_header(&UPGRADE);
        request.remove_header(&CONNECTION);
    }
}

/// Insists that a 101 is the answer to what the client asked for.
///
/// # Errors
///
/// `InvalidHTTPHeader` of the Upstream, which the client sees as 502.
pub fn check_switch(received: &RequestHeader, response: &ResponseHeader) -> Result<()> {
    if response.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    let why = if !asks_for_websocket(received) {
        "101 without having been asked for it"
    } else if !is_websocket(response.headers.get_all(UPGRADE).iter()) {
        "101 to another protocol than asked for"
    } else {
        return Ok(());
    };
    Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up())
}

/// Says whether a client asks for a WebSocket, and does so in a way that no hop before could miss.
fn asks_for_websocket(request: &RequestHeader) -> bool {
    let options = request.headers.get_all(CONNECTION).iter();
    let mut options = options.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    request.version == Version::HTTP_11
        && is_websocket(request.headers.get_all(UPGRADE).iter())
        && options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// Says whether there is one `Upgrade`, of this protocol alone.
fn is_websocket<'a>(mut protocols: impl Iterator<Item = &'a http::HeaderValue>) -> bool {
    let is_it = |protocol: &http::HeaderValue| protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET);
    protocols.next().is_some_and(is_it) && protocols.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        request.set_version(version);
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    #[test]
    fn an_upgrade_is_asked_for_in_full_or_not_at_all() {
        let (upgrade, connection) = ("upgrade", "connection");
        for (version, fields, asks) in [
            (
                Version::HTTP_11,
                &[(upgrade, "websocket"), (connection, "upgrade")][..],
                true,
            ),
            (
                Version::HTTP_11,
                &[(upgrade, "WebSocket"), (connection, "keep-alive, Upgrade")],
                true,
            ),
            (
                Version::HTTP_11,
                &[
                    (upgrade, "websocket"),
                    (connection, "keep-alive"),
                    (connection, "upgrade"),
                ],
                true,
            ),
            (Version::HTTP_11, &[(upgrade, "websocket")], false),
            (
                Version::HTTP_11,
                &[(upgrade, "websocket"), (connection, "upgrades")],
                false,
            ),
            (Version::HTTP_11, &[(connection, "upgrade")], false),
            (
                Version::HTTP_11,
                &[(upgrade, "h2c"), (connection, "upgrade")],
                false,
            ),
            (
                Version::HTTP_11,
                &[(upgrade, "websocket, h2c"), (connection, "upgrade")],
                false,
            ),
            (
                Version::HTTP_11,
                &[(upgrade, "websocket"), (upgrade, "h2c"), (connection, "upgrade")],
                false,
            ),
            (
                Version::HTTP_10,
                &[(upgrade, "websocket"), (connection, "upgrade")],
                false,
            ),
        ] {
            let received = request(version, fields);
            assert_eq!(asks_for_websocket(&received), asks, "{version:?} {fields:?}");
            // Pingora leaves this where the client's `Upgrade` begins with a WebSocket.
            let mut forwarded = request(
                Version::HTTP_11,
                &[(upgrade, "websocket"), (connection, "Upgrade")],
            );
            forward_upgrade(&received, &mut forwarded);
            assert_eq!(forwarded.headers.contains_key(UPGRADE), asks, "{fields:?}");
            assert_eq!(forwarded.headers.contains_key(CONNECTION), asks, "{fields:?}");
        }
    }

    #[test]
    fn a_switch_is_to_what_was_asked_for() {
        let asking = request(
            Version::HTTP_11,
            &[("upgrade", "websocket"), ("connection", "upgrade")],
        );
        let plain = request(Version::HTTP_11, &[]);
        for (received, status, protocol, passes) in [
            (&asking, 101, Some("websocket"), true),
            (&asking, 101, Some("WebSocket"), true),
            (&asking, 101, Some("h2c"), false),
            (&asking, 101, None, false),
            (&asking, 200, None, true),
            (&asking, 426, Some("h2c"), true),
            (&plain, 101, Some("websocket"), false),
            (&plain, 100, None, true),
        ] {
            let mut response = ResponseHeader::build(status, None).unwrap();
            if let Some(protocol) = protocol {
                response.insert_header(UPGRADE, protocol).unwrap();
            }
            let found = check_switch(received, &response).is_ok();
            assert_eq!(found, passes, "{status} {protocol:?}");
        }
    }
}
