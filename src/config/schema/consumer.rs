//! The tables of Consumers and of groups of them.

use serde_json::Value;

use super::{
    CREATED_AT, Child, Entity, Field, ID, Kind, TAGS, UPDATED_AT, Unique, credential, format, no_check,
};
use crate::config::check::Scope;

const GROUPS: Kind = Kind::List {
    of: &Kind::Reference("consumer_groups"),
    min: 0,
    is_set: true,
};
/// Plugins nested where Kong can have some and Serin cannot.
const NO_PLUGINS: Field = Field::new(
    "plugins",
    Kind::List {
        of: &Kind::Any,
        min: 0,
        is_set: false,
    },
    "Must be empty: no plugin that Serin has can be for a Consumer or a consumer group.",
)
.file_only();

/// Consumers.
pub(crate) static CONSUMERS: Entity = Entity {
    name: "consumers",
    key: "username",
    doc: "Who uses a Service, as the credentials tell.",
    fields: &[
        ID,
        Field::new(
            "username",
            Kind::Text(&format::NON_EMPTY),
            "Name as operators know it; unique. This or custom_id is needed.",
        ),
        Field::new(
            "custom_id",
            Kind::Text(&format::NON_EMPTY),
            "Name as another system knows it; unique.",
        ),
        Field::new(
            "groups",
            GROUPS,
            "Consumer groups it is in, as decK writes them, e.g. [{name: gold}].",
        )
        .file_only(),
        Field::new(
            "consumer_groups",
            GROUPS,
            "Consumer groups it is in, by name; the same as groups.",
        )
        .file_only(),
        NO_PLUGINS,
        TAGS,
        CREATED_AT,
        UPDATED_AT,
    ],
    unique: &[Unique::of(&["username"]), Unique::of(&["custom_id"])],
    children: &[
        Child {
            entity: &credential::KEYAUTH_CREDENTIALS,
            parent: "consumer",
        },
        Child {
            entity: &credential::BASICAUTH_CREDENTIALS,
            parent: "consumer",
        },
        Child {
            entity: &credential::JWT_SECRETS,
            parent: "consumer",
        },
        Child {
            entity: &credential::ACLS,
            parent: "consumer",
        },
    ],
    check: |scope| {
        let is_missing = |name| scope.is_valid(name) && scope.value(name).is_none();
        if is_missing("username") && is_missing("custom_id") {
            let message = "at least one of these fields must be non-empty: 'custom_id', 'username'";
            scope.error_here(message, Some("such as username: alice".to_owned()));
        }
        refuse_plugins(scope);
    },
};

/// Consumer groups.
pub(crate) static CONSUMER_GROUPS: Entity = Entity {
    name: "consumer_groups",
    key: "name",
    doc: "A group of Consumers; each Consumer lists the groups it is in.",
    fields: &[
        ID,
        Field::new("name", Kind::Text(&format::NAME), "Name of the group; unique.")
            .required()
            .hint("the name by which consumers list it"),
        NO_PLUGINS,
        TAGS,
        CREATED_AT,
        UPDATED_AT,
    ],
    unique: &[Unique::of(&["name"])],
    children: &[],
    check: refuse_plugins,
};

/// Who is in which consumer group.
pub(crate) static MEMBERS: Entity = Entity {
    name: "consumer_group_consumers",
    key: "consumer",
    doc: "A Consumer in a consumer group; the same as a group in the Consumer's consumer_groups.",
    fields: &[
        ID,
        Field::new("consumer", Kind::Reference("consumers"), "The Consumer.")
            .required()
            .cascades()
            .hint("name the consumer"),
        Field::new(
            "consumer_group",
            Kind::Reference("consumer_groups"),
            "The group it is in.",
        )
        .required()
        .cascades()
        .hint("name the consumer group"),
        TAGS,
        CREATED_AT,
        UPDATED_AT,
    ],
    unique: &[Unique::of(&["consumer_group", "consumer"])],
    children: &[],
    check: no_check,
};

fn refuse_plugins(scope: &mut Scope<'_, '_>) {
    let plugins = scope.value("plugins").and_then(Value::as_array);
    if plugins.is_some_and(|plugins| !plugins.is_empty()) {
        let hint = "move it to a service, to a route or to the top level";
        scope.error("plugins", "value must be null", Some(hint.to_owned()));
    }
}
