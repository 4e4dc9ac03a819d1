//! Paths: normal form before matching, and what goes upstream after it.

use std::borrow::Cow;

use crate::model::PathHandling;

/// Returns a path in normal form (RFC 3986 §6.2.2): percent-encodings in upper case, those of
/// unreserved characters decoded, dot segments removed; runs of slashes become one, as in Kong.
///
/// Borrows when the path is in normal form already, which costs one pass over its bytes.
pub fn normalize(path: &str) -> Cow<'_, str> {
    if is_normal(path.as_bytes()) {
        return Cow::Borrowed(path);
    }
    let decoded = decode_unreserved(path.as_bytes());
    Cow::Owned(remove_dot_segments(&decoded))
}

fn is_normal(path: &[u8]) -> bool {
    if path.first() != Some(&b'/') || path.contains(&b'%') {
        return false;
    }
    let mut rest = path;
    while let Some(at) = rest.iter().position(|byte| *byte == b'/') {
        rest = &rest[at + 1..];
        // An empty segment that is not the last, or one that begins with a dot, needs a closer look.
        if matches!(rest.first(), Some(b'/' | b'.')) {
            return false;
        }
    }
    true
}

fn decode_unreserved(path: &[u8]) -> String {
    let hex = |byte: Option<&u8>| {
        byte.and_then(|byte| char::from(*byte).to_digit(16))
            .map(|digit| digit as u8)
    };
    let mut decoded = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        match (path[at], hex(path.get(at + 1)), hex(path.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                let byte = high << 4 | low;
                if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                    decoded.push(byte);
                } else {
                    decoded.push(b'%');
                    decoded.extend(path[at + 1..at + 3].to_ascii_uppercase());
                }
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).expect("only ASCII was decoded from a string")
}

fn remove_dot_segments(path: &str) -> String {
    let mut normal = String::with_capacity(path.len());
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let last = segments.len() - 1;
    for (at, segment) in segments.into_iter().enumerate() {
        match segment {
            // Nothing follows the last slash, or a dot segment ends the path: the slash stays.
            "" | "." if at == last => normal.push('/'),
            "" | "." => {}
            ".." => {
                normal.truncate(normal.rfind('/').unwrap_or(0));
                if at == last {
                    normal.push('/');
                }
            }
            segment => {
                normal.push('/');
                normal.push_str(segment);
            }
        }
    }
    normal
}

/// Returns the path that goes upstream.
///
/// `base` is the Service's path (`/` when it has none), `path` the request's in normal form,
/// `stripped` how many bytes at its start the Route takes away (`None` when it keeps them).
pub fn join(handling: PathHandling, base: &str, path: &str, stripped: Option<usize>) -> String {
    match handling {
        PathHandling::V0 => join_segments(base, path, stripped),
        PathHandling::V1 => concatenate(base, path, stripped),
    }
}

/// Kong's `v0`: joined as segments, with exactly one slash between them.
fn join_segments(base: &str, path: &str, stripped: Option<usize>) -> String {
    let rest = without_dot_segment(&path[stripped.unwrap_or(1).min(path.len())..]);
    let (stem, base_ends_in_slash) = match base.strip_suffix('/') {
        Some(stem) => (stem, true),
        None => (base, false),
    };
    if !rest.is_empty() {
        return format!("{stem}/{}", rest.strip_prefix('/').unwrap_or(rest));
    }
    // Nothing is left of the request's path: its last slash decides about the last slash.
    let keeps_slash = path.ends_with('/') && (base_ends_in_slash || path.len() > 1);
    if keeps_slash || stem.is_empty() {
        format!("{stem}/")
    } else {
        stem.to_owned()
    }
}

/// Stripping can cut a segment such as `route..` down to `..`, which would lead out of the Service's
/// path; no other segment of a path in normal form can be one of dots. It is dropped, as Kong does.
fn without_dot_segment(rest: &str) -> &str {
    match rest.split_once('/') {
        Some(("." | "..", rest)) => rest,
        None if matches!(rest, "." | "..") => "",
        _ => rest,
    }
}

/// Kong's `v1`: concatenated, but never with two slashes where they meet.
fn concatenate(base: &str, path: &str, stripped: Option<usize>) -> String {
    match stripped {
        Some(bytes) => {
            let rest = without_dot_segment(&path[bytes.min(path.len())..]);
            match (base.ends_with('/'), rest.strip_prefix('/')) {
                (true, Some(rest)) => format!("{base}{rest}"),
                _ => format!("{base}{rest}"),
            }
        }
        None => format!("{base}{}", path.strip_prefix('/').unwrap_or(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_form_follows_rfc_3986() {
        for (path, normal) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//a///b//", "/a/b/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/../../a", "/a"),
            ("/..", "/"),
            ("/a/%2e%2E/b", "/b"),
            ("/%7Euser/%41", "/~user/A"),
            ("/a%2fb", "/a%2Fb"),
            ("/%zz/100%", "/%zz/100%"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/...", "/a/..."),
            ("/caf%c3%a9", "/caf%C3%A9"),
        ] {
            assert_eq!(normalize(path), normal, "{path}");
            assert_eq!(normalize(normal), normal, "{normal} is normal");
        }
    }

    /// Examples of Kong's manual: Service path, Route path, strip_path, request, upstream.
    #[test]
    fn v0_joins_as_kong_does() {
        for (base, route, strip, request, upstream) in [
            ("/", "/route", true, "/routereq", "/req"),
            ("/srv", "/rou", false, "/roureq", "/srv/roureq"),
            ("/srv", "/rou", true, "/roureq", "/srv/req"),
            ("/srv/", "/rou", true, "/rou", "/srv"),
            ("/service", "/", true, "/route/", "/service/route/"),
            ("/service", "/", false, "/route/", "/service/route/"),
            ("/service", "/route", true, "/route/", "/service/"),
            ("/service", "/route/", true, "/route/", "/service/"),
            ("/service/", "/route", true, "/route", "/service"),
            ("/", "/", true, "/", "/"),
            ("/", "/", false, "/", "/"),
            ("/srv/", "/", true, "/", "/srv/"),
            ("/srv/", "/", false, "/", "/srv/"),
            ("/srv", "/", false, "/", "/srv"),
        ] {
            let stripped = strip.then_some(route.len());
            assert_eq!(
                join_segments(base, request, stripped),
                upstream,
                "{base} {route} {strip} {request}"
            );
        }
        // A Route without paths strips nothing.
        assert_eq!(join_segments("/service", "/", None), "/service");
        assert_eq!(join_segments("/service", "/route", None), "/service/route");
    }

    #[test]
    fn v1_concatenates() {
        assert_eq!(concatenate("/srv", "/roureq", Some(4)), "/srvreq");
        assert_eq!(concatenate("/srv/", "/rou/req", Some(4)), "/srv/req");
        assert_eq!(concatenate("/srv", "/rou/req", Some(4)), "/srv/req");
        assert_eq!(concatenate("/srv", "/roureq", None), "/srvroureq");
        assert_eq!(concatenate("/srv/", "/roureq", None), "/srv/roureq");
    }

    proptest::proptest! {
        #[test]
        fn normal_form_is_stable_and_rooted(path in "/[a-c./%2eE]{0,24}") {
            let normal = normalize(&path).into_owned();
            proptest::prop_assert!(normal.starts_with('/'));
            proptest::prop_assert!(!normal.contains("//"));
            proptest::prop_assert_eq!(normalize(&normal).into_owned(), normal);
        }
    }
}
