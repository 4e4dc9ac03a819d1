//! `config` of the plugin `acl`.

use serde_json::json;

use super::has_items;
use crate::config::schema::{Field, Kind, Record, format};

const GROUPS: Kind = Kind::List {
    of: &Kind::Text(&format::NON_EMPTY),
    min: 0,
    is_set: false,
};

/// `acl`.
pub(super) static ACL: Record = Record {
    fields: &[
        Field::new(
            "allow",
            GROUPS,
            "Groups whose Consumers are let through; this or deny.",
        ),
        Field::new(
            "deny",
            GROUPS,
            "Groups whose Consumers are refused; this or allow.",
        ),
        Field::new(
            "hide_groups_header",
            Kind::Boolean,
            "Does not tell the origin the Consumer's groups (X-Consumer-Groups).",
        )
        .or(|| json!(false)),
        Field::new(
            "include_consumer_groups",
            Kind::Boolean,
            "Consumer groups count as ACL groups do.",
        )
        .or(|| json!(false)),
        Field::new(
            "always_use_authenticated_groups",
            Kind::Boolean,
            "Whether groups told by an authentication plugin count before the Consumer's own.",
        )
        .or(|| json!(false))
        .without_effect("no authentication plugin of Serin's tells groups"),
    ],
    check: |scope| {
        let is_right = scope.is_valid("allow") && scope.is_valid("deny");
        if is_right && has_items(scope.value("allow")) == has_items(scope.value("deny")) {
            let message = "exactly one of these fields must be non-empty: 'allow', 'deny'";
            scope.error_here(message, Some("such as allow: [testers]".to_owned()));
        }
    },
};
