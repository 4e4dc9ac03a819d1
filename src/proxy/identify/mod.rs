//! Credentials → Consumer and its groups.
//!
//! The plugins of the Route run in Kong's order: `jwt`, `key-auth`, `basic-auth`, then `acl`. Each that
//! identifies must succeed (logical AND), the last one that ran says who it is; one with `anonymous`
//! rests once somebody is identified, and otherwise calls the client its anonymous Consumer (logical
//! OR). Everything here is a function of the request and the Snapshot: no lock, no waiting, and no
//! clock but the time that is handed in.
//!
//! What the origin is told of the Consumer stands here too, and so does what clients may not tell it:
//! `X-Consumer-*` and its like are taken out of every request, on every Route.

mod acl;
mod basic_auth;
mod jwt;
mod key_auth;
mod upstream;

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use pingora_http::RequestHeader;

use super::respond::Answer;
use crate::snapshot::{Anonymous, Common, ConsumerIndex, Consumers, Guard};

pub use upstream::{rewrite_fields, visible_query};

/// Who sent the request, as far as the Route's plugins asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The Consumer; none when no plugin asked.
    pub consumer: Option<ConsumerIndex>,
    /// It stands for everybody who has no valid credential.
    pub is_anonymous: bool,
    /// What the origin is told of the credential: the id of a key, the name that goes with a password,
    /// the issuer of a token.
    pub credential: Option<HeaderValue>,
    /// What the origin is told of the Consumer's groups.
    pub groups: Option<HeaderValue>,
    /// The Consumer that is taken for granted, whatever the credentials say: `serin explain` asks so.
    pub assumed: Option<ConsumerIndex>,
}

/// A request at the door.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// What it brings.
    pub request: &'a RequestHeader,
    /// Who may come.
    pub consumers: &'a Consumers,
    /// Time since 1970.
    pub now: Duration,
    /// Who it is taken to be, where a plugin asks, whatever it brings.
    pub assumed: Option<ConsumerIndex>,
}

/// Finds out who a caller is, and the answer if it may not pass. Who was identified and then refused
/// is told all the same, for the log.
pub fn identify(guard: &Guard, caller: Caller<'_>) -> (Identity, Option<Answer>) {
    let mut identity = Identity::default();
    let refusal = run(guard, caller, &mut identity).err();
    identity.assumed = caller.assumed;
    (identity, refusal)
}

fn run(guard: &Guard, caller: Caller<'_>, identity: &mut Identity) -> Result<(), Answer> {
    if let Some(jwt) = &guard.jwt {
        identity.ask(&jwt.common, caller, || jwt::find(jwt, caller))?;
    }
    if let Some(key_auth) = &guard.key_auth {
        identity.ask(&key_auth.common, caller, || key_auth::find(key_auth, caller))?;
    }
    if let Some(basic_auth) = &guard.basic_auth {
        identity.ask(&basic_auth.common, caller, || {
            basic_auth::find(basic_auth, caller)
        })?;
    }
    match &guard.acl {
        Some(acl) if acl.applies.to(caller.is_preflight()) => acl::check(acl, caller.consumers, identity),
        _ => Ok(()),
    }
}

impl Identity {
    /// Somebody whose credential is valid, and what the origin is told of it.
    fn known(consumer: ConsumerIndex, credential: Option<HeaderValue>) -> Self {
        Self {
            consumer: Some(consumer),
            credential,
            ..Self::default()
        }
    }

    /// Somebody whose credential goes by a name; one that cannot stand in a header is not told.
    fn known_by_name(consumer: ConsumerIndex, name: &str) -> Self {
        Self::known(consumer, HeaderValue::from_bytes(name.as_bytes()).ok())
    }

    /// Says whether a credential has been found valid.
    fn is_known(&self) -> bool {
        self.consumer.is_some() && !self.is_anonymous
    }

    /// Runs one plugin, unless it is not for this caller or rests.
    fn ask(
        &mut self,
        common: &Common,
        caller: Caller<'_>,
        find: impl FnOnce() -> Result<Self, Answer>,
    ) -> Result<(), Answer> {
        if !common.applies.to(caller.is_preflight()) {
            return Ok(());
        }
        if common.anonymous.is_some() && self.is_known() {
            return Ok(());
        }
        if let Some(consumer) = caller.assumed {
            self.consumer = Some(consumer);
            return Ok(());
        }
        *self = match (find(), &common.anonymous) {
            (Ok(known), _) => known,
            (Err(refusal), None) => return Err(refusal),
            (Err(_), Some(Anonymous::Consumer(consumer))) => Self {
                consumer: Some(*consumer),
                is_anonymous: true,
                ..Self::default()
            },
            (Err(_), Some(Anonymous::Missing(name))) => {
                let message = format!("anonymous consumer {name} is configured but doesn't exist");
                return Err(Answer::saying(StatusCode::INTERNAL_SERVER_ERROR, message));
            }
        };
        Ok(())
    }
}

impl Caller<'_> {
    /// A browser that asks whether it may ask (or anything else that sends `OPTIONS`).
    fn is_preflight(&self) -> bool {
        self.request.method == Method::OPTIONS
    }
}

/// Returns what follows an authentication scheme, less the spaces around it; none for another scheme.
/// The scheme's case does not matter (RFC 9110 §11.1).
fn after_scheme<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let (head, rest) = value.trim_ascii().split_at_checked(scheme.len())?;
    let is_scheme = head.eq_ignore_ascii_case(scheme.as_bytes());
    (is_scheme && rest.first().is_some_and(u8::is_ascii_whitespace)).then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests;
