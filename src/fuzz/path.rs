//! Paths in normal form, and what goes upstream.

use std::borrow::Cow;

use http::Method;

use crate::model::PathHandling;
use crate::proxy::path::{join, normalize};
use crate::proxy::target::is_request_target;

/// A path in normal form leads nowhere but down, is not longer than it was, is what a plain reading of RFC 3986
/// makes of it, and stays as it is; joined with a Service's path it does not lead out of that.
pub fn path(data: &[u8]) {
    let Ok(path) = std::str::from_utf8(data) else {
        return;
    };
    // That is where a path ends.
    if path.contains('?') {
        return;
    }
    let normal = normalize(path);
    assert_eq!(normal, plain_normal(path), "{path:?}");
    assert!(normal.starts_with('/'), "{path:?} became {normal:?}");
    assert!(!normal.contains("//"), "{path:?} became {normal:?}");
    assert!(normal.len() <= path.len() + 1, "{path:?} became {normal:?}");
    assert_no_dot_segment(&normal, path);
    if let Cow::Borrowed(same) = normal {
        assert_eq!(same, path);
    }
    // In another path an encoding may show once the one within it is decoded; such a request is refused.
    if path.starts_with('/') && is_request_target(&Method::GET, data) {
        for encoded in normal.split('%').skip(1) {
            let digits = &encoded[..2];
            let byte = u8::from_str_radix(digits, 16).expect("two digits");
            assert_eq!(digits, digits.to_ascii_uppercase(), "{path:?} became {normal:?}");
            assert!(!is_unreserved(byte), "{path:?} became {normal:?}");
        }
        assert_eq!(normalize(&normal), normal, "{path:?}");
    }
    for handling in [PathHandling::V0, PathHandling::V1] {
        let cuts = (1..=normal.len()).filter(|at| normal.is_char_boundary(*at));
        for stripped in cuts.map(Some).chain([None]) {
            for base in ["/", "/base", "/base/"] {
                let joined = join(handling, base, &normal, stripped);
                let stem = base.trim_end_matches('/');
                let case = format!("{handling:?} {base} {normal:?} {stripped:?} became {joined:?}");
                assert!(joined.starts_with('/') && joined.starts_with(stem), "{case}");
                assert!(!joined.contains("//"), "{case}");
                assert_no_dot_segment(&joined, &case);
            }
        }
    }
}

fn assert_no_dot_segment(path: &str, case: &str) {
    let has_none = path.split('/').all(|segment| segment != "." && segment != "..");
    assert!(has_none, "{path:?} of {case:?}");
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Decodes and then walks the segments with a stack.
fn plain_normal(path: &str) -> String {
    let mut parts = path.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part
            .get(..2)
            .filter(|two| two.chars().all(|char| char.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) if is_unreserved(byte) => decoded.push(byte.into()),
            Some(byte) => decoded += &format!("%{byte:02X}"),
            None => decoded.push('%'),
        }
        decoded += &part[digits.map_or(0, str::len)..];
    }
    let mut stack = Vec::new();
    let segments: Vec<&str> = decoded.split('/').collect();
    for segment in &segments {
        match *segment {
            "" | "." => {}
            ".." => {
                stack.pop();
            }
            segment => stack.push(segment),
        }
    }
    let is_open = segments
        .last()
        .is_none_or(|last| matches!(*last, "" | "." | ".."));
    match (stack.is_empty(), is_open) {
        (true, _) => "/".to_owned(),
        (false, true) => format!("/{}/", stack.join("/")),
        (false, false) => format!("/{}", stack.join("/")),
    }
}
