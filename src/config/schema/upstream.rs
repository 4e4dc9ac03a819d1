//! The table of Upstreams, health checks included.

use serde_json::{Value, json};

use super::{CREATED_AT, Child, Entity, Field, ID, Kind, Record, UPDATED_AT, Unique, format, tag, target};
use crate::config::check::Scope;

const HASH_INPUT: Kind = Kind::Choice {
    known: &[
        "none",
        "consumer",
        "ip",
        "header",
        "cookie",
        "path",
        "query_arg",
        "uri_capture",
    ],
    kong_only: &[],
};
const SECONDS: Kind = Kind::Number { min: 0, max: 65535 };
const COUNTER: Kind = Kind::Integer { min: 0, max: 255 };
const STATUSES: Kind = Kind::List {
    of: &Kind::Integer { min: 100, max: 999 },
    min: 0,
    is_set: false,
};
const PROBE: Kind = Kind::Choice {
    known: &["http", "https", "tcp", "grpc", "grpcs"],
    kong_only: &[],
};

/// Upstreams.
pub(crate) static UPSTREAMS: Entity = Entity {
    name: "upstreams",
    key: "name",
    doc: "A named pool of Targets and the way one of them is chosen.",
    fields: &[
        ID,
        Field::new(
            "name",
            Kind::Text(&format::UPSTREAM_NAME),
            "Name that a Service's host refers to; unique.",
        )
        .required()
        .hint("the name that a Service's host refers to"),
        Field::new(
            "algorithm",
            Kind::Choice {
                known: &[
                    "round-robin",
                    "consistent-hashing",
                    "least-connections",
                    "latency",
                    "sticky-sessions",
                ],
                kong_only: &[],
            },
            "How a Target is chosen. Where it is left out, setting hash_on makes it consistent-hashing.",
        )
        .settles(|| json!("round-robin")),
        Field::new(
            "hash_on",
            HASH_INPUT,
            "What consistent hashing takes from the request.",
        )
        .or(|| json!("none")),
        Field::new(
            "hash_fallback",
            HASH_INPUT,
            "What it takes when the request lacks the first.",
        )
        .or(|| json!("none")),
        Field::new(
            "hash_on_header",
            Kind::Text(&format::HEADER),
            "Header, when hash_on is header.",
        ),
        Field::new(
            "hash_fallback_header",
            Kind::Text(&format::HEADER),
            "Header, when hash_fallback is header.",
        ),
        Field::new(
            "hash_on_cookie",
            Kind::Text(&format::COOKIE),
            "Cookie, when hash_on or hash_fallback is cookie.",
        ),
        Field::new(
            "hash_on_cookie_path",
            Kind::Text(&format::SERVICE_PATH),
            "Path of the cookie that is issued.",
        )
        .or(|| json!("/")),
        Field::new(
            "hash_on_query_arg",
            Kind::Text(&format::NON_EMPTY),
            "Query argument, when hash_on is query_arg.",
        ),
        Field::new(
            "hash_fallback_query_arg",
            Kind::Text(&format::NON_EMPTY),
            "Query argument, when hash_fallback is query_arg.",
        ),
        Field::new(
            "hash_on_uri_capture",
            Kind::Text(&format::NON_EMPTY),
            "Group of the Route's regular expression, when hash_on is uri_capture.",
        ),
        Field::new(
            "hash_fallback_uri_capture",
            Kind::Text(&format::NON_EMPTY),
            "Group of the Route's regular expression, when hash_fallback is uri_capture.",
        ),
        Field::new(
            "slots",
            Kind::Integer { min: 10, max: 65536 },
            "Size of the ring: consistent hashing gives each unit of weight slots/625 points, at least one.",
        )
        .or(|| json!(10000)),
        Field::new(
            "sticky_sessions_cookie",
            Kind::Text(&format::COOKIE),
            "Cookie that leads a client back to its Target, when algorithm is sticky-sessions.",
        ),
        Field::new(
            "sticky_sessions_cookie_path",
            Kind::Text(&format::SERVICE_PATH),
            "Path of that cookie.",
        )
        .or(|| json!("/")),
        Field::new(
            "healthchecks",
            Kind::Record(&HEALTHCHECKS),
            "When a Target counts as healthy.",
        )
        .or(|| json!({})),
        Field::new(
            "tags",
            Kind::List {
                of: &Kind::Text(&tag::UPSTREAM_TAG),
                min: 0,
                is_set: true,
            },
            "Labels for the operator's use. Serin reads one: 'serin:slow_start=30s' gives a Target that comes back its weight little by little over that time, 1s to 1h.",
        ),
        Field::new(
            "host_header",
            Kind::Text(&format::HOST_AND_PORT),
            "Host sent to Targets instead of their own name.",
        ),
        Field::new(
            "client_certificate",
            Kind::Reference("certificates"),
            "Certificate shown to the Targets.",
        )
        .without_effect("a Service shows its own: give it the 'client_certificate'"),
        Field::new(
            "use_srv_name",
            Kind::Boolean,
            "Whether the name in an SRV record becomes the Host.",
        )
        .or(|| json!(false))
        .without_effect("the Host is the Target's own name"),
        CREATED_AT,
        UPDATED_AT,
    ],
    unique: &[Unique::of(&["name"])],
    children: &[Child {
        entity: &target::TARGETS,
        parent: "upstream",
    }],
    check,
};

