//! What a request must show to pass: the plugins `jwt`, `key-auth`, `basic-auth` and `acl`, compiled.
//!
//! Names are resolved here, once: `anonymous` to a Consumer, groups to numbers, key names to header
//! names. Routes with the same plugins share one [`Guard`]. What is done with it is
//! `proxy::identify`'s.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use log::warn;
use uuid::Uuid;

use super::consumer::GroupId;
use super::consumers::{ConsumerIndex, Consumers};
use super::plugins::RoutePlugins;
use crate::model::{self, AclRule, Authentication, Plugin, PluginConfig, RouteProtocol};

/// What stands before a Route; its parts run in this order, which is Kong's.
#[derive(Debug)]
pub struct Guard {
    /// The plugin `jwt`.
    pub jwt: Option<Jwt>,
    /// The plugin `key-auth`.
    pub key_auth: Option<KeyAuth>,
    /// The plugin `basic-auth`.
    pub basic_auth: Option<BasicAuth>,
    /// The plugin `acl`.
    pub acl: Option<Acl>,
}

/// What every plugin that identifies Consumers has.
#[derive(Debug)]
pub struct Common {
    /// For whom it runs.
    pub applies: Applies,
    /// Who a request without valid credentials counts as; without it, such a request is refused.
    pub anonymous: Option<Anonymous>,
    /// Takes the credential out of the request.
    pub hides_credentials: bool,
    /// `WWW-Authenticate` of a refusal.
    pub challenge: HeaderValue,
}

/// For which requests a plugin runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applies {
    /// For requests of HTTP at all. As in Kong, `http` and `https` are one here: a plugin that lists either
    /// runs for both, so that none that asks for a credential can be gone round by coming without TLS.
    pub to_http: bool,
    /// For `OPTIONS` too.
    pub to_preflight: bool,
}

/// The Consumer that stands for people without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anonymous {
    /// It exists.
    Consumer(ConsumerIndex),
    /// Nobody has this id or username: such a request is answered 500, and the log has said so when
    /// the configuration came into force.
    Missing(Box<str>),
}

/// The plugin `key-auth`, compiled.
#[derive(Debug)]
pub struct KeyAuth {
    /// What all such plugins have.
    pub common: Common,
    /// Where to look for the key, in this order.
    pub names: Box<[KeyName]>,
}

/// A name that a key may have.
#[derive(Debug)]
pub struct KeyName {
    /// Header field of that name, when it is looked for there.
    pub header: Option<HeaderName>,
    /// Query argument of that name, when it is looked for there.
    pub argument: Option<Box<str>>,
}

/// The plugin `basic-auth`, compiled.
#[derive(Debug)]
pub struct BasicAuth {
    /// What all such plugins have.
    pub common: Common,
}

/// The plugin `jwt`, compiled.
#[derive(Debug)]
pub struct Jwt {
    /// What all such plugins have; `challenge` is for requests without a token.
    pub common: Common,
    /// `WWW-Authenticate` of a refusal of a token.
    pub challenge_of_invalid: HeaderValue,
    /// Where tokens may be, and what is asked of them.
    pub rules: model::Jwt,
}

/// The plugin `acl`, compiled.
#[derive(Debug)]
pub struct Acl {
    /// For whom it runs.
    pub applies: Applies,
    /// Lets the listed through when true, all others when false.
    pub is_allow_list: bool,
    /// The listed groups that anybody is in, ascending.
    pub groups: Box<[GroupId]>,
    /// Tells the origin the Consumer's groups.
    pub shows_groups: bool,
    /// Consumer groups count as ACL groups do.
    pub includes_consumer_groups: bool,
}

impl Applies {
    fn new(protocols: &[RouteProtocol], to_preflight: bool) -> Self {
        Self {
            to_http: !protocols.is_empty(),
            to_preflight,
        }
    }

    /// Says whether the plugin runs for a request.
    pub fn to(self, is_preflight: bool) -> bool {
        self.to_http && (self.to_preflight || !is_preflight)
    }
}

/// The guards of the Routes of the snapshot being built, each compiled once.
pub(super) struct Guards<'a> {
    consumers: &'a Consumers,
    built: HashMap<[Option<Uuid>; 4], Arc<Guard>>,
}

impl<'a> Guards<'a> {
    pub fn new(consumers: &'a Consumers) -> Self {
        Self {
            consumers,
            built: HashMap::new(),
        }
    }

    /// Returns what stands before a Route that has these plugins; none when nothing does.
    pub fn guard(&mut self, plugins: RoutePlugins<'_>) -> Option<Arc<Guard>> {
        let RoutePlugins {
            jwt,
            key_auth,
            basic_auth,
            acl,
            canary: _,
        } = plugins;
        let key = [jwt, key_auth, basic_auth, acl].map(|plugin| plugin.map(|plugin| plugin.id));
        if key == [None; 4] {
            return None;
        }
        let consumers = self.consumers;
        let guard = self
            .built
            .entry(key)
            .or_insert_with(|| Arc::new(Guard::build(plugins, consumers)));
        Some(guard.clone())
    }
}

/// Returns the names of query arguments in which some plugin looks for a credential: what no log shows
/// the values of.
pub(super) fn secret_arguments(plugins: &[Arc<Plugin>]) -> Box<[Box<str>]> {
    let names: BTreeSet<&str> = plugins
        .iter()
        .flat_map(|plugin| match &plugin.config {
            PluginConfig::KeyAuth(key_auth) if key_auth.in_query => &key_auth.key_names[..],
            PluginConfig::Jwt(jwt) => &jwt.uri_param_names,
            _ => &[],
        })
        .map(String::as_str)
        .collect();
    names.into_iter().map(Box::from).collect()
}

