//! Plugins.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use serde_json::Value;

use super::{Findings, read, route::route_protocol};
use crate::config::document as written;
use crate::entity::Entity;
use crate::model::{
    Acl, AclRule, Audience, Authentication, BasicAuth, Canary, CanaryDestination, Identifier, Jwt, KeyAuth,
    Plugin, PluginConfig, Ramp, Schedule, Scope, Share,
};

/// Builds a plugin.
pub(super) fn plugin(from: &[Arc<Entity>], findings: &mut Findings) -> Option<Plugin> {
    // One that is not enabled has been checked, and that is all.
    let entity = from
        .first()
        .filter(|entity| entity.values.get("enabled") != Some(&Value::Bool(false)))?;
    let plugin = read::<written::Plugin>(&entity.values, entity, findings)?;
    let mut protocols = Vec::new();
    for name in plugin.protocols.iter().filter(|name| !name.starts_with("grpc")) {
        let protocol = route_protocol(name);
        if !protocols.contains(&protocol) {
            protocols.push(protocol);
        }
    }
    protocols.sort_by_key(|protocol| *protocol != crate::model::RouteProtocol::Http);
    Some(Plugin {
        id: entity.id,
        scope: scope_of(entity),
        protocols,
        config: config(&plugin, entity, findings)?,
    })
}

/// Returns which requests a plugin is for.
fn scope_of(plugin: &Entity) -> Scope {
    match (plugin.reference("route"), plugin.reference("service")) {
        (Some(route), Some(service)) => Scope::RouteOfService { route, service },
        (Some(route), None) => Scope::Route(route),
        (None, Some(service)) => Scope::Service(service),
        (None, None) => Scope::Global,
    }
}

fn config(plugin: &written::Plugin, entity: &Entity, findings: &mut Findings) -> Option<PluginConfig> {
    let config = &plugin.config;
    Some(match &*plugin.name {
        "key-auth" => {
            let config = read::<written::KeyAuth>(config, entity, findings)?;
            PluginConfig::KeyAuth(KeyAuth {
                common: Authentication {
                    anonymous: config.anonymous,
                    hide_credentials: config.hide_credentials,
                    realm: config.realm,
                },
                key_names: config.key_names,
                in_header: config.key_in_header,
                in_query: config.key_in_query,
                run_on_preflight: config.run_on_preflight,
            })
        }
        "basic-auth" => {
            let config = read::<written::BasicAuth>(config, entity, findings)?;
            PluginConfig::BasicAuth(BasicAuth {
                common: Authentication {
                    anonymous: config.anonymous,
                    hide_credentials: config.hide_credentials,
                    realm: config.realm,
                },
            })
        }
        "jwt" => {
            let config = read::<written::Jwt>(config, entity, findings)?;
            let verifies = |claim: &str| config.claims_to_verify.iter().any(|one| one == claim);
            PluginConfig::Jwt(Jwt {
                verify_exp: verifies("exp"),
                verify_nbf: verifies("nbf"),
                common: Authentication {
                    anonymous: config.anonymous,
                    hide_credentials: false,
                    realm: config.realm,
                },
                uri_param_names: config.uri_param_names,
                header_names: config
                    .header_names
                    .iter()
                    .filter_map(|name| header(name))
                    .collect(),
                cookie_names: config.cookie_names,
                key_claim_name: config.key_claim_name,
                secret_is_base64: config.secret_is_base64,
                maximum_expiration: Some(seconds(config.maximum_expiration)).filter(|time| !time.is_zero()),
                run_on_preflight: config.run_on_preflight,
            })
        }
        "acl" => {
            let config = read::<written::AclConfig>(config, entity, findings)?;
            PluginConfig::Acl(Acl {
                rule: if config.allow.is_empty() {
                    AclRule::Deny(config.deny)
                } else {
                    AclRule::Allow(config.allow)
                },
                hide_groups_header: config.hide_groups_header,
                include_consumer_groups: config.include_consumer_groups,
            })
        }
        "canary" => {
            let config = read::<written::Canary>(config, entity, findings)?;
            PluginConfig::Canary(canary(config, entity.created_at))
        }
        _ => return None,
    })
}

fn canary(config: written::Canary, created_at: Option<f64>) -> Canary {
    Canary {
        audience: audience(&config, created_at),
        destination: CanaryDestination {
            host: config.upstream_host,
            port: config.upstream_port,
            uri: config.upstream_uri,
        },
        falls_back: config.upstream_fallback,
        override_header: config.canary_by_header_name.as_deref().and_then(header),
        salt: config.salt,
    }
}

