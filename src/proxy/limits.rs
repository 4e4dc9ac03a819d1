//! Sizes a request may have. What is over a limit is answered, not forwarded.

use http::StatusCode;
use http::header::CONTENT_LENGTH;
use pingora_http::RequestHeader;

use super::respond::{Answer, message_of};
use crate::model::Limits;

/// The answer to a body over the limit; what is left of it is not read.
pub const BODY_TOO_LARGE: Answer = Answer::closing(
    StatusCode::PAYLOAD_TOO_LARGE,
    message_of(StatusCode::PAYLOAD_TOO_LARGE),
);
const URI_TOO_LONG: Answer = Answer::keeping(StatusCode::URI_TOO_LONG, message_of(StatusCode::URI_TOO_LONG));
const HEADER_TOO_LARGE: Answer = Answer::keeping(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    message_of(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
);

/// Returns the answer to a request whose header is over a limit.
pub fn check_limits(request: &RequestHeader, limits: &Limits) -> Option<Answer> {
    if request.raw_path().len() > limits.uri_bytes {
        return Some(URI_TOO_LONG);
    }
    let headers = &request.headers;
    let bytes = || {
        headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum::<usize>()
    };
    if headers.len() > limits.headers || bytes() > limits.header_bytes {
        return Some(HEADER_TOO_LARGE);
    }
    let limit = limits.body_bytes?;
    let announced: u64 = headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    (announced > limit).then_some(BODY_TOO_LARGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, headers: &[(&'static str, &str)], answer: Option<u16>) {
        let limits = Limits {
            header_bytes: 100,
            headers: 3,
            uri_bytes: 20,
            body_bytes: Some(10),
        };
        let mut request = RequestHeader::build("POST", path.as_bytes(), None).unwrap();
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        let found = check_limits(&request, &limits).map(|answer| answer.status.as_u16());
        assert_eq!(found, answer, "{path} {headers:?}");
    }

    #[test]
    fn each_limit_has_its_status() {
        check("/short", &[("a", "1"), ("b", "2"), ("c", "3")], None);
        check("/a-path-of-21-bytes-xx", &[], Some(414));
        check("/", &[("a", "1"), ("a", "2"), ("a", "3"), ("a", "4")], Some(431));
        check("/", &[("a", &"x".repeat(100))], Some(431));
        check("/", &[("content-length", "10")], None);
        check("/", &[("content-length", "11")], Some(413));
    }
}
