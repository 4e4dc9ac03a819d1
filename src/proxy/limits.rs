//! Sizes a request may have. What is over a limit is answered, not forwarded.

use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{StatusCode, Version};
use pingora_error::{Error, ErrorSource, ErrorType};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::context::Context;
use super::respond::{Answer, message_of};
use super::route::is_grpc;
use crate::clock;
use crate::model::Limits;
use crate::snapshot::Settings;

/// The answer to a body over the limit; what is left of it is not read.
const BODY_TOO_LARGE: Answer = Answer::closing(
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

/// Returns the longest pause that a client may make in its body. None is too long in gRPC, whose messages
/// come when there is something to say.
pub fn body_pause(request: &RequestHeader, settings: &Settings) -> Option<Duration> {
    let is_conversation = is_grpc(request) && request.version == Version::HTTP_2;
    (!is_conversation).then_some(settings.timeouts.body_idle)
}

/// What Pingora's timers may be early by: they are exact to 10 ms.
const TIMER_SLACK: Duration = Duration::from_millis(20);

/// Says whether an origin seems slow only because its client has stopped within the body: nothing of it has
/// come for as long as the origin had to answer. `body_idle` ends such a request where it is the shorter one.
pub fn is_clients_pause(error: &Error, session: &mut Session, ctx: &Context) -> bool {
    let is_slow = *error.esource() == ErrorSource::Upstream && *error.etype() == ErrorType::ReadTimedout;
    if !is_slow || ctx.upstream_status.is_some() || is_grpc(session.req_header()) {
        return false;
    }
    let limit = ctx.service().map(|service| service.timeouts.read);
    let (Some(limit), Some(since)) = (limit, ctx.body_moved.max(ctx.try_started)) else {
        return false;
    };
    !session.as_downstream_mut().is_body_done() && clock::monotonic() - since + TIMER_SLACK >= limit
}

/// When a body's rate is first judged: a client may take its time to begin.
const RATE_GRACE: Duration = Duration::from_secs(10);

/// Returns the status to end a request with whose body, as far as it has come, is over a limit.
///
/// The rate counts until the Target answers: from then on the two may be in a conversation. It is judged
/// when bytes come, while one that sends none at all meets `body_idle`; and gRPC, whose messages come when
/// there is something to say, is exempt.
pub fn check_body(request: &RequestHeader, is_last: bool, ctx: &Context) -> Option<StatusCode> {
    let limits = &ctx.snapshot.settings.limits;
    if limits.body_bytes.is_some_and(|limit| ctx.body_bytes > limit) {
        return Some(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let is_judged = limits.body_rate > 0 && !is_last && ctx.header_received.is_none();
    if !is_judged || is_fast_enough(limits.body_rate, ctx.body_bytes, clock::monotonic() - ctx.started) {
        return None;
    }
    (!is_grpc(request)).then_some(StatusCode::REQUEST_TIMEOUT)
}

fn is_fast_enough(rate: u64, bytes: u64, took: Duration) -> bool {
    took < RATE_GRACE || bytes >= rate.saturating_mul(took.as_secs())
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
            ..Limits::default()
        };
        let mut request = RequestHeader::build("POST", path.as_bytes(), None).unwrap();
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        let found = check_limits(&request, &limits).map(|answer| answer.status.as_u16());
        assert_eq!(found, answer, "{path} {headers:?}");
    }

    #[test]
    fn a_rate_is_judged_from_the_tenth_second_on() {
        let second = Duration::from_secs(1);
        for (bytes, seconds, is_fast) in [
            (0, 9, true),
            (2399, 10, false),
            (2400, 10, true),
            (2639, 11, false),
        ] {
            assert_eq!(
                is_fast_enough(240, bytes, second * seconds),
                is_fast,
                "{bytes} in {seconds} s"
            );
        }
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
