//! Which plugins are for a Route: of each name the most specific one.

use std::borrow::Borrow;
use std::collections::HashMap;

use ahash::RandomState;
use uuid::Uuid;

use crate::model::{Plugin, PluginConfig, Scope};

/// The plugins of one Route, or of one scope, in the order in which they run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RoutePlugins<'a> {
    /// `jwt`
    pub jwt: Option<&'a Plugin>,
    /// `key-auth`
    pub key_auth: Option<&'a Plugin>,
    /// `basic-auth`
    pub basic_auth: Option<&'a Plugin>,
    /// `acl`
    pub acl: Option<&'a Plugin>,
    /// `canary`
    pub canary: Option<&'a Plugin>,
}

/// Every plugin, by its scope: found in four look-ups for a Route, however many there are.
#[derive(Debug, Default)]
pub struct PluginIndex<'a> {
    by_scope: HashMap<Scope, RoutePlugins<'a>, RandomState>,
}

impl<'a> PluginIndex<'a> {
    /// Orders plugins by scope. Of two of one name in one scope, which no checked configuration has,
    /// the first counts.
    pub fn new<P: Borrow<Plugin>>(plugins: &'a [P]) -> Self {
        let mut by_scope: HashMap<Scope, RoutePlugins<'a>, RandomState> = HashMap::default();
        for plugin in plugins.iter().map(Borrow::borrow) {
            let of_scope = by_scope.entry(plugin.scope).or_default();
            of_scope.of_name(&plugin.config).get_or_insert(plugin);
        }
        Self { by_scope }
    }

    /// Returns the plugins for requests that come by a Route: for each name Route and Service together
    /// precede the Route, that the Service, and that what is for everybody.
    pub fn plugins_for(&self, route: Uuid, service: Option<Uuid>) -> RoutePlugins<'a> {
        let of_both = service.map(|service| Scope::RouteOfService { route, service });
        let of_route = Some(Scope::Route(route));
        let of_service = service.map(Scope::Service);
        let scopes = [of_both, of_route, of_service, Some(Scope::Global)];
        let found = scopes
            .into_iter()
            .flatten()
            .filter_map(|scope| self.by_scope.get(&scope));
        found.fold(RoutePlugins::default(), |specific, general| RoutePlugins {
            jwt: specific.jwt.or(general.jwt),
            key_auth: specific.key_auth.or(general.key_auth),
            basic_auth: specific.basic_auth.or(general.basic_auth),
            acl: specific.acl.or(general.acl),
            canary: specific.canary.or(general.canary),
        })
    }
}

impl<'a> RoutePlugins<'a> {
    /// Returns the plugins in the order in which they run.
    pub fn in_order(&self) -> impl Iterator<Item = &'a Plugin> {
        let all = [self.jwt, self.key_auth, self.basic_auth, self.acl, self.canary];
        all.into_iter().flatten()
    }

    /// The place for plugins of this name.
    fn of_name(&mut self, config: &PluginConfig) -> &mut Option<&'a Plugin> {
        match config {
            PluginConfig::Jwt(_) => &mut self.jwt,
            PluginConfig::KeyAuth(_) => &mut self.key_auth,
            PluginConfig::BasicAuth(_) => &mut self.basic_auth,
            PluginConfig::Acl(_) => &mut self.acl,
            PluginConfig::Canary(_) => &mut self.canary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Acl, AclRule, Authentication, BasicAuth};

    const ROUTE: Uuid = Uuid::from_u128(1);
    const SERVICE: Uuid = Uuid::from_u128(2);
    const OTHER: Uuid = Uuid::from_u128(3);

    fn plugin(id: u128, scope: Scope, config: PluginConfig) -> Plugin {
        Plugin {
            id: Uuid::from_u128(id),
            scope,
            protocols: Vec::new(),
            config,
        }
    }

    fn basic_auth(id: u128, scope: Scope) -> Plugin {
        let common = Authentication::default();
        plugin(id, scope, PluginConfig::BasicAuth(BasicAuth { common }))
    }

    fn acl(id: u128, scope: Scope) -> Plugin {
        let acl = Acl {
            rule: AclRule::Deny(Vec::new()),
            hide_groups_header: false,
            include_consumer_groups: false,
        };
        plugin(id, scope, PluginConfig::Acl(acl))
    }

    /// Insists on the ids of `basic-auth` and `acl` for the Route.
    #[track_caller]
    fn check(plugins: &[Plugin], service: Option<Uuid>, expected: [Option<u128>; 2]) {
        let found = PluginIndex::new(plugins).plugins_for(ROUTE, service);
        let ids = [found.basic_auth, found.acl].map(|plugin| plugin.map(|plugin| plugin.id.as_u128()));
        assert_eq!(ids, expected);
    }

    #[test]
    fn the_most_specific_of_each_name_is_taken() {
        let both = Scope::RouteOfService {
            route: ROUTE,
            service: SERVICE,
        };
        let mut plugins = vec![
            basic_auth(1, Scope::Global),
            basic_auth(2, Scope::Service(SERVICE)),
            basic_auth(3, Scope::Route(ROUTE)),
            basic_auth(4, both),
        ];
        for expected in [4, 3, 2, 1] {
            check(&plugins, Some(SERVICE), [Some(expected), None]);
            plugins.pop();
        }
        check(&plugins, Some(SERVICE), [None, None]);
    }

    #[test]
    fn names_do_not_hide_each_other() {
        let plugins = [
            acl(1, Scope::Global),
            basic_auth(2, Scope::Route(ROUTE)),
            acl(3, Scope::Service(SERVICE)),
        ];
        check(&plugins, Some(SERVICE), [Some(2), Some(3)]);
        check(&plugins, None, [Some(2), Some(1)]);
    }

    #[test]
    fn plugins_of_others_are_not_taken() {
        let plugins = [
            basic_auth(1, Scope::Route(OTHER)),
            basic_auth(2, Scope::Service(OTHER)),
            basic_auth(
                3,
                Scope::RouteOfService {
                    route: ROUTE,
                    service: OTHER,
                },
            ),
            basic_auth(
                4,
                Scope::RouteOfService {
                    route: OTHER,
                    service: SERVICE,
                },
            ),
        ];
        check(&plugins, Some(SERVICE), [None, None]);
        check(&plugins, None, [None, None]);
    }
}
