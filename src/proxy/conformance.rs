//! What a request must be to be served at all: everything of RFC 9110 and RFC 9112 that its header tells
//! and Pingora does not insist on.

use http::header::EXPECT;
use http::{HeaderMap, Method, StatusCode};
use pingora_http::RequestHeader;

use super::authority::names_its_host;
use super::framing::check_request_framing;
use super::own_hops::{MAX_OWN_HOPS, count_own_hops};
use super::respond::{Answer, message_of};
use super::target::is_request_target;

const BAD_REQUEST: Answer = Answer::closing(StatusCode::BAD_REQUEST, message_of(StatusCode::BAD_REQUEST));
const METHOD_NOT_ALLOWED: Answer = Answer::keeping(
    StatusCode::METHOD_NOT_ALLOWED,
    message_of(StatusCode::METHOD_NOT_ALLOWED),
);
const EXPECTATION_FAILED: Answer = Answer::keeping(
    StatusCode::EXPECTATION_FAILED,
    message_of(StatusCode::EXPECTATION_FAILED),
);
const LOOP_DETECTED: Answer =
    Answer::keeping(StatusCode::LOOP_DETECTED, message_of(StatusCode::LOOP_DETECTED));

/// Returns the answer to a request that is not served, whatever its Route. What is malformed costs the
/// connection: what follows on it cannot be trusted to be where it seems.
///
/// Looks five fields up; no allocation.
pub fn check_conformance(request: &RequestHeader) -> Option<Answer> {
    if !is_request_target(&request.method, request.raw_path()) || !names_its_host(request) {
        return Some(BAD_REQUEST);
    }
    if let Some(answer) = check_request_framing(request) {
        return Some(answer);
    }
    // It would send the fields that the gateway adds for the origin alone back to the client.
    if request.method == Method::TRACE {
        return Some(METHOD_NOT_ALLOWED);
    }
    if !expects_only_continue(&request.headers) {
        return Some(EXPECTATION_FAILED);
    }
    (count_own_hops(&request.headers) > MAX_OWN_HOPS).then_some(LOOP_DETECTED)
}

/// RFC 9110 §10.1.1: there is one expectation, and whoever has another is told that it is not met.
fn expects_only_continue(headers: &HeaderMap) -> bool {
    headers
        .get_all(EXPECT)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .all(|expectation| expectation.is_empty() || expectation.eq_ignore_ascii_case(b"100-continue"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, target: &str, fields: &[(&'static str, &str)], status: Option<u16>) {
        let mut request = RequestHeader::build(method, target.as_bytes(), None).unwrap();
        request.insert_header("host", "shop.example").unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        let found = check_conformance(&request).map(|answer| answer.status.as_u16());
        assert_eq!(found, status, "{method} {target} {fields:?}");
    }

    #[test]
    fn a_plain_request_passes() {
        check("GET", "/", &[], None);
        check("POST", "/a?b", &[("content-length", "5")], None);
        check("OPTIONS", "*", &[], None);
        check("PURGE", "/", &[], None);
    }

    #[test]
    fn each_fault_has_its_status() {
        check("GET", "*", &[], Some(400));
        check("GET", "/%00", &[], Some(400));
        check("GET", "/", &[("content-length", "x")], Some(400));
        check("GET", "/", &[("transfer-encoding", "gzip, chunked")], Some(501));
        check("TRACE", "/", &[], Some(405));
        check("TRACE", "/%00", &[], Some(400));
    }

    #[test]
    fn expectations_other_than_continue_are_not_met() {
        for (lines, status) in [
            (&["100-continue"][..], None),
            (&["100-Continue"], None),
            (&["100-continue, 100-continue"], None),
            (&[""], None),
            (&["200-ok"], Some(417)),
            (&["100-continue, x"], Some(417)),
            (&["100-continue", "x=y"], Some(417)),
            (&["100-continue;q=1"], Some(417)),
        ] {
            let fields: Vec<_> = lines.iter().map(|line| ("expect", *line)).collect();
            check("POST", "/", &fields, status);
        }
    }

    #[test]
    fn a_loop_ends_after_so_many_hops() {
        let hops = |count: usize| vec!["1.1 serin/0.1.0"; count].join(", ");
        check("GET", "/", &[("via", &hops(MAX_OWN_HOPS))], None);
        check("GET", "/", &[("via", &hops(MAX_OWN_HOPS + 1))], Some(508));
    }
}
