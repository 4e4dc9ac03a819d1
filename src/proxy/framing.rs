//! How a message says where its body ends: `Content-Length` and `Transfer-Encoding` (RFC 9112 §6).
//!
//! Two readers that disagree about it see different requests on one connection, so a message that could
//! be read in two ways is refused, whichever way is right. Pingora has its part: it refuses lengths that
//! differ or are no number, and a request whose last coding is not `chunked`; where both fields are there
//! it takes `Content-Length` out before any hook sees it, and closes a client's connection afterwards.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode, Version};
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use super::respond::{Answer, message_of};

const BAD_REQUEST: Answer = Answer::closing(StatusCode::BAD_REQUEST, message_of(StatusCode::BAD_REQUEST));
const NOT_IMPLEMENTED: Answer = Answer::closing(
    StatusCode::NOT_IMPLEMENTED,
    message_of(StatusCode::NOT_IMPLEMENTED),
);

/// Longest body that may be announced: many an origin counts in 64 bits with a sign.
const MAX_LENGTH: u64 = i64::MAX as u64;

/// What `Content-Length` amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    /// There is none.
    Absent,
    /// One field of one number, written as everybody writes it.
    Plain(u64),
    /// The same number several times over, or with leading zeros (RFC 9110 §8.6).
    Repeated(u64),
    /// No number, different ones, or one that is too large.
    Invalid,
}

/// Reads every `Content-Length`. No allocation.
fn length_of(headers: &HeaderMap) -> Length {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = values.next() else {
        return Length::Absent;
    };
    if let Some(number) = parse_plain(first.as_bytes())
        && values.next().is_none()
    {
        return Length::Plain(number);
    }
    let items = headers
        .get_all(CONTENT_LENGTH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut common = None;
    for item in items {
        match (parse_number(item.trim_ascii()), common) {
            (Some(number), None) => common = Some(number),
            (Some(number), Some(before)) if number == before => {}
            _ => return Length::Invalid,
        }
    }
    common.map_or(Length::Invalid, Length::Repeated)
}

/// A number without leading zeros.
fn parse_plain(text: &[u8]) -> Option<u64> {
    let is_plain = text == b"0" || text.first() != Some(&b'0');
    parse_number(text).filter(|_| is_plain)
}

/// Digits and nothing else, not even the sign that `parse` takes.
fn parse_number(text: &[u8]) -> Option<u64> {
    let number = text.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })?;
    (!text.is_empty() && number <= MAX_LENGTH).then_some(number)
}

/// Says whether `chunked` is the one and only coding.
fn is_chunked_only(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = codings
        .next()
        .is_some_and(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    is_chunked && codings.next().is_none()
}

/// Says whether a coding beside `chunked` is named.
fn has_other_coding(headers: &HeaderMap) -> bool {
    headers
        .get_all(TRANSFER_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"chunked"))
}

/// Writes a length that is repeated once (RFC 9110 §8.6 forbids to forward it otherwise). Nothing to do
/// for a plain request but to look.
pub fn collapse_content_length(request: &mut RequestHeader) {
    if let Length::Repeated(length) = length_of(&request.headers) {
        // Writing a number cannot fail.
        let _ = request.insert_header(CONTENT_LENGTH, length);
    }
}

/// Returns the answer to a request whose body could be read in two ways: 400, or 501 where it has a
/// coding besides `chunked`, of which this gateway undoes none (RFC 9112 §6.1).
pub fn check_request_framing(request: &RequestHeader) -> Option<Answer> {
    let headers = &request.headers;
    if headers.contains_key(TRANSFER_ENCODING) && !is_chunked_only(headers) {
        return Some(match has_other_coding(headers) {
            true => NOT_IMPLEMENTED,
            false => BAD_REQUEST,
        });
    }
    (length_of(headers) == Length::Invalid).then_some(BAD_REQUEST)
}