fn audience(config: &written::Canary, created_at: Option<f64>) -> Audience {
    let schedule = match config.percentage {
        Some(percentage) => {
            // The check has seen to it that this is whole but for the float's error.
            let basis_points = (percentage * 100.0).round() as u16;
            Schedule::Fixed(Share::new(basis_points).unwrap_or(Share::NONE))
        }
        None => Schedule::Ramp(Ramp {
            start: seconds(config.start.or(created_at).unwrap_or_default()),
            // What is too short for the clock still is more than nothing.
            duration: seconds(config.duration).max(Duration::from_nanos(1)),
            step_count: config.steps,
        }),
    };
    let cookie = config.cookie.clone().map(Identifier::Cookie);
    let from_consumer = [Some(Identifier::Consumer), cookie.clone(), Some(Identifier::Ip)];
    let identifiers: Vec<Identifier> = match &*config.hash {
        "allow" => return Audience::Allow(config.groups.clone()),
        "deny" => return Audience::Deny(config.groups.clone()),
        "none" => Vec::new(),
        "ip" => vec![Identifier::Ip],
        "cookie" => [cookie, Some(Identifier::Consumer), Some(Identifier::Ip)]
            .into_iter()
            .flatten()
            .collect(),
        "header" => {
            let header = config.hash_header.as_deref().and_then(header);
            let header = header.map(Identifier::Header);
            std::iter::once(header).chain(from_consumer).flatten().collect()
        }
        _ => from_consumer.into_iter().flatten().collect(),
    };
    Audience::Share {
        schedule,
        identifiers,
        groups_first: if config.groups_then_percentage {
            config.groups.clone()
        } else {
            Vec::new()
        },
    }
}

fn header(name: &str) -> Option<HeaderName> {
    HeaderName::from_bytes(name.as_bytes()).ok()
}

