//! Paths of Services and Routes: Kong's rules for them, and the normal form.

use super::format::{Fault, Judged};

/// Judges the path of a Service.
pub(super) fn service_path(text: &str) -> Judged {
    if !text.starts_with('/') {
        return Err(Fault::new("should start with: /"));
    }
    if text.contains("//") {
        return Err(Fault::new("must not have empty segments").hint("write '/' once"));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~/%:@!$&'()*+,;=".contains(&byte);
    if !text.bytes().all(allowed) {
        return Err(Fault::new(format!(
            "invalid path: '{text}' (characters outside of the reserved list of RFC 3986 found)"
        ))
        .hint("percent-encode other characters, e.g. %20 for a space"));
    }
    percent_encoding(text)
}

fn percent_encoding(text: &str) -> Judged {
    for (at, _) in text.match_indices('%') {
        let rest = &text.as_bytes()[at..];
        if !(rest.len() > 2 && rest[1].is_ascii_hexdigit() && rest[2].is_ascii_hexdigit()) {
            let shown: String = text[at..].chars().take(3).collect();
            return Err(Fault::new(format!("invalid url-encoded value: '{shown}'"))
                .hint("a literal '%' is written %25"));
        }
    }
    Ok(())
}

/// Judges the path of a Route: a prefix, or `~` and a regular expression.
pub(super) fn route_path(text: &str) -> Judged {
    if !text.starts_with('/') && !text.starts_with("~/") {
        let fault = Fault::new("should start with: / (fixed path) or ~/ (regex path)");
        return Err(match text.strip_prefix('~') {
            Some(rest) => fault.hint(format!(
                "a regular expression is anchored at the start: ~/{}",
                rest.trim_start_matches(['^', '/'])
            )),
            None => fault.hint(format!("write '/{text}'")),
        });
    }
    if text.contains("//") {
        return Err(Fault::new("must not have empty segments").hint("write '/' once"));
    }
    let Some(pattern) = text.strip_prefix('~') else {
        percent_encoding(text)?;
        let normal = normalize_path(text);
        if normal != text {
            return Err(
                Fault::new(format!("non-normalized path, consider use '{normal}' instead")).hint(
                    "requests' paths are normalised before they are matched, so this one would never match",
                ),
            );
        }
        return Ok(());
    };
    regex(pattern)
}

/// Judges a regular expression without building its automaton, which the model does once.
pub(super) fn regex(pattern: &str) -> Judged {
    let Err(error) = regex_syntax::parse(pattern) else {
        return Ok(());
    };
    let why = match &error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        _ => "not understood".to_owned(),
    };
    let fault = Fault::new(format!("invalid regex: '{pattern}' ({why})"));
    let is_backtracking = why.contains("look-around") || why.contains("backreferences");
    Err(if is_backtracking {
        fault.hint("expressions are matched in linear time, which look-around and back-references rule out")
    } else {
        fault
    })
}

/// Normalises a path as requests' paths are before they are matched (RFC 3986, section 6.2.2): escapes
/// of unreserved characters are decoded, other escapes written in upper case, dot segments removed.
fn normalize_path(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        let byte = escape.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (byte, escape) {
            (Some(byte), _) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => decoded.push(byte),
            (Some(_), Some(hex)) => {
                decoded.push(b'%');
                decoded.extend(hex.iter().map(u8::to_ascii_uppercase));
            }
            _ => {
                decoded.push(bytes[at]);
                at += 1;
                continue;
            }
        }
        at += 3;
    }
    let decoded = String::from_utf8_lossy(&decoded);
    let mut segments: Vec<&str> = Vec::new();
    let parts: Vec<&str> = decoded.split('/').skip(1).collect();
    for (index, part) in parts.iter().enumerate() {
        let is_last = index + 1 == parts.len();
        match *part {
            "." | ".." => {
                if *part == ".." {
                    segments.pop();
                }
                if is_last {
                    segments.push("");
                }
            }
            part => segments.push(part),
        }
    }
    format!("/{}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(texts: &[&str]) {
        for text in texts {
            assert_eq!(route_path(text), Ok(()), "{text}");
        }
    }

    fn refuses(cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            assert_eq!(&route_path(text).expect_err(text).message, expected, "{text}");
        }
    }

    #[test]
    fn paths_of_routes() {
        accepts(&["/", "/a/b", "/a%20b", "~/a/(?<id>\\d+)$", "/a/"]);
        refuses(&[
            ("a", "should start with: / (fixed path) or ~/ (regex path)"),
            ("~^/a", "should start with: / (fixed path) or ~/ (regex path)"),
            ("/a//b", "must not have empty segments"),
            ("/a/../b", "non-normalized path, consider use '/b' instead"),
            ("/%61", "non-normalized path, consider use '/a' instead"),
            ("/%c3", "non-normalized path, consider use '/%C3' instead"),
            ("/a/.", "non-normalized path, consider use '/a/' instead"),
            ("/%zz", "invalid url-encoded value: '%zz'"),
            ("~/a(", "invalid regex: '/a(' (unclosed group)"),
            (
                "~/a(?!b)",
                "invalid regex: '/a(?!b)' (look-around, including look-ahead and look-behind, is not supported)",
            ),
        ]);
    }

    #[test]
    fn paths_of_services() {
        for path in ["/", "/a/b;c=d,e", "/a%20b"] {
            assert_eq!(service_path(path), Ok(()), "{path}");
        }
        for path in ["", "a", "/a//b", "/a b", "/a?b", "/%2"] {
            assert!(service_path(path).is_err(), "{path}");
        }
    }

    #[test]
    fn the_normal_form_is_that_of_rfc_3986() {
        let cases = [
            ("/a/./b/../c", "/a/c"),
            ("/..", "/"),
            ("/a/..", "/"),
            ("/%7e%2f%zz", "/~%2F%zz"),
            ("/é", "/é"),
            ("/", "/"),
        ];
        for (path, normal) in cases {
            assert_eq!(normalize_path(path), normal);
            assert_eq!(normalize_path(normal), normal);
        }
    }
}
