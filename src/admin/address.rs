//! What a path of the Admin API means.
//!
//! Every path follows from the table of entities: a kind has a collection, and where an entity refers to
//! another, the other has a collection of those that refer to it, and it itself a link to the other.

use crate::admin::wire::openapi::Operation;
use crate::entity::Kind;

/// Kong's names of collections, where they are not the kind's.
const NAMES: [(&str, &str); 4] = [
    ("key-auths", "keyauth_credentials"),
    ("basic-auths", "basicauth_credentials"),
    ("jwts", "jwt_secrets"),
    ("acls", "acls"),
];
/// Kong's names of what belongs to a Consumer.
const NESTED: [(&str, &str); 4] = [
    ("key-auth", "keyauth_credentials"),
    ("basic-auth", "basicauth_credentials"),
    ("jwt", "jwt_secrets"),
    ("acls", "acls"),
];
/// Collections of Kong that are always empty here, so that its clients need not be told apart.
pub(super) const EMPTY: [&str; 5] = ["vaults", "keys", "key-sets", "hmac-auths", "oauth2"];
/// Kinds without a collection of their own: they are reached through others.
const ONLY_NESTED: [&str; 2] = ["targets", "consumer_group_consumers"];

/// Where entities are addressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address<'a> {
    /// `/services`.
    Collection(Kind),
    /// `/services/{service}`.
    Item(Kind, &'a str),
    /// `/services/{service}/routes`.
    Children(Parent<'a>, Kind),
    /// `/services/{service}/routes/{route}`.
    Child(Parent<'a>, Kind, &'a str),
    /// `/routes/{route}/service`: what an entity's field refers to.
    Link(Kind, &'a str, &'static str, Kind),
}

/// The entity in which others are nested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parent<'a> {
    pub(super) kind: Kind,
    pub(super) name: &'a str,
    /// The field by which they refer to it.
    pub(super) field: &'static str,
}

/// Returns what the parts of a path mean, if they mean entities.
pub(super) fn resolve<'a>(parts: &[&'a str]) -> Option<Address<'a>> {
    let kind = collection(parts.first()?)?;
    match parts {
        [_] => Some(Address::Collection(kind)),
        [_, name] => Some(Address::Item(kind, name)),
        [_, name, nested] => children(kind, name, nested)
            .map(|(parent, child)| Address::Children(parent, child))
            .or_else(|| link(kind, name, nested)),
        [_, name, nested, child_name] => {
            let (parent, child) = children(kind, name, nested)?;
            Some(Address::Child(parent, child, child_name))
        }
        _ => None,
    }
}

/// Returns the kind of a collection at the top.
fn collection(name: &str) -> Option<Kind> {
    let kind = NAMES.iter().find(|(path, _)| *path == name);
    let kind = kind.map_or(name, |(_, kind)| kind);
    // `/targets` is a 404 in Kong, but its link to the Upstream is not.
    Kind::named(kind).filter(|kind| kind.name() != "consumer_group_consumers" && path_of(*kind) == name)
}

/// Returns the name of a kind's collection.
pub(super) fn path_of(kind: Kind) -> &'static str {
    let known = NAMES.iter().find(|(_, name)| *name == kind.name());
    known.map_or(kind.name(), |(path, _)| path)
}

/// Says whether a kind has a collection at the top.
pub(super) fn has_collection(kind: Kind) -> bool {
    !ONLY_NESTED.contains(&kind.name())
}

/// Returns a path as logs and the audit trail may show it: a key in it is masked.
pub(super) fn told(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let entities = parts.strip_prefix(&["default"]).unwrap_or(&parts);
    let named = match resolve(entities) {
        Some(Address::Item(kind, name) | Address::Child(_, kind, name) | Address::Link(kind, name, ..)) => {
            Some((kind, name))
        }
        _ => None,
    };
    let is_key = |(kind, name): (Kind, &str)| {
        let schema = kind.schema();
        let key = schema.fields.iter().find(|field| field.name == schema.key);
        key.is_some_and(|key| key.is_secret) && uuid::Uuid::parse_str(name).is_err()
    };
    match named.filter(|named| is_key(*named)) {
        Some((_, name)) => {
            // By its place and not its text: the parent may be called the same.
            let at = parts.iter().rposition(|part| std::ptr::eq(*part, name));
            let masked = (0..parts.len()).map(|index| if at == Some(index) { "***" } else { parts[index] });
            masked.fold(String::new(), |path, part| path + "/" + part)
        }
        None => path.to_owned(),
    }
}

fn children<'a>(kind: Kind, name: &'a str, nested: &str) -> Option<(Parent<'a>, Kind)> {
    let of_consumer = NESTED.iter().find(|(path, _)| *path == nested);
    let child = match of_consumer {
        Some((_, child)) => Kind::named(child)?,
        None => Kind::named(nested).filter(|child| path_of(*child) == nested)?,
    };
    if child.name() == "consumer_group_consumers" {
        return None;
    }
    let field = child
        .schema()
        .fields
        .iter()
        .find(|field| field.kind.refers_to() == Some(kind.name()))?;
    let parent = Parent {
        kind,
        name,
        field: field.name,
    };
    Some((parent, child))
}

