//! What a path is for, and which methods it knows.

use super::address::{self, Address, COLLECTION, EMPTY, ITEM, LINK};
use super::wire::openapi::Operation;

/// What a path is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint<'a> {
    Information,
    Status,
    Endpoints,
    OpenApi,
    Metrics,
    Configuration,
    Drift,
    Audit,
    Explain,
    Tags(Option<&'a str>),
    EnabledPlugins,
    Schema(&'a str),
    PluginSchema(&'a str),
    Validate(&'a str),
    ValidatePlugin,
    Health(&'a str),
    Drain(&'a str),
    AllTargets(&'a str),
    /// A Target's health is set: Upstream, Target, address, and to what.
    SetHealth(&'a str, &'a str, Option<&'a str>, bool),
    Group(&'a str),
    Members(&'a str),
    Member(&'a str, &'a str),
    GroupsOf(&'a str),
    GroupOf(&'a str, &'a str),
    /// A collection that Serin does not have.
    Empty(&'a str),
    Entities(Address<'a>),
}

const READ: &[&str] = &["GET"];
const SET: &[&str] = &["POST", "PUT"];
const MEMBER: &[&str] = &["DELETE"];

impl<'a> Endpoint<'a> {
    /// Finds what the parts of a path are for.
    pub(super) fn find(parts: &[&'a str]) -> Option<Self> {
        Some(match *parts {
            [] | ["kong"] => Self::Information,
            ["status"] => Self::Status,
            ["endpoints"] => Self::Endpoints,
            ["openapi.json"] => Self::OpenApi,
            ["metrics"] => Self::Metrics,
            ["config"] => Self::Configuration,
            ["drift"] => Self::Drift,
            ["audit"] => Self::Audit,
            ["explain"] => Self::Explain,
            ["tags"] => Self::Tags(None),
            ["tags", tag] => Self::Tags(Some(tag)),
            ["plugins", "enabled"] => Self::EnabledPlugins,
            ["plugins", "schema", name] | ["schemas", "plugins", name] if name != "validate" => {
                Self::PluginSchema(name)
            }
            ["schemas", "plugins", "validate"] => Self::ValidatePlugin,
            ["schemas", entity] => Self::Schema(entity),
            ["schemas", entity, "validate"] => Self::Validate(entity),
            ["upstreams", upstream, "health"] => Self::Health(upstream),
            ["upstreams", upstream, "drain"] => Self::Drain(upstream),
            ["upstreams", upstream, "targets", "all"] => Self::AllTargets(upstream),
            [
                "upstreams",
                upstream,
                "targets",
                target,
                verb @ ("healthy" | "unhealthy"),
            ] => Self::SetHealth(upstream, target, None, verb == "healthy"),
            [
                "upstreams",
                upstream,
                "targets",
                target,
                address,
                verb @ ("healthy" | "unhealthy"),
            ] => Self::SetHealth(upstream, target, Some(address), verb == "healthy"),
            ["consumer_groups", group] => Self::Group(group),
            ["consumer_groups", group, "consumers"] => Self::Members(group),
            ["consumer_groups", group, "consumers", consumer] => Self::Member(group, consumer),
            ["consumers", consumer, "consumer_groups"] => Self::GroupsOf(consumer),
            ["consumers", consumer, "consumer_groups", group] => Self::GroupOf(consumer, group),
            [name] | [name, _] if EMPTY.contains(&name) => Self::Empty(name),
            ref parts => Self::Entities(address::resolve(parts)?),
        })
    }

    /// Returns the methods that it knows, in the order of the alphabet, without HEAD and OPTIONS.
    pub(super) fn methods(&self) -> &'static [&'static str] {
        match self {
            Self::Validate(_) | Self::ValidatePlugin => &["POST"],
            Self::SetHealth(..) => SET,
            Self::Member(..) | Self::GroupOf(..) => MEMBER,
            Self::Group(_) => ITEM,
            Self::Configuration | Self::Explain | Self::Members(_) | Self::GroupsOf(_) => COLLECTION,
            Self::Entities(address) => match address {
                Address::Collection(_) | Address::Children(..) => COLLECTION,
                Address::Item(..) | Address::Child(..) => ITEM,
                Address::Link(..) => LINK,
            },
            _ => READ,
        }
    }

    /// Returns the methods as `Allow` names them.
    pub(super) fn allow(&self) -> String {
        let mut methods: Vec<&str> = self.methods().to_vec();
        methods.push("OPTIONS");
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.sort_unstable();
        methods.join(", ")
    }
}

/// Returns every path with what can be done there.
pub(super) fn operations() -> Vec<Operation> {
    const OTHERS: [&str; 27] = [
        "/",
        "/audit",
        "/config",
        "/consumer_groups/{consumer_group}/consumers",
        "/consumer_groups/{consumer_group}/consumers/{consumer}",
        "/consumers/{consumer}/consumer_groups",
        "/consumers/{consumer}/consumer_groups/{consumer_group}",
        "/drift",
        "/endpoints",
        "/explain",
        "/metrics",
        "/openapi.json",
        "/plugins/enabled",
        "/plugins/schema/{plugin}",
        "/schemas/plugins/validate",
        "/schemas/plugins/{plugin}",
        "/schemas/{entity}",
        "/schemas/{entity}/validate",
        "/status",
        "/tags",
        "/tags/{tag}",
        "/upstreams/{upstream}/drain",
        "/upstreams/{upstream}/health",
        "/upstreams/{upstream}/targets/all",
        "/upstreams/{upstream}/targets/{target}/healthy",
        "/upstreams/{upstream}/targets/{target}/unhealthy",
        "/upstreams/{upstream}/targets/{target}/{address}/healthy",
    ];
    let others = OTHERS.into_iter().map(|path| {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        Operation {
            path: path.to_owned(),
            methods: Endpoint::find(&parts).map_or(&[][..], |endpoint| endpoint.methods()),
            entity: None,
            is_list: false,
        }
    });
    let mut operations: Vec<Operation> = others.chain(address::operations()).collect();
    operations.sort_by(|a, b| a.path.cmp(&b.path));
    operations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_path_is_found_and_knows_its_methods() {
        for operation in operations() {
            let parts: Vec<&str> = operation
                .path
                .split('/')
                .filter(|part| !part.is_empty())
                .collect();
            let found = Endpoint::find(&parts).unwrap_or_else(|| panic!("{}", operation.path));
            assert_eq!(found.methods(), operation.methods, "{}", operation.path);
            assert!(!operation.methods.is_empty(), "{}", operation.path);
        }
    }

    #[test]
    fn allow_is_sorted_as_kongs_is() {
        let allow = |parts: &[&str]| Endpoint::find(parts).unwrap().allow();
        assert_eq!(allow(&["services"]), "GET, HEAD, OPTIONS, POST");
        assert_eq!(
            allow(&["services", "shop"]),
            "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"
        );
    }
}
