//! The request target: which of its four forms there may be, and of which bytes (RFC 9112 §3.2).
//!
//! A raw blank or control character never comes here, since the connection refuses such a line, and nor does
//! a fragment, which Pingora drops and `received.rs` refuses by the bytes. A path may not hold an encoded
//! control character either: an origin that decodes it before it writes a field or a log line is split by it.

use http::Method;

/// Says whether a target has a form that its method may have, and no byte that it may not.
///
/// `CONNECT` and its authority-form never come here: Pingora answers them. In a path every `%` begins an
/// encoding, and none is of a control character. A query is the application's own: a lone `%` is common
/// in what people type, and bytes of any value in what programs send. One pass, no allocation.
pub fn is_request_target(method: &Method, target: &[u8]) -> bool {
    match target {
        b"*" => method == Method::OPTIONS,
        [b'/', ..] => is_path_and_query(target),
        _ => match split_absolute(target) {
            // Empty, or a query only: both stand for the path `/`.
            Some((_, rest @ ([] | [b'/' | b'?', ..]))) => is_path_and_query(rest),
            _ => false,
        },
    }
}

/// Splits `http://authority/path` into the authority and what follows it; `None` for another form.
pub fn split_absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let after = |scheme: &[u8]| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let rest = after(b"http://").or_else(|| after(b"https://"))?;
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'))
        .unwrap_or(rest.len());
    Some(rest.split_at(end))
}

fn is_path_and_query(target: &[u8]) -> bool {
    let mut rest = target;
    loop {
        rest = match rest {
            [] => return true,
            [b'?', query @ ..] => return query.iter().all(is_visible),
            [b'%', high, low, rest @ ..] if is_visible_encoding(*high, *low) => rest,
            [byte, rest @ ..] if *byte != b'%' && is_visible(byte) => rest,
            _ => return false,
        }
    }
}

/// A byte that may stand in a target. Browsers send some that RFC 3986 wants encoded, such as `|`.
fn is_visible(byte: &u8) -> bool {
    byte.is_ascii_graphic() && *byte != b'#'
}

/// Two digits that do not stand for a control character.
fn is_visible_encoding(high: u8, low: u8) -> bool {
    let is_control = matches!(high, b'0' | b'1') || high == b'7' && matches!(low, b'f' | b'F');
    high.is_ascii_hexdigit() && low.is_ascii_hexdigit() && !is_control
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(method: &str, target: &str, expected: bool) {
        let method = method.parse().unwrap();
        let found = is_request_target(&method, target.as_bytes());
        assert_eq!(found, expected, "{method} {target:?}");
    }

    #[test]
    fn each_form_has_its_methods() {
        for (method, target, expected) in [
            ("GET", "/", true),
            ("GET", "/a/b?c=d", true),
            ("GET", "//a", true),
            ("OPTIONS", "*", true),
            ("OPTIONS", "/", true),
            ("GET", "*", false),
            ("OPTIONS", "**", false),
            ("OPTIONS", "*/", false),
            ("GET", "http://a", true),
            ("GET", "HTTP://a/", true),
            ("GET", "https://a:443/b?c", true),
            ("GET", "http://a?c", true),
            ("GET", "ftp://a/", false),
            ("GET", "http:/a", false),
            ("GET", "http:a", false),
            ("GET", "a:80", false),
            ("GET", "a.example", false),
            ("GET", "a/b", false),
            ("GET", "?a", false),
            ("GET", "\\a", false),
            ("GET", "%2fa", false),
            ("GET", "", false),
        ] {
            check(method, target, expected);
        }
    }

    #[test]
    fn no_byte_passes_that_somebody_may_read_otherwise() {
        for target in [
            "/\u{1}",
            "/ ",
            "/a b",
            "/\u{7f}",
            "/\t",
            "/ü",
            "/a#b",
            "/?a#b",
            "/?\u{1f}",
            "/?ü",
            "http://a/ü",
        ] {
            check("GET", target, false);
        }
        for target in [
            "/a|b",
            "/{a}",
            "/a^b",
            "/?q=\"x\"",
            "/a;b=c,d",
            "/:a@b",
            "/~",
            "/?a?b",
            "/?http://b",
        ] {
            check("GET", target, true);
        }
    }

    #[test]
    fn encodings_in_a_path_are_whole_and_of_no_control_character() {
        for path in [
            "/%",
            "/%4",
            "/%zz",
            "/a%2",
            "/%%41",
            "/%00",
            "/a%0d%0ab",
            "/%1F",
            "/%7f",
            "/%7F",
            "http://a/%00",
        ] {
            check("GET", path, false);
        }
        for path in ["/%20", "/%2f", "/%2F", "/%C3%BC", "/%7e", "/%80", "/%25"] {
            check("GET", path, true);
        }
        for query in ["/?%", "/?q=100%", "/?%00", "/?a=%0d%0a", "/?%zz"] {
            check("GET", query, true);
        }
    }

    proptest! {
        #[test]
        fn what_passes_is_visible_and_has_no_fragment(target in prop::collection::vec(any::<u8>(), 0..40)) {
            if is_request_target(&Method::GET, &target) {
                prop_assert!(target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#'));
            }
        }

        #[test]
        fn a_path_of_unreserved_characters_passes(path in "(/[A-Za-z0-9._~-]{0,8}){1,5}") {
            prop_assert!(is_request_target(&Method::GET, path.as_bytes()));
        }
    }
}