fn link<'a>(kind: Kind, name: &'a str, nested: &str) -> Option<Address<'a>> {
    let field = kind.schema().fields.iter().find(|field| field.name == nested)?;
    let to = field.kind.refers_to().and_then(Kind::named)?;
    Some(Address::Link(kind, name, field.name, to))
}

/// What can be done with a list.
pub(super) const COLLECTION: &[&str] = &["GET", "POST"];
/// What can be done with one entity.
pub(super) const ITEM: &[&str] = &["DELETE", "GET", "PATCH", "PUT"];
/// What can be done with what an entity refers to.
pub(super) const LINK: &[&str] = &["GET", "PATCH", "PUT"];

/// Returns every path of entities with what can be done there, for `/endpoints` and `/openapi.json`.
pub(super) fn operations() -> Vec<Operation> {
    let mut operations = Vec::new();
    let mut add = |path: String, methods, entity: Kind, is_list| {
        operations.push(Operation {
            path,
            methods,
            entity: Some(entity.schema()),
            is_list,
        });
    };
    for kind in Kind::all().filter(|kind| kind.name() != "consumer_group_consumers") {
        let (top, one) = (path_of(kind), singular(kind));
        if has_collection(kind) {
            add(format!("/{top}"), COLLECTION, kind, true);
            add(format!("/{top}/{{{one}}}"), ITEM, kind, false);
        }
        for child in Kind::all() {
            let nested = NESTED.iter().find(|(_, name)| *name == child.name());
            let nested = nested.map_or(child.name(), |(path, _)| path);
            if children(kind, "", nested).is_some_and(|(_, found)| found == child) {
                let path = format!("/{top}/{{{one}}}/{nested}");
                add(path.clone(), COLLECTION, child, true);
                add(format!("{path}/{{{}}}", singular(child)), ITEM, child, false);
            }
        }
        for field in kind.schema().fields {
            if let Some(Address::Link(.., to)) = link(kind, "", field.name) {
                add(format!("/{top}/{{{one}}}/{}", field.name), LINK, to, false);
            }
        }
    }
    operations
}

/// Returns what stands for the name of an entity in a path's pattern.
fn singular(kind: Kind) -> &'static str {
    match kind.name() {
        "keyauth_credentials" => "key-auth",
        "basicauth_credentials" => "basic-auth",
        "jwt_secrets" => "jwt",
        name => name.trim_end_matches('s'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> Kind {
        Kind::named(name).unwrap()
    }

    fn parent<'a>(of: &str, name: &'a str, field: &'static str) -> Parent<'a> {
        Parent {
            kind: kind(of),
            name,
            field,
        }
    }

    fn check(path: &str, expected: Option<Address<'_>>) {
        let parts: Vec<&str> = path.split('/').collect();
        assert_eq!(resolve(&parts), expected, "{path}");
    }

    #[test]
    fn a_key_in_a_path_is_not_told() {
        let id = "5d1f1a3e-0000-4000-8000-000000000009";
        for (path, expected) in [
            (
                "/consumers/alice/key-auth/hunter2",
                "/consumers/alice/key-auth/***",
            ),
            ("/default/key-auths/hunter2/", "/default/key-auths/***"),
            ("/key-auths/key-auths", "/key-auths/***"),
            ("/key-auths/hunter2/consumer", "/key-auths/***/consumer"),
            (
                "/consumers/hunter2/key-auth/hunter2",
                "/consumers/hunter2/key-auth/***",
            ),
            ("/services/shop", "/services/shop"),
        ] {
            assert_eq!(told(path), expected);
        }
        let by_id = format!("/key-auths/{id}");
        assert_eq!(told(&by_id), by_id);
    }

    #[test]
    fn paths_mean_what_they_mean_in_kong() {
        check("services", Some(Address::Collection(kind("services"))));
        check(
            "key-auths/k",
            Some(Address::Item(kind("keyauth_credentials"), "k")),
        );
        check(
            "services/shop/routes/cart",
            Some(Address::Child(
                parent("services", "shop", "service"),
                kind("routes"),
                "cart",
            )),
        );
        check(
            "consumers/alice/key-auth",
            Some(Address::Children(
                parent("consumers", "alice", "consumer"),
                kind("keyauth_credentials"),
            )),
        );
        check(
            "routes/cart/service",
            Some(Address::Link(kind("routes"), "cart", "service", kind("services"))),
        );
        check(
            "targets/t/upstream",
            Some(Address::Link(kind("targets"), "t", "upstream", kind("upstreams"))),
        );
        check(
            "upstreams/u/targets/a:1",
            Some(Address::Child(
                parent("upstreams", "u", "upstream"),
                kind("targets"),
                "a:1",
            )),
        );
        for unknown in [
            "keyauth_credentials",
            "consumers/alice/keyauth_credentials",
            "services/shop/targets",
            "services/shop/routes/cart/plugins",
            "nothing",
            "routes/cart/hosts",
            "consumer_group_consumers",
        ] {
            check(unknown, None);
        }
    }
}
