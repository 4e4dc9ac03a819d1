//! The query of a request: its arguments, without some, and without what must not be seen.
//!
//! An argument is what stands between two `&`; its name ends at the first `=`. Names are compared
//! decoded (`%61` is `a`, `+` a space), and what is kept is kept byte for byte.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// What a log shows in place of a credential.
const MASK: &str = "***";

/// Returns every value of the arguments of a name, decoded, in order; `None` for one without `=`.
pub fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = Option<Cow<'a, [u8]>>> {
    query.split('&').filter_map(move |argument| {
        let (key, value) = split(argument);
        is_named(key, name).then(|| value.map(decode))
    })
}

/// Returns a query without the arguments that `is_hidden` by their raw name; borrows when there are
/// none.
pub fn without(query: &str, is_hidden: impl Fn(&str) -> bool) -> Cow<'_, str> {
    let is_kept = |argument: &&str| !is_hidden(split(argument).0);
    if query.split('&').all(|argument| is_kept(&argument)) {
        return Cow::Borrowed(query);
    }
    let kept: Vec<&str> = query.split('&').filter(is_kept).collect();
    Cow::Owned(kept.join("&"))
}

/// Returns a path and query, or a whole URL, with the values of the arguments of these names masked.
/// Borrows when it has none of them.
pub fn masked<'a>(target: &'a str, names: &[Box<str>]) -> Cow<'a, str> {
    if names.is_empty() {
        return Cow::Borrowed(target);
    }
    let Some((path, query)) = target.split_once('?') else {
        return Cow::Borrowed(target);
    };
    let is_secret = |argument: &str| {
        let (key, value) = split(argument);
        value.is_some() && names.iter().any(|name| is_named(key, name))
    };
    if !query.split('&').any(is_secret) {
        return Cow::Borrowed(target);
    }
    let mut text = String::with_capacity(target.len());
    text.push_str(path);
    for (place, argument) in query.split('&').enumerate() {
        text.push(if place == 0 { '?' } else { '&' });
        if is_secret(argument) {
            text.push_str(split(argument).0);
            text.push('=');
            text.push_str(MASK);
        } else {
            text.push_str(argument);
        }
    }
    Cow::Owned(text)
}

/// Says whether a raw name is, decoded, this one.
pub fn is_named(raw: &str, name: &str) -> bool {
    raw == name || *decode(raw) == *name.as_bytes()
}

fn split(argument: &str) -> (&str, Option<&str>) {
    match argument.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (argument, None),
    }
}

fn decode(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('+') {
        return percent_decode(text.as_bytes()).into();
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode(spaced.as_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_in_order() {
        for (query, expected) in [
            ("key=1", &[Some("1")][..]),
            ("a=0&key=1&key=2", &[Some("1"), Some("2")]),
            ("key", &[None]),
            ("key=", &[Some("")]),
            ("k%65y=a%20b+c", &[Some("a b c")]),
            ("key=a=b", &[Some("a=b")]),
            ("Key=1&keys=2&=key", &[]),
            ("", &[]),
        ] {
            let values: Vec<_> = values(query, "key")
                .map(|value| value.map(|value| String::from_utf8(value.into_owned()).unwrap()))
                .collect();
            let expected: Vec<_> = expected.iter().map(|value| value.map(str::to_owned)).collect();
            assert_eq!(values, expected, "{query}");
        }
    }

    #[test]
    fn what_is_not_hidden_stays_byte_for_byte() {
        for (query, expected) in [
            ("a=1&key=x&b=%7e+", "a=1&b=%7e+"),
            ("key=x", ""),
            ("key", ""),
            ("k%65y=x&&a", "&a"),
            ("a=1&b=key", "a=1&b=key"),
            ("", ""),
        ] {
            assert_eq!(without(query, |raw| is_named(raw, "key")), expected, "{query}");
        }
        let untouched = without("a=1&b", |_| false);
        assert!(matches!(untouched, Cow::Borrowed("a=1&b")));
    }

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let names: Box<[Box<str>]> = Box::new(["key".into(), "jwt".into()]);
        for (target, expected) in [
            ("/a?key=secret", "/a?key=***"),
            ("/a?b=1&key=secret&jwt=x.y.z&c", "/a?b=1&key=***&jwt=***&c"),
            ("/a?k%65y=secret&key=", "/a?k%65y=***&key=***"),
            ("https://a.example/?key=secret", "https://a.example/?key=***"),
            ("/a?key", "/a?key"),
            ("/key=secret", "/key=secret"),
            ("/a?monkey=1", "/a?monkey=1"),
            ("/a?", "/a?"),
        ] {
            assert_eq!(masked(target, &names), expected);
        }
        assert_eq!(masked("/a?key=1", &[]), "/a?key=1");
    }
}
