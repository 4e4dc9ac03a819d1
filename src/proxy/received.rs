//! A request as it came: what only its bytes tell, and what is put straight before anybody reads it.

use http::header::{EXPECT, HOST};
use http::{StatusCode, Version};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::field_names::treat_underscores;
use super::framing::collapse_content_length;
use super::respond::{Answer, message_of};
use super::target::split_absolute;
use crate::model::UnderscoresInHeaders;

const BAD_REQUEST: Answer = Answer::closing(StatusCode::BAD_REQUEST, message_of(StatusCode::BAD_REQUEST));

/// Puts a request straight and returns the answer where it cannot be: everything after this reads one
/// length, one host and no field that stands for another. One scan for line ends, and nothing to write
/// for a plain request.
pub fn take_request(session: &mut Session, underscores: UnderscoresInHeaders) -> Option<Answer> {
    let http1 = session.as_downstream().as_http1();
    if http1.is_some_and(|http1| !is_strict_header(&http1.get_headers_raw_bytes())) {
        return Some(BAD_REQUEST);
    }
    let request = session.req_header_mut();
    collapse_content_length(request);
    if request.version == Version::HTTP_10 {
        read_as_http_1_0(request);
    }
    treat_underscores(request, underscores)
}

/// Says whether every line of a header ends in CRLF and the request line holds no fragment.
///
/// RFC 9112 §2.2 lets a recipient take a lone LF as the end of a line, and Pingora does. A proxy in front
/// that does not sees one field where this one sees two, the second of which may frame the body. Pingora
/// drops a fragment, which is no part of a request target: RFC 9112 §3.2 asks to refuse such a line rather
/// than mend it.
fn is_strict_header(header: &[u8]) -> bool {
    let is_crlf = |at: usize| at > 0 && header[at - 1] == b'\r';
    let start = header
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'))
        .unwrap_or(0);
    let line = memchr::memchr(b'\n', &header[start..]).map_or(header, |end| &header[start..start + end]);
    // A method may hold a number sign too, as any token.
    let target = line
        .iter()
        .position(|byte| *byte == b' ')
        .map_or(line, |at| &line[at..]);
    memchr::memchr_iter(b'\n', header).all(is_crlf) && memchr::memchr(b'#', target).is_none()
}

/// What a client of HTTP/1.0 means: the host of an absolute target counts where it sends no field for it,
/// and `Expect: 100-continue`, which it cannot, is ignored (RFC 9110 §10.1.1).
fn read_as_http_1_0(request: &mut RequestHeader) {
    let is_continue = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if request.headers.get(EXPECT).is_some_and(is_continue) {
        request.remove_header(&EXPECT);
    }
    if !request.headers.contains_key(HOST)
        && let Some((authority, _)) = split_absolute(request.raw_path())
        && let Ok(host) = http::HeaderValue::from_bytes(authority)
    {
        // A value that is one already cannot be refused.
        let _ = request.insert_header(HOST, host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_in_crlf_and_the_first_has_no_fragment() {
        for (header, is_strict) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nX: #\r\n\r\n", true),
            ("G#T / HTTP/1.1\r\nX: a\r\n\r\n", true),
            ("GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", false),
            ("GET /?a#b HTTP/1.1\r\n\r\n", false),
            ("\r\nGET /#a HTTP/1.1\r\nHost: a\r\n\r\n", false),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", false),
            ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
        ] {
            assert_eq!(is_strict_header(header.as_bytes()), is_strict, "{header:?}");
        }
    }

    #[test]
    fn http_1_0_is_read_as_it_was_meant() {
        for (target, host, expected) in [
            ("http://a.example:80/x", None, Some("a.example:80")),
            ("http://a.example/x", Some("a.example"), Some("a.example")),
            ("/x", None, None),
        ] {
            let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
            request.insert_header("Expect", "100-Continue").unwrap();
            if let Some(host) = host {
                request.insert_header(HOST, host).unwrap();
            }
            read_as_http_1_0(&mut request);
            let found = request.headers.get(HOST).map(|host| host.to_str().unwrap());
            assert_eq!(found, expected, "{target}");
            assert!(!request.headers.contains_key(EXPECT));
        }
    }
}
