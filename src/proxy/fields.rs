//! The fields of a header, to be changed.
//!
//! Pingora keeps a second map beside the fields, of their names as they were written, and every change
//! through it reads the name anew and is made in both. Names are case-insensitive (RFC 9110 §5.1), HTTP/2
//! has them in lower case only, and HAProxy and Envoy forward them so: here a header loses the second map,
//! and its fields are changed where they are. That is a tenth of a small request.

use http::request::Parts as RequestParts;
use http::response::Parts as ResponseParts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Version};
use pingora_http::{RequestHeader, ResponseHeader};

/// Changes the fields of a request. All else stays, but for the case of the names.
pub fn change_request<T>(request: &mut RequestHeader, change: impl FnOnce(&mut HeaderMap) -> T) -> T {
    let target = target_beside_uri(request).map(<[u8]>::to_vec);
    let empty = RequestHeader::from(Request::new(()).into_parts().0);
    let mut parts = RequestParts::from(std::mem::replace(request, empty));
    let result = change(&mut parts.headers);
    *request = RequestHeader::from(parts);
    if let Some(target) = target {
        // It was this request's target before.
        let _ = request.set_raw_path(&target);
    }
    result
}

/// Changes the fields of an answer. All else stays, but for the case of the names.
pub fn change_response<T>(response: &mut ResponseHeader, change: impl FnOnce(&mut HeaderMap) -> T) -> T {
    let phrase = response.get_reason_phrase();
    let own_phrase = phrase.filter(|_| phrase != response.status.canonical_reason());
    let own_phrase = own_phrase.map(str::to_owned);
    let empty = ResponseHeader::from(Response::new(()).into_parts().0);
    let mut parts = ResponseParts::from(std::mem::replace(response, empty));
    let result = change(&mut parts.headers);
    *response = ResponseHeader::from(parts);
    if own_phrase.is_some() {
        // It was this answer's phrase before.
        let _ = response.set_reason_phrase(own_phrase.as_deref());
    }
    result
}

/// Sets a field: in place of all of that name. Never inlined: a dozen copies of the search in the map, each run once for
/// a request, cost more to fetch than calls do.
#[inline(never)]
pub fn set(fields: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    fields.insert(name, value);
}

/// Sets a field, or takes it out where it has no value.
#[inline(never)]
pub fn set_or_remove(fields: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => fields.insert(name, value),
        None => fields.remove(name),
    };
}

/// Returns the target where Pingora keeps it beside the URI, which cannot hold it as it was sent.
fn target_beside_uri(request: &RequestHeader) -> Option<&[u8]> {
    let target = request.raw_path();
    let is_in_uri =
        request.version == Version::HTTP_2 || target.first() == Some(&b'/') && request.raw_path_is_utf8();
    (!is_in_uri).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{ETAG, HOST};

    #[test]
    fn a_request_keeps_all_but_the_case_of_names() {
        for target in [
            &b"/"[..],
            b"/a/b?c=%20d",
            b"/\xff\xfe",
            b"*",
            b"http://shop.example/a?b",
            b"?",
        ] {
            let mut request = RequestHeader::build("PURGE", target, None).unwrap();
            request.set_version(Version::HTTP_10);
            request.append_header("X-Two", "1").unwrap();
            request.append_header("x-tWO", "2").unwrap();
            let (uri, is_utf8) = (request.uri.clone(), request.raw_path_is_utf8());
            let count = change_request(&mut request, |fields| {
                fields.insert(HOST, HeaderValue::from_static("shop.example"));
                fields.len()
            });
            assert_eq!(count, 3);
            assert_eq!(request.raw_path(), target);
            assert_eq!((&request.uri, request.raw_path_is_utf8()), (&uri, is_utf8));
            assert_eq!(
                (request.method.as_str(), request.version),
                ("PURGE", Version::HTTP_10)
            );
            let mut wire = Vec::new();
            request.header_to_h1_wire(&mut wire);
            assert_eq!(wire, b"x-two: 1\r\nx-two: 2\r\nHost: shop.example\r\n");
        }
    }

    #[test]
    fn a_target_of_http_2_stays_in_its_uri() {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.version = Version::HTTP_2;
        parts.uri = "https://shop.example/a?b".parse().unwrap();
        let mut request = RequestHeader::from(parts);
        change_request(&mut request, HeaderMap::clear);
        assert_eq!(request.uri, "https://shop.example/a?b");
        assert_eq!(request.raw_path(), b"/a?b");
    }

    #[test]
    fn an_answer_keeps_its_phrase() {
        for phrase in ["Not Found", "Nothing here", ""] {
            let mut response = ResponseHeader::build(404, None).unwrap();
            response.set_reason_phrase(Some(phrase)).unwrap();
            response.append_header("ETag", "\"a\"").unwrap();
            change_response(&mut response, |fields| {
                fields.insert(ETAG, HeaderValue::from_static("\"b\""))
            });
            assert_eq!(response.get_reason_phrase(), Some(phrase));
            assert_eq!(response.status.as_u16(), 404);
            let mut wire = Vec::new();
            response.header_to_h1_wire(&mut wire);
            assert_eq!(wire, b"etag: \"b\"\r\n");
        }
    }
}
