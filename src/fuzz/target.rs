//! The target that a request asks for.

use http::Method;
use pingora_http::RequestHeader;

use crate::proxy::authority::is_authority;
use crate::proxy::path::normalize;
use crate::proxy::target::{is_request_target, split_absolute};

/// What is taken for a target has one of the forms of RFC 9112 §3.2 and no byte or encoding that ends a line or a
/// field; what is parsed and written of it is the same target again.
pub fn target(data: &[u8]) {
    for method in [Method::GET, Method::OPTIONS] {
        let is_target = is_request_target(&method, data);
        assert_eq!(is_target, read(&method, data), "{method} {}", data.escape_ascii());
        if is_target && data != b"*" {
            follow(data);
        }
    }
}

/// Follows a target through the parser to the path that Routes see.
fn follow(target: &[u8]) {
    let shown = target.escape_ascii();
    let (authority, rest) = split_absolute(target).unwrap_or((b"", target));
    assert!(target.ends_with(rest), "{shown}");
    // An authority that is none, which is refused next, may be no target to the parser.
    let is_origin_form = authority.is_empty() && target.starts_with(b"/");
    if !is_origin_form && !is_authority(authority) {
        return;
    }
    // The parser wants some bytes encoded, such as `<`, and refuses what is not.
    let Ok(request) = RequestHeader::build("GET", target, None) else {
        return;
    };
    assert_eq!(request.raw_path(), target, "{shown} is written as another");
    let path = request.uri.path();
    assert!(path.starts_with('/'), "{shown} has the path {path}");
    let normal = normalize(path);
    for control in ["%00", "%0A", "%0D", "%1F", "%7F"] {
        assert!(!normal.contains(control), "{shown} became {normal}");
    }
    assert!(
        is_request_target(&Method::GET, normal.as_bytes()),
        "{shown} became {normal}"
    );
}

/// Reads a target with one rule after the other.
fn read(method: &Method, bytes: &[u8]) -> bool {
    let text = &*String::from_utf8_lossy(bytes);
    if text == "*" {
        return *method == Method::OPTIONS;
    }
    let lower = text.to_ascii_lowercase();
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| lower.starts_with(scheme));
    let path = match scheme {
        None if !text.starts_with('/') => return false,
        None => text,
        Some(scheme) => {
            let rest = &text[scheme.len()..];
            &rest[rest.find(['/', '?', '#']).unwrap_or(rest.len())..]
        }
    };
    // What an authority may be is another's care.
    if path.chars().any(|char| !char.is_ascii_graphic() || char == '#') {
        return false;
    }
    let path = path.split('?').next().unwrap_or_default();
    path.split('%').skip(1).all(|rest| {
        let byte = rest.get(..2).filter(|digits| !digits.starts_with('+'));
        let byte = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        byte.is_some_and(|byte| !byte.is_ascii_control())
    })
}
