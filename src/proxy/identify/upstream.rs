//! What the origin sees of credentials and Consumers.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::basic_auth::FIELDS;
use super::{Identity, after_scheme};
use crate::proxy::fields::set;
use crate::proxy::query;
use crate::snapshot::{Consumers, Guard};

const X_CONSUMER_ID: HeaderName = HeaderName::from_static("x-consumer-id");
const X_CONSUMER_USERNAME: HeaderName = HeaderName::from_static("x-consumer-username");
const X_CONSUMER_CUSTOM_ID: HeaderName = HeaderName::from_static("x-consumer-custom-id");
const X_CONSUMER_GROUPS: HeaderName = HeaderName::from_static("x-consumer-groups");
const X_CREDENTIAL_IDENTIFIER: HeaderName = HeaderName::from_static("x-credential-identifier");
const X_ANONYMOUS_CONSUMER: HeaderName = HeaderName::from_static("x-anonymous-consumer");

/// Fields that end here: `Proxy` becomes HTTP_PROXY in CGI (CVE-2016-5385); the request to see how a
/// decision came about is for the gateway alone.
const ENDING: [&[u8]; 2] = [b"proxy", b"x-serin-debug"];

/// How the names of fields begin that only the gateway may write.
const RESERVED: [&[u8]; 4] = [
    b"x-consumer-",
    b"x-credential-",
    b"x-anonymous-consumer",
    b"x-authenticated-groups",
];

/// Takes out what a client may not tell an origin, hides credentials, and tells who the Consumer is.
///
/// Without a guard and without such fields this is one pass over the names, which allocates nothing.
pub fn rewrite_fields(
    fields: &mut HeaderMap,
    guard: Option<&Guard>,
    identity: &Identity,
    consumers: &Consumers,
) {
    remove_reserved(fields);
    if let Some(guard) = guard {
        hide_credentials(fields, guard);
    }
    let Some(consumer) = identity.consumer.map(|index| consumers.get(index)) else {
        return;
    };
    let mut tell = |name, value| {
        if let Some(value) = value {
            set(fields, name, value);
        }
    };
    tell(X_CONSUMER_ID, consumer.id_header());
    tell(X_CONSUMER_USERNAME, consumer.username_header());
    tell(X_CONSUMER_CUSTOM_ID, consumer.custom_id_header());
    tell(X_CONSUMER_GROUPS, identity.groups.clone());
    match identity.is_anonymous {
        true => tell(X_ANONYMOUS_CONSUMER, Some(HeaderValue::from_static("true"))),
        false => tell(X_CREDENTIAL_IDENTIFIER, identity.credential.clone()),
    }
}

/// Returns the query as the origin may see it: without the keys that the guard hides.
pub fn visible_query<'a>(guard: Option<&Guard>, query: &'a str) -> Cow<'a, str> {
    match guard.and_then(|guard| guard.key_auth.as_ref()) {
        Some(key_auth) if key_auth.common.hides_credentials => query::without(query, |raw| {
            let arguments = key_auth.names.iter().filter_map(|name| name.argument.as_ref());
            arguments
                .into_iter()
                .any(|argument| query::is_named(raw, argument))
        }),
        _ => Cow::Borrowed(query),
    }
}

fn remove_reserved(fields: &mut HeaderMap) {
    let reserved = fields.keys().filter(|name| is_reserved(name.as_str()));
    let reserved: Vec<HeaderName> = reserved.cloned().collect();
    for name in reserved {
        fields.remove(name);
    }
}

/// Says whether no origin gets a client's field of this name. Names are lower case here. An underscore counts as
/// a hyphen: CGI, WSGI and their like make one variable of both.
fn is_reserved(name: &str) -> bool {
    let name = name.as_bytes();
    // Nearly all names end here.
    if !matches!(
        name,
        [b'x', b'-' | b'_', b'a' | b'c' | b's', ..] | [b'p', b'r', ..]
    ) {
        return false;
    }
    if ENDING.contains(&name) {
        return true;
    }
    let fold = |byte: &u8| if *byte == b'_' { b'-' } else { *byte };
    RESERVED.iter().any(|prefix| {
        let head = name.iter().map(fold).take(prefix.len());
        head.eq(prefix.iter().copied())
    })
}

/// Hides what the guard's plugins were to find, whether they ran or rested.
fn hide_credentials(fields: &mut HeaderMap, guard: &Guard) {
    if let Some(key_auth) = &guard.key_auth
        && key_auth.common.hides_credentials
    {
        for header in key_auth.names.iter().filter_map(|name| name.header.as_ref()) {
            fields.remove(header);
        }
    }
    if let Some(basic_auth) = &guard.basic_auth
        && basic_auth.common.hides_credentials
    {
        for field in &FIELDS {
            // A token in the same field is not this plugin's to hide.
            let mut values = fields.get_all(field).iter();
            if values.any(|value| after_scheme(value.as_bytes(), "basic").is_some()) {
                fields.remove(field);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_gateway_tells_who_somebody_is() {
        for name in [
            "x-consumer-id",
            "x-consumer-username",
            "x-consumer-anything",
            "x-credential-identifier",
            "x-credential-username",
            "x-anonymous-consumer",
            "x-authenticated-groups",
            "x_consumer_id",
            "x-consumer_id",
            "proxy",
            "x-serin-debug",
        ] {
            assert!(is_reserved(name), "{name}");
        }
        for name in [
            "x-consumer",
            "x-cache",
            "x-api-key",
            "x-authenticated-userid",
            "consumer-id",
            "x",
            "proxy-a",
            "x-serin-variant",
            "authorization",
        ] {
            assert!(!is_reserved(name), "{name}");
        }
    }

    #[test]
    fn reserved_fields_go_however_often_they_come() {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("X-Consumer-Id", "a"),
            ("x-cOnSuMeR-iD", "b"),
            ("X-Other", "c"),
            ("X-Credential-Identifier", "d"),
            ("X_Consumer_Username", "e"),
        ] {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            fields.append(name, HeaderValue::from_static(value));
        }
        remove_reserved(&mut fields);
        let left: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-other"]);
    }
}
