//! What a consistent-hashing Upstream hashes, read from the request.

use std::borrow::Cow;

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use pingora_http::RequestHeader;

use super::context::Context;
use super::cookie;
use crate::balance::{HashKey, Input, RingKey};
use crate::model::{HashInput, PathPattern};
use crate::snapshot::Hashing;

/// Returns the key of this request on the ring: of the first input that the request has, or
/// `None` when it has neither, so that it is spread by round robin instead of all such requests
/// piling up on one Target.
///
/// A client without the hash cookie is given one: its value decides this very request and is left
/// in the context for the answer.
pub fn ring_key(hashing: &Hashing, request: &RequestHeader, ctx: &mut Context) -> Option<RingKey> {
    hashing
        .inputs
        .iter()
        .find_map(|(input, key)| key_of(input, key, request, ctx))
}

fn key_of(input: &HashInput, key: &HashKey, request: &RequestHeader, ctx: &mut Context) -> Option<RingKey> {
    let path = ctx.normalized_path.as_deref().unwrap_or(request.uri.path());
    match input {
        HashInput::Consumer => {
            let consumer = ctx.known_consumer()?;
            Some(key.ring_key(Input::Consumer(consumer.id_text())))
        }
        HashInput::Ip => Some(key.ring_key(Input::Ip(ctx.client.address?))),
        HashInput::Header(name) => {
            let value = joined(&request.headers, name)?;
            Some(key.ring_key(Input::Header(&value)))
        }
        HashInput::Cookie { name, path } => {
            if let Some(value) = cookie::value(&request.headers, name) {
                return Some(key.ring_key(Input::Cookie(value)));
            }
            let value = uuid::Uuid::new_v4().to_string();
            ctx.issued_cookie = cookie::set_cookie(name, &value, path, None, &ctx.client);
            Some(key.ring_key(Input::Cookie(value.as_bytes())))
        }
        HashInput::Path => Some(key.ring_key(Input::Path(path.as_bytes()))),
        HashInput::QueryArg(name) => {
            let value = query_argument(request.uri.query()?, name)?;
            Some(key.ring_key(Input::QueryArg(value.as_bytes())))
        }
        HashInput::UriCapture(name) => {
            let matched = ctx.matched?;
            let PathPattern::Regex(regex) = ctx.route()?.paths.get(matched.pattern)? else {
                return None;
            };
            let captures = regex.captures(path)?;
            let group = match name.parse::<usize>() {
                Ok(number) => captures.get(number),
                Err(_) => captures.name(name),
            };
            Some(key.ring_key(Input::UriCapture(group?.as_str().as_bytes())))
        }
    }
}

/// All values of a header, joined with `, ` (RFC 9110 §5.3).
pub fn joined<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter();
    let mut joined = Cow::Borrowed(values.next()?.as_bytes());
    for value in values {
        let joined = joined.to_mut();
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(value.as_bytes());
    }
    Some(joined)
}

/// The value of a query argument as Kong hashes it: a bare name is `true`, several values are
/// sorted and joined with `,`, and an empty value alone counts as missing.
fn query_argument(query: &str, name: &str) -> Option<String> {
    let decode = |text: &str| {
        percent_decode_str(&text.replace('+', " "))
            .decode_utf8_lossy()
            .into_owned()
    };
    let mut values: Vec<String> = query
        .split('&')
        .filter_map(|pair| match pair.split_once('=') {
            Some((key, value)) => (decode(key) == name).then(|| decode(value)),
            None => (decode(pair) == name).then(|| "true".to_owned()),
        })
        .collect();
    if values.iter().all(String::is_empty) {
        return None;
    }
    values.sort_unstable();
    Some(values.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_arguments_are_read_as_kong_does() {
        for (query, value) in [
            ("user=7", Some("7")),
            ("a=1&user=b&user=a", Some("a,b")),
            ("user", Some("true")),
            ("user=", None),
            ("user=&user=x", Some(",x")),
            ("us%65r=a%20b+c", Some("a b c")),
            ("other=1", None),
            ("", None),
        ] {
            assert_eq!(query_argument(query, "user").as_deref(), value, "{query}");
        }
    }
}
