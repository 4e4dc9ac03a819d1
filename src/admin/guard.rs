//! Who may come in.
//!
//! A browser sends requests of any page to any address, so an address that only this machine reaches is
//! no protection by itself: a page may call it (`Origin` tells), and a name may be made to resolve to it
//! (`Host` tells).

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use subtle::ConstantTimeEq;

use super::wire::refusal::Refusal;
use crate::model::Admin;

const TOKEN: HeaderName = HeaderName::from_static("kong-admin-token");

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Everything.
    Admin,
    /// Look, but at no secret.
    Reader,
}

/// Lets clients in, or not.
#[derive(Debug)]
pub(super) struct Guard {
    settings: Admin,
}

impl Guard {
    /// Goes by these settings, a token of a file already read.
    pub(super) fn new(settings: Admin) -> Self {
        Self { settings }
    }

    /// Says what a client may do.
    ///
    /// # Errors
    /// 403 for a name or a page that is not allowed, and for a change by somebody who may only read; 401
    /// without the token.
    pub(super) fn admit(&self, method: &Method, headers: &HeaderMap) -> Result<Role, Refusal> {
        self.check_host(headers)?;
        self.check_origin(headers)?;
        let role = self.role(headers)?;
        let is_look = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
        if role == Role::Reader && !is_look {
            return Err(forbidden("this token may only read"));
        }
        Ok(role)
    }

    /// Returns the page that may read the answer, if a page has asked that may.
    pub(super) fn allowed_origin<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let origin = headers.get(header::ORIGIN)?.to_str().ok()?;
        self.settings
            .origins
            .iter()
            .any(|allowed| allowed == origin)
            .then_some(origin)
    }

    fn check_host(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Refusal::message(StatusCode::BAD_REQUEST, "one Host is needed"));
        };
        let name = host.to_str().map(host_of).unwrap_or_default();
        let is_known = |known: &str| known.eq_ignore_ascii_case(name);
        let is_allowed = name.parse::<IpAddr>().is_ok()
            || is_known("localhost")
            || self.settings.hosts.iter().any(|host| is_known(host));
        match is_allowed {
            true => Ok(()),
            false => Err(forbidden(
                "this Host is not allowed; list it in server.admin.hosts",
            )),
        }
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return Ok(());
        };
        let of_own = || {
            let (_, authority) = origin.to_str().ok()?.split_once("://")?;
            Some(headers.get(header::HOST)?.as_bytes() == authority.as_bytes())
        };
        if self.allowed_origin(headers).is_some() || of_own() == Some(true) {
            return Ok(());
        }
        Err(forbidden(
            "this Origin is not allowed; list it in server.admin.origins",
        ))
    }

    fn role(&self, headers: &HeaderMap) -> Result<Role, Refusal> {
        let shown = token_of(headers);
        let is = |token: &crate::model::Token| {
            shown.is_some_and(|shown| bool::from(shown.as_bytes().ct_eq(token.expose().as_bytes())))
        };
        match (&self.settings.token, &self.settings.read_token) {
            (Some(token), _) if is(token) => Ok(Role::Admin),
            (_, Some(token)) if is(token) => Ok(Role::Reader),
            (None, _) => Ok(Role::Admin),
            (Some(_), _) => {
                let why = "a token is needed: send it as 'Authorization: Bearer …' or 'Kong-Admin-Token'";
                Err(Refusal::message(StatusCode::UNAUTHORIZED, why))
            }
        }
    }
}

fn token_of(headers: &HeaderMap) -> Option<&str> {
    if let Some(token) = headers.get(TOKEN) {
        return token.to_str().ok();
    }
    let (scheme, token) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Takes the port off.
fn host_of(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

fn forbidden(message: &str) -> Refusal {
    Refusal::message(StatusCode::FORBIDDEN, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Token;

    const ADMIN: &str = "the token of an admin";
    const READER: &str = "the token of a reader";

    fn guard(has_token: bool) -> Guard {
        Guard::new(Admin {
            token: has_token.then(|| Token::new(ADMIN)),
            read_token: Some(Token::new(READER)),
            hosts: vec!["admin.example".to_owned()],
            origins: vec!["https://page.example".to_owned()],
            ..Admin::default()
        })
    }

    fn check(guard: &Guard, method: Method, fields: &[(&str, &str)], expected: Result<Role, u16>) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let found = guard
            .admit(&method, &headers)
            .map_err(|refusal| refusal.status.as_u16());
        assert_eq!(found, expected, "{fields:?}");
    }

    #[test]
    fn names_that_a_page_could_have_made_up_are_refused() {
        for (host, expected) in [
            ("localhost:8001", Ok(Role::Admin)),
            ("LOCALHOST", Ok(Role::Admin)),
            ("127.0.0.1:8001", Ok(Role::Admin)),
            ("[::1]:8001", Ok(Role::Admin)),
            ("admin.example", Ok(Role::Admin)),
            ("evil.example:8001", Err(403)),
            ("localhost.evil.example", Err(403)),
        ] {
            check(&guard(false), Method::GET, &[("host", host)], expected);
        }
        check(&guard(false), Method::GET, &[], Err(400));
        check(
            &guard(false),
            Method::GET,
            &[("host", "a"), ("host", "localhost")],
            Err(400),
        );
    }

    #[test]
    fn pages_that_are_not_listed_are_refused() {
        for (origin, expected) in [
            ("https://page.example", Ok(Role::Admin)),
            ("http://localhost:8001", Ok(Role::Admin)),
            ("http://localhost:8002", Err(403)),
            ("https://evil.example", Err(403)),
            ("null", Err(403)),
        ] {
            let fields = [("host", "localhost:8001"), ("origin", origin)];
            check(&guard(false), Method::POST, &fields, expected);
        }
    }

    #[test]
    fn a_token_says_what_its_owner_may_do() {
        let bearer = format!("Bearer {ADMIN}");
        let reader = format!("bearer {READER}");
        let host = ("host", "localhost");
        let guard = guard(true);
        check(
            &guard,
            Method::POST,
            &[host, ("authorization", &bearer)],
            Ok(Role::Admin),
        );
        check(
            &guard,
            Method::POST,
            &[host, ("kong-admin-token", ADMIN)],
            Ok(Role::Admin),
        );
        check(
            &guard,
            Method::GET,
            &[host, ("authorization", &reader)],
            Ok(Role::Reader),
        );
        check(
            &guard,
            Method::DELETE,
            &[host, ("authorization", &reader)],
            Err(403),
        );
        for wrong in ["Bearer the token of", "Basic the token of an admin", ""] {
            check(&guard, Method::GET, &[host, ("authorization", wrong)], Err(401));
        }
        check(&guard, Method::GET, &[host], Err(401));
    }
}
