//! What the origin sees of credentials and Consumers.

use std::borrow::Cow;

use http::HeaderName;
use pingora_error::Result;
use pingora_http::RequestHeader;

use super::basic_auth::FIELDS;
use super::{Identity, after_scheme};
use crate::proxy::query;
use crate::snapshot::{Consumers, Guard};

const X_CONSUMER_ID: HeaderName = HeaderName::from_static("x-consumer-id");
const X_CONSUMER_USERNAME: HeaderName = HeaderName::from_static("x-consumer-username");
const X_CONSUMER_CUSTOM_ID: HeaderName = HeaderName::from_static("x-consumer-custom-id");
const X_CONSUMER_GROUPS: HeaderName = HeaderName::from_static("x-consumer-groups");
const X_CREDENTIAL_IDENTIFIER: HeaderName = HeaderName::from_static("x-credential-identifier");
const X_ANONYMOUS_CONSUMER: HeaderName = HeaderName::from_static("x-anonymous-consumer");

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
pub fn rewrite_headers(
    request: &mut RequestHeader,
    guard: Option<&Guard>,
    identity: &Identity,
    consumers: &Consumers,
) -> Result<()> {
    remove_reserved(request);
    if let Some(guard) = guard {
        hide_credentials(request, guard);
    }
    let Some(consumer) = identity.consumer.map(|index| consumers.get(index)) else {
        return Ok(());
    };
    let credential = identity.credential.clone().filter(|_| !identity.is_anonymous);
    for (name, value) in [
        (X_CONSUMER_ID, consumer.id_header()),
        (X_CONSUMER_USERNAME, consumer.username_header()),
        (X_CONSUMER_CUSTOM_ID, consumer.custom_id_header()),
        (X_CONSUMER_GROUPS, identity.groups.clone()),
        (X_CREDENTIAL_IDENTIFIER, credential),
    ] {
        if let Some(value) = value {
            request.insert_header(name, value)?;
        }
    }
    if identity.is_anonymous {
        request.insert_header(X_ANONYMOUS_CONSUMER, "true")?;
    }
    Ok(())
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

fn remove_reserved(request: &mut RequestHeader) {
    let reserved = request.headers.keys().filter(|name| is_reserved(name.as_str()));
    let reserved: Vec<HeaderName> = reserved.cloned().collect();
    for name in reserved {
        request.remove_header(&name);
    }
}

/// Says whether only the gateway may write a field. Names are lower case here. An underscore counts as
/// a hyphen: CGI, WSGI and their like make one variable of both.
fn is_reserved(name: &str) -> bool {
    let name = name.as_bytes();
    // Nearly all names end here.
    if !matches!(name, [b'x', b'-' | b'_', b'a' | b'c', ..]) {
        return false;
    }
    let fold = |byte: &u8| if *byte == b'_' { b'-' } else { *byte };
    RESERVED.iter().any(|prefix| {
        let head = name.iter().map(fold).take(prefix.len());
        head.eq(prefix.iter().copied())
    })
}

/// Hides what the guard's plugins were to find, whether they ran or rested.
fn hide_credentials(request: &mut RequestHeader, guard: &Guard) {
    if let Some(key_auth) = &guard.key_auth
        && key_auth.common.hides_credentials
    {
        for header in key_auth.names.iter().filter_map(|name| name.header.as_ref()) {
            request.remove_header(header);
        }
    }
    if let Some(basic_auth) = &guard.basic_auth
        && basic_auth.common.hides_credentials
    {
        for field in &FIELDS {
            // A token in the same field is not this plugin's to hide.
            let mut values = request.headers.get_all(field).iter();
            if values.any(|value| after_scheme(value.as_bytes(), "basic").is_some()) {
                request.remove_header(field);
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
            "authorization",
        ] {
            assert!(!is_reserved(name), "{name}");
        }
    }

    #[test]
    fn reserved_fields_go_however_often_they_come() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in [
            ("X-Consumer-Id", "a"),
            ("x-cOnSuMeR-iD", "b"),
            ("X-Other", "c"),
            ("X-Credential-Identifier", "d"),
            ("X_Consumer_Username", "e"),
        ] {
            request.append_header(name, value).unwrap();
        }
        remove_reserved(&mut request);
        let left: Vec<_> = request.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-other"]);
    }
}