/// Takes seconds that the table has bounded.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::build::tests::load;
    use crate::model::RouteProtocol;

    fn plugins(text: &str) -> Vec<Arc<Plugin>> {
        let base = "services: [{name: s, host: h}]\nroutes: [{name: r, service: s, paths: [/]}]\n";
        load(&format!("{base}plugins: [{text}]")).plugins.to_vec()
    }

    fn config_of(text: &str) -> PluginConfig {
        plugins(text)[0].config.clone()
    }

    fn audience_of(fields: &str) -> Audience {
        let text = format!("{{name: canary, config: {{upstream_host: h, {fields}}}}}");
        let PluginConfig::Canary(canary) = config_of(&text) else {
            panic!("a canary")
        };
        canary.audience
    }

    fn identifiers_of(fields: &str) -> Vec<Identifier> {
        let Audience::Share { identifiers, .. } = audience_of(&format!("percentage: 5, {fields}")) else {
            panic!("a share")
        };
        identifiers
    }

    #[test]
    fn a_plugin_has_a_scope_and_an_id_that_its_config_does_not_change() {
        let all = |percentage: u8| {
            let config = format!("config: {{percentage: {percentage}, upstream_host: h}}");
            plugins(&format!(
                "{{name: canary, {config}}}, {{name: canary, service: s, {config}}}, {{name: canary, route: r, {config}}}, {{name: canary, route: r, service: s, protocols: [https, grpc], {config}}}, {{name: jwt, enabled: false}}"
            ))
        };
        let (before, after) = (all(1), all(2));
        assert_eq!(before.len(), 4, "the one that is not enabled is left out");
        let (service, route) = (
            before[1].scope.service().unwrap(),
            before[2].scope.route().unwrap(),
        );
        let scopes: Vec<_> = before.iter().map(|plugin| plugin.scope).collect();
        assert_eq!(
            scopes,
            [
                Scope::Global,
                Scope::Service(service),
                Scope::Route(route),
                Scope::RouteOfService { route, service }
            ]
        );
        assert_eq!(before[0].protocols, [RouteProtocol::Http, RouteProtocol::Https]);
        assert_eq!(before[3].protocols, [RouteProtocol::Https]);
        let ids = |plugins: &[Arc<Plugin>]| plugins.iter().map(|plugin| plugin.id).collect::<Vec<_>>();
        assert_eq!(ids(&before), ids(&after));
        let nested = load(
            "services: [{name: s, host: h, plugins: [{name: canary, config: {percentage: 7, upstream_host: h}}]}]",
        );
        assert_eq!(nested.plugins[0].id, before[1].id);
        assert_eq!(nested.plugins[0].scope, Scope::Service(nested.services[0].id));
    }

    #[test]
    fn kongs_defaults_arrive() {
        let expected = KeyAuth {
            common: Authentication::default(),
            key_names: vec!["apikey".to_owned()],
            in_header: true,
            in_query: true,
            run_on_preflight: true,
        };
        assert_eq!(config_of("{name: key-auth}"), PluginConfig::KeyAuth(expected));
        let common = Authentication {
            realm: Some("service".to_owned()),
            ..Authentication::default()
        };
        assert_eq!(
            config_of("{name: basic-auth, config: null}"),
            PluginConfig::BasicAuth(BasicAuth { common })
        );
        let expected = Jwt {
            common: Authentication::default(),
            uri_param_names: vec!["jwt".to_owned()],
            header_names: vec![http::header::AUTHORIZATION],
            cookie_names: Vec::new(),
            key_claim_name: "iss".to_owned(),
            secret_is_base64: false,
            verify_exp: false,
            verify_nbf: false,
            maximum_expiration: None,
            run_on_preflight: true,
        };
        assert_eq!(config_of("{name: jwt}"), PluginConfig::Jwt(expected));
        let expected = Acl {
            rule: AclRule::Deny(vec!["a".to_owned()]),
            hide_groups_header: false,
            include_consumer_groups: false,
        };
        assert_eq!(
            config_of("{name: acl, config: {deny: [a], allow: []}}"),
            PluginConfig::Acl(expected)
        );
    }

    #[test]
    fn an_identifier_is_looked_for_in_a_fixed_order() {
        let visitor = || Identifier::Cookie("v".to_owned());
        let user = Identifier::Header(HeaderName::from_static("x-user"));
        let (consumer, ip) = (Identifier::Consumer, Identifier::Ip);
        for (fields, expected) in [
            ("hash: consumer", vec![consumer.clone(), ip.clone()]),
            ("cookie: v", vec![consumer.clone(), visitor(), ip.clone()]),
            (
                "hash: cookie, cookie: v",
                vec![visitor(), consumer.clone(), ip.clone()],
            ),
            (
                "hash: header, hash_header: X-User",
                vec![user.clone(), consumer.clone(), ip.clone()],
            ),
            (
                "hash: header, hash_header: X-User, cookie: v",
                vec![user, consumer, visitor(), ip.clone()],
            ),
            ("hash: ip", vec![ip]),
            ("hash: none", vec![]),
        ] {
            assert_eq!(identifiers_of(fields), expected, "{fields}");
        }
    }

    #[test]
    fn who_gets_the_canary_is_one_of_three_things() {
        let groups = || vec!["a".to_owned()];
        assert_eq!(
            audience_of("hash: whitelist, groups: [a]"),
            Audience::Allow(groups())
        );
        assert_eq!(audience_of("hash: deny, groups: [a]"), Audience::Deny(groups()));
        let share = |schedule, groups_first| Audience::Share {
            schedule,
            identifiers: vec![Identifier::Ip],
            groups_first,
        };
        let fixed = Schedule::Fixed(Share::new(7).unwrap());
        assert_eq!(
            audience_of("hash: ip, percentage: 0.07, groups: [a], groups_then_percentage: true"),
            share(fixed, groups())
        );
        let ramp = Schedule::Ramp(Ramp {
            start: Duration::from_millis(1500),
            duration: Duration::from_secs(3600),
            step_count: std::num::NonZeroU32::new(1000).unwrap(),
        });
        assert_eq!(audience_of("hash: ip, start: 1.5"), share(ramp, Vec::new()));
        let created = "{name: canary, created_at: 1.5, config: {upstream_host: h, hash: ip}}";
        let PluginConfig::Canary(canary) = config_of(created) else {
            panic!("a canary")
        };
        assert_eq!(canary.audience, share(ramp, Vec::new()));
    }

    #[test]
    fn every_share_of_two_decimals_is_itself() {
        for basis_points in 0..=Share::WHOLE {
            let percentage = f64::from(basis_points) / 100.0;
            assert_eq!((percentage * 100.0).round() / 100.0, percentage);
            assert_eq!((percentage * 100.0).round() as u16, basis_points);
        }
    }
}
