//! The plugin `basic-auth`: a name and a password (RFC 7617).

use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION};
use http::{HeaderName, StatusCode};
use pingora_http::RequestHeader;
use sha1::{Digest, Sha1};

use super::{Caller, Identity, after_scheme};
use crate::proxy::respond::Answer;
use crate::snapshot::{BasicAuth, Found, Password, decode_base64};

/// The header fields that may hold the credentials; a name that is known from the first is not looked
/// for in the second.
pub const FIELDS: [HeaderName; 2] = [PROXY_AUTHORIZATION, AUTHORIZATION];

/// Stands in for the id of the Consumer that nobody is, so that an unknown name costs a hash too.
const NOBODY: &[u8] = b"00000000-0000-0000-0000-000000000000";

/// Finds whose the request's name and password are.
pub fn find(basic_auth: &BasicAuth, caller: Caller<'_>) -> Result<Identity, Answer> {
    identity(caller).ok_or_else(|| {
        Answer::keeping(StatusCode::UNAUTHORIZED, "Unauthorized")
            .challenging(basic_auth.common.challenge.clone())
    })
}

fn identity(caller: Caller<'_>) -> Option<Identity> {
    let (password, found) = find_name(caller)?;
    let id = found
        .as_ref()
        .map_or(NOBODY, |found| caller.consumers.get(found.consumer).id_text());
    let mut hasher = Sha1::new();
    hasher.update(&password);
    hasher.update(id);
    let hash: [u8; 20] = hasher.finalize().into();
    let found = found.filter(|found| found.credential.is(&hash))?;
    Some(Identity::known_by_name(
        found.consumer,
        &found.credential.username,
    ))
}

/// Returns the password that was sent, and what its name is known by if it is.
fn find_name(caller: Caller<'_>) -> Option<(Vec<u8>, Option<Found<'_, Password>>)> {
    let mut unknown = None;
    for field in &FIELDS {
        let Some((name, password)) = credentials(caller.request, field) else {
            continue;
        };
        let name = std::str::from_utf8(&name).ok();
        if let Some(found) = name.and_then(|name| caller.consumers.find_username(name)) {
            return Some((password, Some(found)));
        }
        unknown = Some((password, None));
    }
    unknown
}

/// Reads a name, which is not empty, and a password out of a header field.
fn credentials(request: &RequestHeader, field: &HeaderName) -> Option<(Vec<u8>, Vec<u8>)> {
    let encoded = after_scheme(request.headers.get(field)?.as_bytes(), "basic")?;
    let mut name = decode_base64(encoded)?;
    let colon = name.iter().position(|byte| *byte == b':')?;
    let password = name.split_off(colon + 1);
    name.pop();
    (!name.is_empty()).then_some((name, password))
}
