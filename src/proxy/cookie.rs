//! Cookies, read from a request and written into an answer (RFC 6265).

use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use pingora_http::RequestHeader;

use super::context::Client;

/// Joins several `Cookie` fields into one, with `; ` between them. HTTP/2 lets a client send crumbs, and
/// RFC 9113 §8.2.3 asks to join them before anything that is not HTTP/2 sees them; an HTTP/1.1 client may
/// send one field only (RFC 6265 §5.4), and what one with several means is the same. Nothing to do, and no
/// allocation, for one field or none.
pub fn join_crumbs(request: &mut RequestHeader) {
    let mut crumbs = request.headers.get_all(COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let crumbs: Vec<_> = request
        .headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    // Values with a separator that may stand in one make a value.
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        let _ = request.insert_header(COOKIE, joined);
    }
}

/// The value of a cookie; an empty one counts as absent.
pub fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    values(headers, name).next()
}

/// The values of all cookies of a name: a client may hold several, of other paths or domains.
pub fn values<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(COOKIE).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .filter_map(move |pair| {
            let pair = pair.trim_ascii();
            let (key, value) = pair.split_at_checked(pair.iter().position(|byte| *byte == b'=')?)?;
            (key == name.as_bytes()).then_some(&value[1..])
        })
        .filter(|value| !value.is_empty())
}

/// A cookie that no script may read, for `max_age` or else for the browser's session; for a client that
/// came by TLS it is never sent without. `None` when the configured path cannot stand in a header.
pub fn set_cookie(
    name: &str,
    value: &str,
    path: &str,
    max_age: Option<Duration>,
    client: &Client,
) -> Option<HeaderValue> {
    let lifetime = max_age.map_or_else(String::new, |age| format!("; Max-Age={}", age.as_secs()));
    let secure = if client.is_secure { "; Secure" } else { "" };
    format!("{name}={value}; Path={path}{lifetime}; SameSite=Lax; HttpOnly{secure}")
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crumbs_are_joined_into_one_field() {
        for (crumbs, joined) in [
            (&[][..], &[][..]),
            (&["a=1; b=2"], &["a=1; b=2"]),
            (&["a=1", "b=2"], &["a=1; b=2"]),
            (&["a=1", "b=2; c=3", "d=\u{fc}"], &["a=1; b=2; c=3; d=\u{fc}"]),
        ] {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            for crumb in crumbs {
                let value = HeaderValue::from_bytes(crumb.as_bytes()).unwrap();
                request.append_header("cookie", value).unwrap();
            }
            join_crumbs(&mut request);
            let found: Vec<_> = request
                .headers
                .get_all(COOKIE)
                .iter()
                .map(HeaderValue::as_bytes)
                .collect();
            let expected: Vec<_> = joined.iter().map(|value| value.as_bytes()).collect();
            assert_eq!(found, expected, "{crumbs:?}");
        }
    }

    #[test]
    fn cookies_are_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append("cookie", "a=1; session=x=y; sessions=2".parse().unwrap());
        headers.append("cookie", "late=3;empty=".parse().unwrap());
        assert_eq!(value(&headers, "session"), Some(&b"x=y"[..]));
        assert_eq!(value(&headers, "late"), Some(&b"3"[..]));
        assert_eq!(value(&headers, "empty"), None);
        assert_eq!(value(&headers, "absent"), None);
    }

    #[test]
    fn a_cookie_is_secure_for_clients_that_came_by_tls() {
        let mut client = Client::default();
        let cookie = |client: &Client| set_cookie("s", "1", "/shop", None, client).unwrap();
        assert_eq!(cookie(&client), "s=1; Path=/shop; SameSite=Lax; HttpOnly");
        client.is_secure = true;
        assert_eq!(cookie(&client), "s=1; Path=/shop; SameSite=Lax; HttpOnly; Secure");
        let month = set_cookie("s", "1", "/", Some(Duration::from_secs(30 * 24 * 3600)), &client).unwrap();
        assert_eq!(
            month,
            "s=1; Path=/; Max-Age=2592000; SameSite=Lax; HttpOnly; Secure"
        );
    }
}
