//! The table of Targets.

use serde_json::json;

use super::address::split_host;
use super::{CREATED_AT, Entity, Field, ID, Kind, Made, TAGS, UPDATED_AT, Unique, format};

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
            .cascades()
            .hint("name the upstream, or move the target into the 'targets' of its upstream"),
        TAGS,
        CREATED_AT.made(Made::Milliseconds),
        UPDATED_AT.made(Made::Milliseconds),
    ],
    unique: &[Unique::of(&["upstream", "target"])],
    children: &[],
    check: |scope| {
        // Kong keeps a Target with its port.
        if let Some(target) = scope.text("target").map(with_port) {
            scope.set("target", json!(target));
        }
    },
};

/// Returns a Target's address as it is kept: with its port.
pub(crate) fn with_port(target: &str) -> String {
    match split_host(target) {
        Ok((host, None)) if host.contains(':') => format!("[{host}]:{DEFAULT_PORT}"),
        Ok((host, None)) => format!("{host}:{DEFAULT_PORT}"),
        _ => target.to_owned(),
    }
}

/// Returns a Target's address in the one form by which two are compared.
pub(crate) fn normal_target(target: &str) -> String {
    let Ok((host, port)) = split_host(target) else {
        return target.to_owned();
    };
    let host = host
        .parse::<std::net::IpAddr>()
        .map_or_else(|_| host.to_ascii_lowercase(), |address| address.to_string());
    format!("{host} {}", port.unwrap_or(DEFAULT_PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_of_one_address_are_one_target() {
        assert_eq!(normal_target("SHOP"), normal_target("shop:8000"));
        assert_eq!(normal_target("[0:0::1]:80"), normal_target("[::1]:80"));
        assert_ne!(normal_target("shop:80"), normal_target("shop:81"));
    }

    #[test]
    fn a_target_is_kept_with_its_port() {
        for (written, kept) in [
            ("shop", "shop:8000"),
            ("::1", "[::1]:8000"),
            ("[::1]", "[::1]:8000"),
            ("a:1", "a:1"),
        ] {
            assert_eq!(with_port(written), kept);
        }
    }
}
