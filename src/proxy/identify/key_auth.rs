//! The plugin `key-auth`: a key in a header field or in the query.

use std::borrow::Cow;

use http::StatusCode;
use pingora_http::RequestHeader;

use super::{Caller, Identity};
use crate::proxy::query;
use crate::proxy::respond::Answer;
use crate::snapshot::KeyAuth;

const MISSING: &str = "No API key found in request";
const DUPLICATE: &str = "Duplicate API key found";
const UNKNOWN: &str = "Unauthorized";

/// Finds whose the request's key is.
pub fn find(key_auth: &KeyAuth, caller: Caller<'_>) -> Result<Identity, Answer> {
    let refuse = |message| {
        Answer::keeping(StatusCode::UNAUTHORIZED, message).challenging(key_auth.common.challenge.clone())
    };
    let key = key_of(key_auth, caller.request).map_err(refuse)?;
    let found = caller.consumers.find_key(&key, caller.now);
    let found = found.ok_or_else(|| refuse(UNKNOWN))?;
    Ok(Identity::known(
        found.consumer,
        Some(found.credential.id_header.clone()),
    ))
}

/// Returns the request's key: the first name that it has decides, a header field before a query
/// argument of that name, and an empty key is none.
fn key_of<'a>(key_auth: &'a KeyAuth, request: &'a RequestHeader) -> Result<Cow<'a, [u8]>, &'static str> {
    for name in &key_auth.names {
        if let Some(header) = &name.header {
            let mut values = request.headers.get_all(header).iter();
            if let Some(value) = values.next() {
                return match values.next() {
                    Some(_) => Err(DUPLICATE),
                    None => not_empty(Cow::Borrowed(value.as_bytes())),
                };
            }
        }
        if let (Some(argument), Some(query)) = (&name.argument, request.uri.query()) {
            let mut values = query::values(query, argument);
            match (values.next(), values.next()) {
                (Some(_), Some(_)) => return Err(DUPLICATE),
                (Some(Some(value)), None) => return not_empty(value),
                // A name without a value is none of ours.
                (Some(None) | None, _) => {}
            }
        }
    }
    Err(MISSING)
}

fn not_empty(key: Cow<'_, [u8]>) -> Result<Cow<'_, [u8]>, &'static str> {
    if key.is_empty() { Err(MISSING) } else { Ok(key) }
}
