//! The door with real guards and Consumers, without a proxy around it.

mod basic_auth;
mod jwt;
mod key_auth;
mod together;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use uuid::Uuid;

use super::*;
use crate::model::{
    self, Acl, AclRule, Authentication, BasicAuth, BasicCredential, JwtAlgorithm, JwtCredential, KeyAuth,
    KeyCredential, Masked, PasswordHash, Plugin, PluginConfig, RouteProtocol, Scope,
};
use crate::proxy::respond::Text;
use crate::snapshot::PluginIndex;

const NOW: u64 = 1_800_000_000;
const ROUTE: Uuid = Uuid::from_u128(1);

/// Alice, with one of everything and in two groups; Bob, with a key and in none; `guest`, with nothing.
fn consumers() -> Consumers {
    let person = |number: u128, name: &str| model::Consumer {
        id: Uuid::from_u128(number),
        username: Some(name.to_owned()),
        custom_id: None,
        acl_groups: Vec::new(),
        consumer_groups: Vec::new(),
        keys: vec![KeyCredential {
            id: Uuid::from_u128(number + 100),
            key: Masked::new(format!("{name}-key")),
            expires_at: None,
        }],
        passwords: Vec::new(),
        tokens: Vec::new(),
    };
    let alice_id = Uuid::from_u128(10);
    let mut hasher = Sha1::new();
    hasher.update("pass:word");
    hasher.update(alice_id.to_string());
    let token = |key: &str, algorithm, public_key: Option<&str>| JwtCredential {
        id: Uuid::nil(),
        key: key.to_owned(),
        algorithm,
        secret: Masked::new("secret"),
        public_key: public_key.map(str::to_owned),
    };
    let public = include_str!("../../../../tests/data/keys/rsa.pub.pem");
    let alice = model::Consumer {
        acl_groups: vec!["staff".to_owned(), "testers".to_owned()],
        consumer_groups: vec!["gold".to_owned()],
        passwords: vec![BasicCredential {
            id: Uuid::nil(),
            username: "al".to_owned(),
            password: PasswordHash(hasher.finalize().into()),
        }],
        tokens: vec![
            token("hmac", JwtAlgorithm::Hs256, None),
            token("rsa", JwtAlgorithm::Rs256, Some(public)),
            token("broken", JwtAlgorithm::Rs256, None),
        ],
        ..person(10, "alice")
    };
    let guest = model::Consumer {
        keys: Vec::new(),
        ..person(30, "guest")
    };
    Consumers::build(&[alice, person(20, "bob"), guest])
}

fn plugin(config: PluginConfig) -> Plugin {
    Plugin {
        id: Uuid::new_v4(),
        scope: Scope::Global,
        protocols: vec![RouteProtocol::Http, RouteProtocol::Https],
        config,
    }
}

fn anonymous(name: Option<&str>) -> Authentication {
    Authentication {
        anonymous: name.map(str::to_owned),
        ..Authentication::default()
    }
}

fn key_auth(name: Option<&str>) -> PluginConfig {
    PluginConfig::KeyAuth(KeyAuth {
        common: anonymous(name),
        key_names: vec!["apikey".to_owned(), "X-Key".to_owned()],
        in_header: true,
        in_query: true,
        run_on_preflight: true,
    })
}

fn basic_auth(name: Option<&str>) -> PluginConfig {
    let common = Authentication {
        realm: Some("service".to_owned()),
        ..anonymous(name)
    };
    PluginConfig::BasicAuth(BasicAuth { common })
}

fn jwt_rules() -> model::Jwt {
    model::Jwt {
        common: anonymous(None),
        uri_param_names: vec!["jwt".to_owned()],
        header_names: vec![http::header::AUTHORIZATION],
        cookie_names: vec!["session".to_owned()],
        key_claim_name: "iss".to_owned(),
        secret_is_base64: false,
        verify_exp: false,
        verify_nbf: false,
        maximum_expiration: None,
        run_on_preflight: true,
    }
}

fn acl(rule: AclRule) -> PluginConfig {
    PluginConfig::Acl(Acl {
        rule,
        hide_groups_header: false,
        include_consumer_groups: false,
    })
}

fn allow(groups: &[&str]) -> PluginConfig {
    acl(AclRule::Allow(
        groups.iter().map(|name| (*name).to_owned()).collect(),
    ))
}

fn deny(groups: &[&str]) -> PluginConfig {
    acl(AclRule::Deny(
        groups.iter().map(|name| (*name).to_owned()).collect(),
    ))
}

fn get(target: &str, fields: &[(&'static str, &str)]) -> RequestHeader {
    let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
    for (name, value) in fields {
        request.append_header(*name, *value).unwrap();
    }
    request
}

fn basic(text: &str) -> String {
    format!("Basic {}", STANDARD.encode(text))
}

/// Sends a request to a door with these plugins.
fn visit(plugins: Vec<PluginConfig>, request: &RequestHeader) -> (String, Identity, Option<Answer>) {
    visit_by(plugins.into_iter().map(plugin).collect(), request)
}

fn visit_by(plugins: Vec<Plugin>, request: &RequestHeader) -> (String, Identity, Option<Answer>) {
    let consumers = consumers();
    let guard = Guard::build(PluginIndex::new(&plugins).plugins_for(ROUTE, None), &consumers);
    let caller = Caller {
        request,
        consumers: &consumers,
        now: Duration::from_secs(NOW),
        assumed: None,
    };
    let (identity, answer) = identify(&guard, caller);
    let label = identity.consumer.map(|consumer| consumers.get(consumer).label());
    (label.unwrap_or("nobody").to_owned(), identity, answer)
}

/// Insists on who passes.
#[track_caller]
fn check(plugins: Vec<PluginConfig>, request: &RequestHeader, name: &str) -> Identity {
    let (label, identity, answer) = visit(plugins, request);
    assert_eq!((&*label, answer), (name, None));
    assert_eq!(identity.is_anonymous, name == "guest");
    identity
}

/// Insists on a refusal: its status, text and challenge.
#[track_caller]
fn check_refused(
    plugins: Vec<PluginConfig>,
    request: &RequestHeader,
    status: u16,
    text: impl Into<Text>,
    challenge: Option<&str>,
) {
    let (_, _, answer) = visit(plugins, request);
    let answer = answer.expect("nobody passes");
    assert_eq!((answer.status.as_u16(), answer.text), (status, text.into()));
    let actual = answer
        .challenge
        .as_ref()
        .map(|challenge| challenge.to_str().unwrap());
    assert_eq!(actual, challenge);
}