impl Guard {
    /// Compiles the plugins of a Route against the Consumers there are.
    pub fn build(plugins: RoutePlugins<'_>, consumers: &Consumers) -> Self {
        // Each place holds plugins of its name only, so that no other configuration is met here.
        Self {
            jwt: plugins.jwt.and_then(|plugin| match &plugin.config {
                PluginConfig::Jwt(jwt) => Some(Jwt::build(plugin, jwt, consumers)),
                _ => None,
            }),
            key_auth: plugins.key_auth.and_then(|plugin| match &plugin.config {
                PluginConfig::KeyAuth(key_auth) => Some(KeyAuth::build(plugin, key_auth, consumers)),
                _ => None,
            }),
            basic_auth: plugins.basic_auth.and_then(|plugin| match &plugin.config {
                PluginConfig::BasicAuth(basic_auth) => {
                    let common = Common::build(plugin, &basic_auth.common, "Basic", true, consumers);
                    Some(BasicAuth { common })
                }
                _ => None,
            }),
            acl: plugins.acl.and_then(|plugin| match &plugin.config {
                PluginConfig::Acl(acl) => Some(Acl::build(plugin, acl, consumers)),
                _ => None,
            }),
        }
    }
}

impl Common {
    fn build(
        plugin: &Plugin,
        source: &Authentication,
        scheme: &str,
        to_preflight: bool,
        consumers: &Consumers,
    ) -> Self {
        let anonymous = source
            .anonymous
            .as_deref()
            .map(|name| match consumers.find(name) {
                Some(consumer) => Anonymous::Consumer(consumer),
                None => {
                    warn!(
                        "plugin {} ({}): anonymous consumer {name} is configured but doesn't exist; requests \
                         without credentials are answered 500",
                        plugin.config.name(),
                        plugin.id
                    );
                    Anonymous::Missing(name.into())
                }
            });
        Self {
            applies: Applies::new(&plugin.protocols, to_preflight),
            anonymous,
            hides_credentials: source.hide_credentials,
            challenge: challenge(scheme, source.realm.as_deref(), None),
        }
    }
}

impl KeyAuth {
    fn build(plugin: &Plugin, source: &model::KeyAuth, consumers: &Consumers) -> Self {
        let names = source.key_names.iter().map(|name| KeyName {
            header: source.in_header.then(|| name.parse().ok()).flatten(),
            argument: source.in_query.then(|| name.as_str().into()),
        });
        Self {
            common: Common::build(plugin, &source.common, "Key", source.run_on_preflight, consumers),
            names: names.collect(),
        }
    }
}

impl Jwt {
    fn build(plugin: &Plugin, source: &model::Jwt, consumers: &Consumers) -> Self {
        let realm = source.common.realm.as_deref();
        Self {
            common: Common::build(
                plugin,
                &source.common,
                "Bearer",
                source.run_on_preflight,
                consumers,
            ),
            challenge_of_invalid: challenge("Bearer", realm, Some("invalid_token")),
            rules: source.clone(),
        }
    }
}

impl Acl {
    fn build(plugin: &Plugin, source: &model::Acl, consumers: &Consumers) -> Self {
        let (is_allow_list, names) = match &source.rule {
            AclRule::Allow(names) => (true, names),
            AclRule::Deny(names) => (false, names),
        };
        Self {
            applies: Applies::new(&plugin.protocols, true),
            is_allow_list,
            groups: consumers.groups(names),
            shows_groups: !source.hide_groups_header,
            includes_consumer_groups: source.include_consumer_groups,
        }
    }
}

/// `Bearer realm="r", error="e"` (RFC 9110 §11.6.1, RFC 6750 §3).
fn challenge(scheme: &str, realm: Option<&str>, error: Option<&str>) -> HeaderValue {
    let mut text = scheme.to_owned();
    let mut separator = " ";
    for (name, value) in [("realm", realm), ("error", error)] {
        let Some(value) = value else { continue };
        text += separator;
        text += name;
        text += "=\"";
        for c in value.chars() {
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push('"');
        separator = ", ";
    }
    // A realm with control characters cannot stand in a header; the scheme always can.
    HeaderValue::from_bytes(text.as_bytes())
        .or_else(|_| HeaderValue::from_str(scheme))
        .unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_kongs() {
        for (realm, error, expected) in [
            (None, None, "Key"),
            (Some("shop"), None, "Key realm=\"shop\""),
            (None, Some("invalid_token"), "Key error=\"invalid_token\""),
            (Some("a"), Some("b"), "Key realm=\"a\", error=\"b\""),
            (Some("a\"b\\"), None, "Key realm=\"a\\\"b\\\\\""),
            (Some("line\nbreak"), None, "Key"),
        ] {
            assert_eq!(challenge("Key", realm, error), expected);
        }
    }

    #[test]
    fn a_plugin_runs_for_its_protocols_and_methods() {
        use RouteProtocol::{Http, Https};
        for (protocols, to_preflight, expected) in [
            (&[Http, Https][..], true, [true, true]),
            (&[Http, Https], false, [true, false]),
            (&[Https], true, [true, true]),
            (&[Http], false, [true, false]),
            (&[], true, [false; 2]),
        ] {
            let applies = Applies::new(protocols, to_preflight);
            let actual = [false, true].map(|is_preflight| applies.to(is_preflight));
            assert_eq!(actual, expected, "{protocols:?} {to_preflight}");
        }
    }
}