static HEALTHCHECKS: Record = Record::of(&[
    Field::new(
        "threshold",
        Kind::Number { min: 0, max: 100 },
        "Part of the weight, in percent, that must be available.",
    )
    .or(|| json!(0)),
    Field::new(
        "active",
        Kind::Record(&ACTIVE),
        "Checks by requests of the proxy's own.",
    )
    .or(|| json!({})),
    Field::new(
        "passive",
        Kind::Record(&PASSIVE),
        "Checks by what clients' requests bring to light.",
    )
    .or(|| json!({})),
]);

static ACTIVE: Record = Record::of(&[
    Field::new(
        "type",
        PROBE,
        "How a Target is probed; grpc and grpcs open a TCP connection.",
    )
    .or(|| json!("http")),
    Field::new(
        "timeout",
        SECONDS,
        "Time for one whole probe, in seconds; 0 for 60.",
    )
    .or(|| json!(1))
    .hint("a number of seconds, without a unit"),
    Field::new(
        "concurrency",
        Kind::Integer { min: 1, max: 1 << 31 },
        "Probes at a time.",
    )
    .or(|| json!(10)),
    Field::new(
        "http_path",
        Kind::Text(&format::SERVICE_PATH),
        "Path that is asked for.",
    )
    .or(|| json!("/")),
    Field::new(
        "https_sni",
        Kind::Text(&format::SNI),
        "Name in the TLS handshake.",
    ),
    Field::new(
        "https_verify_certificate",
        Kind::Boolean,
        "Whether the certificate is verified.",
    )
    .or(|| json!(true)),
    Field::new(
        "headers",
        Kind::Map {
            key: &format::HEADER,
            of: &Kind::List {
                of: &Kind::TEXT,
                min: 0,
                is_set: false,
            },
        },
        "Header fields sent along.",
    ),
    Field::new(
        "healthy",
        Kind::Record(&ACTIVE_HEALTHY),
        "What makes a Target healthy.",
    )
    .or(|| json!({})),
    Field::new(
        "unhealthy",
        Kind::Record(&ACTIVE_UNHEALTHY),
        "What makes a Target unhealthy.",
    )
    .or(|| json!({})),
]);

static ACTIVE_HEALTHY: Record = Record::of(&[
    Field::new(
        "interval",
        SECONDS,
        "Time between probes of a healthy Target, in seconds; 0 for none.",
    )
    .or(|| json!(0))
    .hint("a number of seconds, without a unit"),
    Field::new("http_statuses", STATUSES, "Statuses that count as success.").or(|| json!([200, 302])),
    Field::new(
        "successes",
        COUNTER,
        "Successes in a row that make a Target healthy; 0 for never.",
    )
    .or(|| json!(0)),
]);