/// Refuses an origin's answer whose body could be read in two ways, and writes its length once.
///
/// # Errors
///
/// `InvalidHTTPHeader` of the Upstream, which a client sees as 502: a coding other than `chunked`, any
/// coding in HTTP/1.0, a length that is none, and a body announced for a status that has none. The last
/// would be left on the connection and be read as the answer to whoever comes next.
pub fn check_response_framing(response: &mut ResponseHeader) -> Result<()> {
    let invalid = |why: &'static str| Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
    let has_coding = response.headers.contains_key(TRANSFER_ENCODING);
    if has_coding && !is_chunked_only(&response.headers) {
        return invalid("a transfer coding other than chunked");
    }
    if has_coding && response.version < Version::HTTP_11 {
        return invalid("a transfer coding in HTTP/1.0");
    }
    let length = length_of(&response.headers);
    if length == Length::Invalid {
        return invalid("a Content-Length that is none");
    }
    let has_no_body = response.status == StatusCode::NO_CONTENT || response.status.is_informational();
    if has_no_body {
        if has_coding || !matches!(length, Length::Absent | Length::Plain(0) | Length::Repeated(0)) {
            return invalid("a body with a status that has none");
        }
        // RFC 9110 §8.6: not even of length 0.
        response.remove_header(&CONTENT_LENGTH);
    } else if let Length::Repeated(length) = length {
        response.insert_header(CONTENT_LENGTH, length)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn one_length_is_meant_or_none() {
        for (values, length) in [
            (&[][..], Length::Absent),
            (&["0"], Length::Plain(0)),
            (&["5"], Length::Plain(5)),
            (&["9223372036854775807"], Length::Plain(MAX_LENGTH)),
            (&["5, 5"], Length::Repeated(5)),
            (&["5,5 ,\t5"], Length::Repeated(5)),
            (&["5", "5"], Length::Repeated(5)),
            (&["5", "5, 5"], Length::Repeated(5)),
            (&["05"], Length::Repeated(5)),
            (&["00"], Length::Repeated(0)),
            (&[""], Length::Invalid),
            (&["5,"], Length::Invalid),
            (&[",5"], Length::Invalid),
            (&["5, 6"], Length::Invalid),
            (&["5", "6"], Length::Invalid),
            (&["+5"], Length::Invalid),
            (&["-5"], Length::Invalid),
            (&["5 5"], Length::Invalid),
            (&["0x5"], Length::Invalid),
            (&["5.0"], Length::Invalid),
            (&["5;"], Length::Invalid),
            (&["9223372036854775808"], Length::Invalid),
            (&["18446744073709551616"], Length::Invalid),
            (&["99999999999999999999999"], Length::Invalid),
        ] {
            let fields: Vec<_> = values.iter().map(|value| ("content-length", *value)).collect();
            assert_eq!(length_of(&headers(&fields)), length, "{values:?}");
        }
    }

    #[test]
    fn a_request_may_be_chunked_and_nothing_else() {
        for (codings, status) in [
            (&["chunked"][..], None),
            (&["Chunked"], None),
            (&["chunked", "chunked"], Some(400)),
            (&["chunked, chunked"], Some(400)),
            (&[", chunked"], Some(400)),
            (&["gzip, chunked"], Some(501)),
            (&["gzip", "chunked"], Some(501)),
            (&["identity, chunked"], Some(501)),
        ] {
            let mut request = RequestHeader::build("POST", b"/", None).unwrap();
            for coding in codings {
                request.append_header("transfer-encoding", *coding).unwrap();
            }
            let answer = check_request_framing(&request);
            assert_eq!(answer.map(|answer| answer.status.as_u16()), status, "{codings:?}");
        }
    }

    fn check_response(
        status: u16,
        version: Version,
        fields: &[(&'static str, &str)],
        length: Option<Option<&str>>,
    ) {
        let mut response = ResponseHeader::build(status, None).unwrap();
        response.set_version(version);
        for (name, value) in fields {
            response.append_header(*name, *value).unwrap();
        }
        let found = check_response_framing(&mut response).ok().map(|()| {
            let values: Vec<_> = response.headers.get_all("content-length").iter().collect();
            assert!(values.len() < 2, "{values:?}");
            values.first().map(|value| value.to_str().unwrap().to_owned())
        });
        let expected = length.map(|length| length.map(str::to_owned));
        assert_eq!(found, expected, "{status} {version:?} {fields:?}");
    }

    #[test]
    fn an_answer_ends_in_one_way_or_is_refused() {
        let (old, new) = (Version::HTTP_10, Version::HTTP_11);
        let (length, coding) = ("content-length", "transfer-encoding");
        check_response(200, new, &[], Some(None));
        check_response(200, new, &[(length, "5")], Some(Some("5")));
        check_response(200, new, &[(length, "5"), (length, "5")], Some(Some("5")));
        check_response(200, new, &[(length, "05, 5")], Some(Some("5")));
        check_response(200, new, &[(length, "5"), (length, "6")], None);
        check_response(200, new, &[(length, "-5")], None);
        check_response(200, new, &[(coding, "chunked")], Some(None));
        check_response(200, new, &[(coding, "gzip, chunked")], None);
        check_response(200, new, &[(coding, "chunked"), (coding, "chunked")], None);
        check_response(200, new, &[(coding, "gzip")], None);
        check_response(200, old, &[(coding, "chunked")], None);
        check_response(200, old, &[(length, "5")], Some(Some("5")));
    }

    #[test]
    fn a_status_without_a_body_announces_none() {
        let new = Version::HTTP_11;
        for status in [103, 204] {
            check_response(status, new, &[], Some(None));
            check_response(status, new, &[("content-length", "0")], Some(None));
            check_response(status, new, &[("content-length", "5")], None);
            check_response(status, new, &[("transfer-encoding", "chunked")], None);
        }
        // These tell of the body that another answer would have (RFC 9110 §15.4.5).
        check_response(304, new, &[("content-length", "5")], Some(Some("5")));
        check_response(304, new, &[("transfer-encoding", "chunked")], Some(None));
    }
}
