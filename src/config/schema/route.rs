//! The table of Routes.

use serde_json::{Value, json};

use super::{CREATED_AT, Child, Entity, Field, ID, Kind, Record, TAGS, UPDATED_AT, Unique, format, plugin};
use crate::config::check::Scope;

static ENDPOINT: Record = Record::of(&[
    Field::new("ip", Kind::Text(&format::NETWORK), "Address or network."),
    Field::new("port", Kind::PORT, "Port."),
]);
/// Only TCP and TLS streams have sources and destinations in Kong.
const ENDPOINTS: Kind = Kind::List {
    of: &Kind::Record(&ENDPOINT),
    min: 0,
    is_set: true,
};

/// Routes.
pub(crate) static ROUTES: Entity = Entity {
    name: "routes",
    key: "name",
    doc: "The conditions under which a request belongs to a Service.",
    fields: &[
        ID,
        Field::new("name", Kind::Text(&format::NAME), "Name of the Route; unique."),
        Field::new(
            "protocols",
            Kind::List {
                of: &Kind::Choice {
                    known: &["http", "https", "grpc", "grpcs"],
                    kong_only: &["tcp", "tls", "tls_passthrough", "udp"],
                },
                min: 1,
                is_set: true,
            },
            "Schemes under which clients may come.",
        )
        .or(|| json!(["http", "https"])),
        Field::new(
            "methods",
            Kind::List {
                of: &Kind::Text(&format::METHOD),
                min: 0,
                is_set: true,
            },
            "Methods; none matches all.",
        ),
        Field::new(
            "hosts",
            Kind::List {
                of: &Kind::Text(&format::ROUTE_HOST),
                min: 0,
                is_set: false,
            },
            "Hosts, perhaps with a port; '*' may stand for the first or the last label; none matches all.",
        ),
        Field::new(
            "paths",
            Kind::List {
                of: &Kind::Text(&format::ROUTE_PATH),
                min: 0,
                is_set: false,
            },
            "Paths that the request's path starts with; '~' before one makes it a regular expression; none matches all.",
        ),
        Field::new(
            "headers",
            Kind::Map {
                key: &format::ROUTE_HEADER,
                of: &Kind::List {
                    of: &Kind::Text(&format::HEADER_VALUE),
                    min: 1,
                    is_set: false,
                },
            },
            "Header fields, each with the values of which one must be there; '~*' before a value makes it a regular expression.",
        ),
        Field::new(
            "https_redirect_status_code",
            Kind::NumberChoice(&[426, 301, 302, 307, 308]),
            "Status for a client that comes by plain HTTP to a Route for HTTPS only.",
        )
        .or(|| json!(426)),
        Field::new(
            "regex_priority",
            Kind::Integer {
                min: i64::MIN,
                max: i64::MAX,
            },
            "Among Routes that match by regular expression the higher one wins.",
        )
        .or(|| json!(0)),
        Field::new(
            "strip_path",
            Kind::Boolean,
            "Removes the matched part of the path before the request goes upstream.",
        )
        .or(|| json!(true)),
        Field::new(
            "path_handling",
            Kind::Choice {
                known: &["v0", "v1"],
                kong_only: &[],
            },
            "How the Service's path and the request's are joined: v0 as segments, v1 by plain concatenation.",
        )
        .or(|| json!("v0")),
        Field::new(
            "preserve_host",
            Kind::Boolean,
            "Sends the client's Host on instead of the Target's.",
        )
        .or(|| json!(false)),
        Field::new(
            "request_buffering",
            Kind::Boolean,
            "Whether Kong buffers request bodies.",
        )
        .or(|| json!(true))
        .without_effect("Serin always streams request bodies"),
        Field::new(
            "response_buffering",
            Kind::Boolean,
            "Whether Kong buffers response bodies.",
        )
        .or(|| json!(true))
        .without_effect("Serin always streams response bodies"),
        Field::new(
            "snis",
            Kind::List {
                of: &Kind::Text(&format::SNI),
                min: 0,
                is_set: true,
            },
            "Names in the TLS handshake of clients that come by TLS, perhaps with a wildcard for the first or last label.",
        ),
        Field::new("sources", ENDPOINTS, "Addresses that streams come from."),
        Field::new("destinations", ENDPOINTS, "Addresses that streams go to."),
        TAGS,
        Field::new(
            "service",
            Kind::Reference("services"),
            "The Service; without one the Route answers 503.",
        ),
        CREATED_AT,
        UPDATED_AT,
    ],
    unique: &[Unique::of(&["name"])],
    children: &[Child {
        entity: &plugin::PLUGINS,
        parent: "route",
    }],
    check,
};

/// Kong's rules for Routes of HTTP: a condition must be there, and none that belongs to streams.
fn check(scope: &mut Scope<'_, '_>) {
    let speaks = |protocol: &str| {
        let protocols = scope.value("protocols").and_then(Value::as_array);
        protocols.is_some_and(|all| all.contains(&json!(protocol)))
    };
    let is_https = speaks("https") || speaks("grpcs");
    let is_grpc = speaks("grpc") || speaks("grpcs");
    let mut conditions = vec!["methods", "hosts", "headers", "paths"];
    conditions.extend(is_https.then_some("snis"));
    if scope.is_valid("protocols") && !conditions.iter().any(|name| has_condition(scope, name)) {
        let message = if is_https {
            "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'"
        } else {
            "must set one of 'methods', 'hosts', 'headers', 'paths' when 'protocols' is 'http'"
        };
        scope.error_here(message, Some("to match every request, set paths: [/]".to_owned()));
    }
    for field in ["sources", "destinations"] {
        if has_condition(scope, field) {
            let message = format!("cannot set '{field}' when 'protocols' is 'http' or 'https'");
            scope.error(field, message, Some("leave it out".to_owned()));
        }
    }
    if is_grpc && scope.value("strip_path") == Some(&json!(true)) {
        let hint = "set strip_path: false: a path of gRPC names the method that is called".to_owned();
        let message = "'strip_path' cannot be set when 'protocols' is 'grpc' or 'grpcs'";
        scope.error("strip_path", message, Some(hint));
    }
    let is_plain_only = scope.value("protocols") == Some(&json!(["http"]));
    if is_plain_only && has_condition(scope, "snis") {
        let message =
            "'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'";
        scope.error(
            "snis",
            message,
            Some("add 'https' to 'protocols', or leave 'snis' out".to_owned()),
        );
    }
}

/// Says whether a condition is there; one that is there but wrong counts, it has its own message.
fn has_condition(scope: &Scope<'_, '_>, name: &str) -> bool {
    if !scope.is_valid(name) {
        return true;
    }
    match scope.value(name) {
        Some(Value::Array(values)) => !values.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
        _ => false,
    }
}