static ACTIVE_UNHEALTHY: Record = Record::of(&[
    Field::new(
        "interval",
        SECONDS,
        "Time between probes of an unhealthy Target, in seconds; 0 for none.",
    )
    .or(|| json!(0))
    .hint("a number of seconds, without a unit"),
    Field::new("http_statuses", STATUSES, "Statuses that count as failure.")
        .or(|| json!([429, 404, 500, 501, 502, 503, 504, 505])),
    Field::new("tcp_failures", COUNTER, "Connections that failed; 0 for never.").or(|| json!(0)),
    Field::new("timeouts", COUNTER, "Probes that took too long; 0 for never.").or(|| json!(0)),
    Field::new(
        "http_failures",
        COUNTER,
        "Probes answered by a failing status; 0 for never.",
    )
    .or(|| json!(0)),
]);

static PASSIVE: Record = Record::of(&[
    Field::new("type", PROBE, "What is observed; with tcp, statuses say nothing.").or(|| json!("http")),
    Field::new(
        "healthy",
        Kind::Record(&PASSIVE_HEALTHY),
        "What makes a Target healthy.",
    )
    .or(|| json!({})),
    Field::new(
        "unhealthy",
        Kind::Record(&PASSIVE_UNHEALTHY),
        "What makes a Target unhealthy.",
    )
    .or(|| json!({})),
]);

static PASSIVE_HEALTHY: Record = Record::of(&[
    Field::new("http_statuses", STATUSES, "Statuses that count as success.").or(|| {
        json!([
            200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 306, 307, 308
        ])
    }),
    Field::new(
        "successes",
        COUNTER,
        "Successes that make a Target healthy; 0 for never.",
    )
    .or(|| json!(0)),
]);

static PASSIVE_UNHEALTHY: Record = Record::of(&[
    Field::new("http_statuses", STATUSES, "Statuses that count as failure.").or(|| json!([429, 500, 503])),
    Field::new("tcp_failures", COUNTER, "Connections that failed; 0 for never.").or(|| json!(0)),
    Field::new("timeouts", COUNTER, "Answers that took too long; 0 for never.").or(|| json!(0)),
    Field::new(
        "http_failures",
        COUNTER,
        "Answers with a failing status; 0 for never.",
    )
    .or(|| json!(0)),
]);

/// Inputs that need a field of their own: the input, the field for `hash_on`, the field for
/// `hash_fallback`, and what the field names.
const INPUT_FIELDS: [(&str, &str, &str, &str); 4] = [
    ("header", "hash_on_header", "hash_fallback_header", "header"),
    ("cookie", "hash_on_cookie", "hash_on_cookie", "cookie"),
    (
        "query_arg",
        "hash_on_query_arg",
        "hash_fallback_query_arg",
        "query argument",
    ),
    (
        "uri_capture",
        "hash_on_uri_capture",
        "hash_fallback_uri_capture",
        "group of the route's regular expression",
    ),
];

/// Algorithms that hash nothing; Kong lets each of them clear `hash_on` and `hash_fallback`.
const WITHOUT_HASH: [&str; 3] = ["least-connections", "latency", "sticky-sessions"];

