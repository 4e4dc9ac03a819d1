//! The plugin `jwt`: a token that an issuer has signed (RFC 7519).
//!
//! Nothing that a token says is believed before its signature is checked, save who is to have issued
//! it. The algorithm is the issuer's own, never the token's.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use pingora_http::RequestHeader;
use serde_json::{Map, Value};

use super::{Caller, Identity, after_scheme};
use crate::model;
use crate::proxy::respond::{Answer, Text};
use crate::proxy::{cookie, query};
use crate::snapshot::{Jwt, Unverified, decode_base64};

/// Every `alg` that some issuer may sign with; a token of any other is bad whoever sent it.
const ALGORITHMS: [&str; 12] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "PS384", "PS512",
    "EdDSA",
];

/// Finds whose token the request has.
pub fn find(jwt: &Jwt, caller: Caller<'_>) -> Result<Identity, Answer> {
    identity(&jwt.rules, caller).map_err(|refusal| refusal.answer(jwt))
}

/// Why a token, or its absence, does not identify anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Refusal {
    NoToken,
    SeveralTokens,
    /// The token cannot be read: how far reading went.
    Bad(&'static str),
    NoIssuer,
    InvalidIssuer,
    UnknownIssuer,
    Algorithm,
    Key,
    Signature,
    /// Claims that are not as the plugin wants them, and what is wrong with each.
    Claims(Vec<(&'static str, &'static str)>),
}

fn identity(rules: &model::Jwt, caller: Caller<'_>) -> Result<Identity, Refusal> {
    let token = token_of(rules, caller.request)?;
    let token = Token::parse(&token)?;
    let issuer = token.issuer(&rules.key_claim_name)?;
    let found = caller.consumers.find_issuer(issuer);
    let found = found.ok_or(Refusal::UnknownIssuer)?;
    if !found.credential.signs_with(token.algorithm) {
        return Err(Refusal::Algorithm);
    }
    found
        .credential
        .verify(token.message, token.signature, rules.secret_is_base64)
        .map_err(|error| match error {
            Unverified::UnusableKey => Refusal::Key,
            Unverified::Signature => Refusal::Signature,
        })?;
    check_claims(rules, &token.claims, caller.now)?;
    Ok(Identity::known_by_name(found.consumer, &found.credential.key))
}

/// Returns the one token that the request has, wherever it may be and however often.
fn token_of<'a>(rules: &'a model::Jwt, request: &'a RequestHeader) -> Result<Cow<'a, [u8]>, Refusal> {
    let query = request.uri.query().unwrap_or_default();
    let arguments = rules.uri_param_names.iter();
    let arguments = arguments.flat_map(|name| query::values(query, name).flatten());
    let cookies = rules.cookie_names.iter();
    let cookies = cookies.filter_map(|name| cookie::value(&request.headers, name));
    let fields = rules.header_names.iter();
    let fields = fields.flat_map(|name| request.headers.get_all(name));
    let bearers = fields.filter_map(|value| after_scheme(value.as_bytes(), "bearer"));
    let tokens = arguments.chain(cookies.chain(bearers).map(Cow::Borrowed));
    let mut tokens = tokens.filter(|token| !token.is_empty());
    let first = tokens.next().ok_or(Refusal::NoToken)?;
    if tokens.any(|token| token != first) {
        return Err(Refusal::SeveralTokens);
    }
    Ok(first)
}

