//! Names of header fields with an underscore.
//!
//! CGI and everything built after it writes `X-Real-IP` and `X_Real_IP` as the one variable
//! `HTTP_X_REAL_IP`, so a client that sends the second could speak in the gateway's name. nginx drops
//! such fields, Envoy lets the operator choose between the three actions here.

use std::sync::LazyLock;

use http::StatusCode;
use http::header::HeaderName;
use pingora_http::RequestHeader;
use prometheus::IntCounter;

use super::respond::{Answer, message_of};
use crate::metrics::metrics;
use crate::model::UnderscoresInHeaders;

const BAD_REQUEST: Answer = Answer::closing(StatusCode::BAD_REQUEST, message_of(StatusCode::BAD_REQUEST));

static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| counter("drop"));
static REFUSED: LazyLock<IntCounter> = LazyLock::new(|| counter("refuse"));

fn counter(action: &str) -> IntCounter {
    metrics().underscored_headers.with_label_values(&[action])
}

/// Does with fields whose names have an underscore as the setting says; the answer if that is to refuse.
///
/// A look at each name, and no allocation where there is none such.
pub fn treat_underscores(request: &mut RequestHeader, action: UnderscoresInHeaders) -> Option<Answer> {
    let is_such = |name: &HeaderName| name.as_str().contains('_');
    if action == UnderscoresInHeaders::Keep || !request.headers.keys().any(is_such) {
        return None;
    }
    let count = request.headers.iter().filter(|(name, _)| is_such(name)).count() as u64;
    if action == UnderscoresInHeaders::Refuse {
        REFUSED.inc_by(count);
        return Some(BAD_REQUEST);
    }
    DROPPED.inc_by(count);
    let names: Vec<HeaderName> = request
        .headers
        .keys()
        .filter(|name| is_such(name))
        .cloned()
        .collect();
    for name in &names {
        request.remove_header(name);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(action: UnderscoresInHeaders, fields: &[&'static str], left: &[&str], status: Option<u16>) {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for name in fields {
            request.append_header(*name, "value").unwrap();
        }
        let answer = treat_underscores(&mut request, action);
        assert_eq!(answer.map(|answer| answer.status.as_u16()), status, "{fields:?}");
        let mut found: Vec<_> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, left, "{action:?} {fields:?}");
    }

    #[test]
    fn each_action_does_as_it_says() {
        let fields = ["X_Real_IP", "x-real-ip", "_", "a_b", "A_B", "accept"];
        check(
            UnderscoresInHeaders::Drop,
            &fields,
            &["accept", "x-real-ip"],
            None,
        );
        let all = ["_", "a_b", "a_b", "accept", "x-real-ip", "x_real_ip"];
        check(UnderscoresInHeaders::Keep, &fields, &all, None);
        check(UnderscoresInHeaders::Refuse, &fields, &all, Some(400));
    }

    #[test]
    fn a_request_without_any_is_left_alone() {
        for action in [
            UnderscoresInHeaders::Drop,
            UnderscoresInHeaders::Keep,
            UnderscoresInHeaders::Refuse,
        ] {
            check(action, &["x-a", "x-b"], &["x-a", "x-b"], None);
        }
    }
}
