//! The table of Targets.

use serde_json::json;

use super::{CREATED_AT, Entity, Field, ID, Kind, Made, TAGS, UPDATED_AT, format, no_check};

/// Port of a Target that gives none: Kong's, not 80.
pub(crate) const DEFAULT_PORT: u16 = 8000;

/// Targets.
pub(crate) static TARGETS: Entity = Entity {
    name: "targets",
    key: "target",
    doc: "An address in an Upstream.",
    fields: &[
        ID,
        Field::new(
            "target",
            Kind::Text(&format::TARGET),
            "Host name or address, perhaps with a port, e.g. shop-v1:8080 or [::1]:80; without a port, 8000.",
        )
        .required().hint("such as shop-v1:8080"),
        Field::new(
            "weight",
            Kind::Integer { min: 0, max: 65535 },
            "Share of the requests, relative to the other Targets of the Upstream; 0 takes the Target out of rotation.",
        )
        .or(|| json!(100))
        .hint("0 takes the target out of rotation; 65535 is the largest"),
        Field::new("upstream", Kind::Reference("upstreams"), "The Upstream; given where the Target is not nested in it.")
            .required()
            .hint("name the upstream, or move the target into the 'targets' of its upstream"),
        TAGS,
        CREATED_AT.made(Made::Milliseconds),
        UPDATED_AT.made(Made::Milliseconds),
    ],
    children: &[],
    check: no_check,
};