/// Kong's rules for algorithms and hashing, and ours for tags.
fn check(scope: &mut Scope<'_, '_>) {
    if scope.is_valid("tags") {
        tag::check_tags(scope);
    }
    check_session(scope);
    let algorithm = scope.text("algorithm").unwrap_or_default().to_owned();
    if WITHOUT_HASH.contains(&&*algorithm) {
        clear_hash(scope, &algorithm);
        return;
    }
    if !scope.is_valid("hash_on") || !scope.is_valid("hash_fallback") {
        return;
    }
    let hash_on = scope.text("hash_on").unwrap_or("none").to_owned();
    let fallback = scope.text("hash_fallback").unwrap_or("none").to_owned();

    for (input, on_field, fallback_field, what) in INPUT_FIELDS {
        for (chosen, field, by) in [
            (&hash_on, on_field, "hash_on"),
            (&fallback, fallback_field, "hash_fallback"),
        ] {
            if chosen == input && scope.is_valid(field) && scope.value(field).is_none_or(Value::is_null) {
                let message = format!(
                    "required field missing: failed conditional validation given value of field '{by}'"
                );
                scope.error_missing(
                    field,
                    by,
                    message,
                    format!("add '{field}', the name of the {what}"),
                );
            }
        }
        let is_both = hash_on == input && fallback == input && on_field != fallback_field;
        let same = scope
            .text(on_field)
            .zip(scope.text(fallback_field))
            .is_some_and(|(a, b)| a.eq_ignore_ascii_case(b));
        if is_both && same {
            let message =
                format!("values of these fields must be distinct: '{on_field}', '{fallback_field}'");
            let place = scope.place_of(on_field);
            let hint =
                format!("a request that lacks the {what} of '{on_field}' ({place}) lacks this one too");
            scope.error(fallback_field, message, Some(hint));
        }
    }

    let clash = match hash_on.as_str() {
        "none" | "cookie" if fallback != "none" => true,
        "consumer" | "ip" | "path" => fallback == hash_on,
        _ => false,
    };
    if clash {
        let (allowed, why) = match hash_on.as_str() {
            "none" => (
                "none".to_owned(),
                "nothing is hashed first, so there is nothing to fall back from",
            ),
            "cookie" => (
                "none".to_owned(),
                "a client without the cookie is given one, so a fallback is never used",
            ),
            _ => (inputs_except(&hash_on), "the same input again is no fallback"),
        };
        let place = scope.place_of("hash_on");
        let message = format!(
            "expected one of: {allowed}: failed conditional validation given value of field 'hash_on'"
        );
        scope.error(
            "hash_fallback",
            message,
            Some(format!("hash_on is '{hash_on}' ({place}): {why}")),
        );
    }
    check_algorithm(scope, &hash_on);
}

fn inputs_except(input: &str) -> String {
    let Kind::Choice { known, .. } = HASH_INPUT else {
        return String::new();
    };
    known
        .iter()
        .copied()
        .filter(|known| *known != input)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Sticky sessions need a cookie, and only they use one.
fn check_session(scope: &mut Scope<'_, '_>) {
    const COOKIE: &str = "sticky_sessions_cookie";
    let is_sticky = scope.text("algorithm") == Some("sticky-sessions");
    let has_cookie = scope.value(COOKIE).is_some() || !scope.is_valid(COOKIE);
    if is_sticky && !has_cookie {
        let place = scope.place_of("algorithm");
        scope.error_missing(
            COOKIE,
            "algorithm",
            "required field missing: failed conditional validation given value of field 'algorithm'",
            format!("algorithm: sticky-sessions ({place}) needs it, e.g. {COOKIE}: session"),
        );
    } else if !is_sticky && scope.is_given(COOKIE) && scope.is_valid("algorithm") {
        let hint = "it is used with algorithm: sticky-sessions only";
        scope.warn(COOKIE, "accepted without effect", hint);
    }
}

/// A file that names the algorithm and also says what to hash, as decK writes it, means the algorithm.
fn clear_hash(scope: &mut Scope<'_, '_>, algorithm: &str) {
    for field in ["hash_on", "hash_fallback"] {
        if scope.text(field).is_some_and(|input| input != "none") {
            let hint = format!("{algorithm} does not hash; use algorithm: consistent-hashing, or remove it");
            scope.warn(field, "accepted without effect", &hint);
            scope.set(field, json!("none"));
        }
    }
}

/// Kong lets `hash_on` choose the algorithm; saying two different things is refused here.
fn check_algorithm(scope: &mut Scope<'_, '_>, hash_on: &str) {
    if !scope.is_valid("algorithm") {
        return;
    }
    let place = scope.place_of("hash_on");
    match (scope.text("algorithm").map(str::to_owned).as_deref(), hash_on) {
        (None, "none") => scope.set("algorithm", json!("round-robin")),
        (None, _) => scope.set("algorithm", json!("consistent-hashing")),
        (Some("consistent-hashing"), "none") => scope.error(
            "algorithm",
            "consistent-hashing needs something to hash, but hash_on is 'none'",
            Some("set hash_on, e.g. hash_on: ip; or use algorithm: round-robin".to_owned()),
        ),
        (Some("round-robin"), input) if input != "none" => scope.error(
            "algorithm",
            format!("round-robin does not hash, but hash_on is '{input}'"),
            Some(format!(
                "use algorithm: consistent-hashing, or remove hash_on ({place})"
            )),
        ),
        _ => {}
    }
}