/// A token that can be read; whether it can be believed is another question.
struct Token<'a> {
    /// What is signed: the first two parts and the dot between them.
    message: &'a [u8],
    signature: &'a str,
    algorithm: &'static str,
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl<'a> Token<'a> {
    fn parse(token: &'a [u8]) -> Result<Self, Refusal> {
        let broken = || Refusal::Bad("invalid JSON");
        let text = std::str::from_utf8(token).map_err(|_| broken())?;
        let (header, rest) = text.split_once('.').ok_or_else(broken)?;
        let (claims, signature) = rest.split_once('.').ok_or_else(broken)?;
        let header_value = json(header).ok_or_else(broken)?;
        let claims_value = json(claims).ok_or_else(broken)?;
        let Value::Object(header_fields) = header_value else {
            return Err(Refusal::Bad("invalid header"));
        };
        let named = header_fields.get("alg").and_then(Value::as_str);
        let algorithm = ALGORITHMS.into_iter().find(|name| Some(*name) == named);
        let algorithm = algorithm.ok_or(Refusal::Bad("invalid alg"))?;
        let Value::Object(claims_fields) = claims_value else {
            return Err(Refusal::Bad("invalid claims"));
        };
        if signature.is_empty() {
            return Err(Refusal::Bad("invalid signature"));
        }
        Ok(Self {
            message: &token[..header.len() + 1 + claims.len()],
            signature,
            algorithm,
            header: header_fields,
            claims: claims_fields,
        })
    }

    /// Returns who is to have issued the token: the claim of this name, else the header parameter.
    fn issuer(&self, name: &str) -> Result<&str, Refusal> {
        let is_there = |value: &&Value| !matches!(value, Value::Null | Value::Bool(false));
        let claim = self.claims.get(name).filter(is_there);
        match claim.or_else(|| self.header.get(name).filter(is_there)) {
            None => Err(Refusal::NoIssuer),
            Some(Value::String(issuer)) if !issuer.is_empty() => Ok(issuer),
            Some(_) => Err(Refusal::InvalidIssuer),
        }
    }
}

fn json(part: &str) -> Option<Value> {
    serde_json::from_slice(&decode_base64(part.as_bytes())?).ok()
}

/// Checks the claims that the plugin wants checked; times are in seconds (RFC 7519 §4.1).
fn check_claims(rules: &model::Jwt, claims: &Map<String, Value>, now: Duration) -> Result<(), Refusal> {
    let number = |name: &str| claims.get(name).and_then(Value::as_f64);
    let now = now.as_secs() as f64;
    let mut wrong = Vec::new();
    if rules.verify_exp {
        match number("exp") {
            None => wrong.push(("exp", "must be a number")),
            Some(end) if end <= now => wrong.push(("exp", "token expired")),
            Some(_) => {}
        }
    }
    if rules.verify_nbf {
        match number("nbf") {
            None => wrong.push(("nbf", "must be a number")),
            Some(begin) if begin > now => wrong.push(("nbf", "token not valid yet")),
            Some(_) => {}
        }
    }
    if let (true, Some(longest)) = (wrong.is_empty(), rules.maximum_expiration)
        && number("exp").is_none_or(|end| end - now > longest.as_secs_f64())
    {
        wrong.push(("exp", "exceeds maximum allowed expiration"));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Refusal::Claims(wrong))
    }
}

impl Refusal {
    /// Returns Kong's answer.
    fn answer(self, jwt: &Jwt) -> Answer {
        let name = &jwt.rules.key_claim_name;
        let challenge: &HeaderValue = match self {
            Self::NoToken => &jwt.common.challenge,
            _ => &jwt.challenge_of_invalid,
        };
        let text: Text = match self {
            Self::NoToken => "Unauthorized".into(),
            Self::SeveralTokens => "Multiple tokens provided".into(),
            Self::Bad(reason) => format!("Bad token; {reason}").into(),
            Self::NoIssuer => format!("No mandatory '{name}' in claims").into(),
            Self::InvalidIssuer => format!("Invalid '{name}' in claims").into(),
            Self::UnknownIssuer => format!("No credentials found for given '{name}'").into(),
            Self::Algorithm => "Invalid algorithm".into(),
            Self::Key => "Invalid key/secret".into(),
            Self::Signature => "Invalid signature".into(),
            Self::Claims(wrong) => Text::Claims(wrong),
        };
        Answer::saying(StatusCode::UNAUTHORIZED, text).challenging(challenge.clone())
    }
}
