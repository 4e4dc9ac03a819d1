//! The table of plugins: what they have in common here, what each is told in a file of its own.

mod acl;
mod authentication;
mod canary;

use serde_json::{Value, json};

use super::{CREATED_AT, Choices, Entity, Field, ID, Kind, TAGS, UPDATED_AT, Unique, format};
use crate::config::check::Scope;

/// Plugins.
pub(crate) static PLUGINS: Entity = Entity {
    name: "plugins",
    key: "name",
    doc: "What is done with a request between its Route and its origin. Of the plugins of one name the most specific runs: that of route and service, of the route, of the service, of everything.",
    fields: &[
        ID,
        Field::new(
            "name",
            Kind::Choice {
                known: &["key-auth", "basic-auth", "jwt", "acl", "canary"],
                kong_only: KONG_ONLY,
            },
            "Which plugin; one of a name for each service and route.",
        )
        .required()
        .hint("one of key-auth, basic-auth, jwt, acl, canary"),
        Field::new(
            "instance_name",
            Kind::Text(&format::NON_EMPTY),
            "A label for the operator's use; unique. The id is made from it, where no id is given.",
        ),
        Field::new(
            "service",
            Kind::Reference("services"),
            "The Service it is for; left out, with route, it is for every request that has a Route.",
        )
        .cascades(),
        Field::new("route", Kind::Reference("routes"), "The Route it is for.").cascades(),
        Field::new(
            "consumer",
            Kind::Any,
            "Must be null: none of these plugins can be for a Consumer.",
        )
        .only_null("consumers"),
        Field::new(
            "consumer_group",
            Kind::Any,
            "Must be null: none of these plugins can be for a consumer group.",
        )
        .only_null("consumer_groups"),
        Field::new(
            "config",
            Kind::Chosen(&CONFIG),
            "What the plugin is told; its fields depend on name.",
        ),
        Field::new(
            "protocols",
            Kind::List {
                of: &Kind::Choice {
                    known: &["http", "https", "grpc", "grpcs"],
                    kong_only: &["tcp", "tls", "tls_passthrough", "udp", "ws", "wss"],
                },
                min: 1,
                is_set: true,
            },
            "http and https are one: a plugin that lists either runs for both; one for grpc and grpcs alone never does.",
        )
        .or(|| json!(["grpc", "grpcs", "http", "https"])),
        Field::new(
            "enabled",
            Kind::Boolean,
            "A plugin that is not enabled is checked and does nothing.",
        )
        .or(|| json!(true)),
        Field::new("ordering", Kind::Any, "Which plugins run before and after it.")
            .without_effect("the order is fixed: jwt, key-auth, basic-auth, acl, canary"),
        TAGS,
        CREATED_AT,
        UPDATED_AT,
    ],
    unique: &[
        Unique {
            fields: &["name", "route", "service", "consumer"],
            counts_null: true,
        },
        Unique::of(&["instance_name"]),
    ],
    children: &[],
    check,
};

/// `config` by `name`.
static CONFIG: Choices = Choices {
    by: "name",
    records: &[
        ("key-auth", &authentication::KEY_AUTH),
        ("basic-auth", &authentication::BASIC_AUTH),
        ("jwt", &authentication::JWT),
        ("acl", &acl::ACL),
        ("canary", &canary::CANARY),
    ],
};

/// Kong's other plugins, so that a message can tell them from typing errors.
const KONG_ONLY: &[&str] = &[
    "ai-proxy",
    "aws-lambda",
    "bot-detection",
    "correlation-id",
    "cors",
    "datadog",
    "file-log",
    "forward-proxy",
    "hmac-auth",
    "http-log",
    "ip-restriction",
    "ldap-auth",
    "loggly",
    "mtls-auth",
    "oauth2",
    "openid-connect",
    "opentelemetry",
    "post-function",
    "pre-function",
    "prometheus",
    "proxy-cache",
    "rate-limiting",
    "rate-limiting-advanced",
    "redirect",
    "request-size-limiting",
    "request-termination",
    "request-transformer",
    "response-ratelimiting",
    "response-transformer",
    "route-by-header",
    "session",
    "statsd",
    "syslog",
    "tcp-log",
    "udp-log",
    "upstream-timeout",
    "zipkin",
];

fn check(scope: &mut Scope<'_, '_>) {
    for field in ["consumer", "consumer_group"] {
        if scope.is_given(field) {
            let hint = "these plugins are for a service, a route or everything; remove it";
            scope.error(field, "value must be null", Some(hint.to_owned()));
        }
    }
}

/// Says whether a list is there and has something in it.
fn has_items(value: Option<&Value>) -> bool {
    value
        .and_then(Value::as_array)
        .is_some_and(|items| !items.is_empty())
}
