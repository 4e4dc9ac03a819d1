//! Entities as answers show them.
//!
//! Kong shows every field an entity may have, with null for what is not set, and refers to other
//! entities by `{"id": …}`. An answer sent back as a request gives the same entity: decK compares the two
//! and would write for ever otherwise.

use serde_json::{Map, Value, json};

use crate::config::schema::{Entity, Field, Kind, Made, Presence};

/// What stands for a secret that is not to be seen.
const MASK: &str = "***";

/// Returns an entity as an answer shows it, secrets included: for those who may write them.
pub(crate) fn show(entity: &'static Entity, values: &Map<String, Value>) -> Map<String, Value> {
    show_fields(entity.fields, values, Secrets::Shown)
}

/// Returns an entity without its secrets: for readers, logs and the audit trail.
pub(crate) fn show_masked(entity: &'static Entity, values: &Map<String, Value>) -> Map<String, Value> {
    show_fields(entity.fields, values, Secrets::Masked)
}

/// Whether secrets may be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Secrets {
    Shown,
    Masked,
}

fn show_fields(
    fields: &'static [Field],
    values: &Map<String, Value>,
    secrets: Secrets,
) -> Map<String, Value> {
    let fields = fields
        .iter()
        .filter(|field| field.presence == Presence::Everywhere);
    fields
        .map(|field| {
            let value = match values.get(field.name) {
                None | Some(Value::Null) => Value::Null,
                Some(_) if field.is_secret && secrets == Secrets::Masked => Value::from(MASK),
                Some(value) if field.made == Some(Made::Seconds) => whole(value),
                Some(value) => show_value(&field.kind, value, values, secrets),
            };
            (field.name.to_owned(), value)
        })
        .collect()
}

/// Shows one value; `beside` are the fields beside it, of which one may choose its record.
fn show_value(kind: &'static Kind, value: &Value, beside: &Map<String, Value>, secrets: Secrets) -> Value {
    match (kind, value) {
        (Kind::Record(record) | Kind::RecordOrFalse(record), Value::Object(map)) => {
            show_fields(record.fields, map, secrets).into()
        }
        (Kind::Chosen(choices), Value::Object(map)) => match choices.record(beside) {
            Some(record) => show_fields(record.fields, map, secrets).into(),
            None => value.clone(),
        },
        (Kind::Reference(_), Value::String(id)) => json!({ "id": id }),
        (Kind::List { of, .. }, Value::Array(items)) => items
            .iter()
            .map(|item| show_value(of, item, beside, secrets))
            .collect(),
        (Kind::Map { of, .. }, Value::Object(map)) => map
            .iter()
            .map(|(name, value)| (name.clone(), show_value(of, value, beside, secrets)))
            .collect(),
        _ => value.clone(),
    }
}

/// Cuts a time to whole seconds.
fn whole(value: &Value) -> Value {
    match value.as_f64() {
        Some(seconds) if value.is_f64() => Value::from(seconds.trunc() as i64),
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::consumer::CONSUMERS;
    use crate::config::schema::credential::KEYAUTH_CREDENTIALS;
    use crate::config::schema::plugin::PLUGINS;
    use crate::config::schema::service::SERVICES;
    use crate::config::schema::target::TARGETS;
    use crate::config::schema::upstream::UPSTREAMS;
    use crate::config::schema::{ENTITIES, canonical};
    use proptest::prelude::*;

    const ID: &str = "7fca84d6-7d37-4a74-a7b0-93e576089a41";
    const OTHER: &str = "d045b7d4-81c5-4e5c-a2b0-3c8a3fa6b4a3";

    fn canonical_of(entity: &'static Entity, value: &Value) -> Map<String, Value> {
        canonical(entity, value).unwrap_or_else(|problems| panic!("{}: {problems:?}", entity.name))
    }

    fn shown(entity: &'static Entity, value: Value) -> Value {
        show(entity, &canonical_of(entity, &value)).into()
    }

    /// What each entity must have at least.
    fn least(entity: &Entity) -> Vec<Value> {
        let alone = |value| vec![value];
        match entity.name {
            "services" => vec![json!({"host": "shop"}), json!({"url": "http://shop:8080/api"})],
            "routes" => alone(json!({"paths": ["/"], "service": {"id": OTHER}})),
            "upstreams" => vec![
                json!({"name": "shop"}),
                json!({"name": "shop", "hash_on": "ip"}),
                json!({"name": "shop", "algorithm": "latency", "hash_on": "ip"}),
                json!({"name": "shop", "algorithm": "sticky-sessions", "sticky_sessions_cookie": "s"}),
                json!({"name": "shop", "healthchecks": {"active": {"timeout": 0.5, "headers": {"x-a": ["b"]}}}}),
            ],
            "targets" => alone(json!({"target": "shop:80", "upstream": {"id": OTHER}})),
            "certificates" => {
                let (cert, key) = crate::tls::tests::made(&["shop.example"]);
                alone(json!({"cert": cert, "key": key}))
            }
            "ca_certificates" => alone(json!({"cert": crate::tls::tests::authority()})),
            "snis" => alone(json!({"name": "shop.example", "certificate": {"id": OTHER}})),
            "consumers" => alone(json!({"username": "alice"})),
            "consumer_groups" => alone(json!({"name": "gold"})),
            "keyauth_credentials" => alone(json!({"key": "k", "consumer": {"id": OTHER}})),
            "basicauth_credentials" => {
                alone(json!({"username": "a", "password": "b", "consumer": {"id": OTHER}}))
            }
            "jwt_secrets" => alone(json!({"key": "k", "secret": "s", "consumer": {"id": OTHER}})),
            "acls" => alone(json!({"group": "g", "consumer": {"id": OTHER}})),
            "plugins" => vec![
                json!({"name": "key-auth"}),
                json!({"name": "basic-auth", "service": {"id": OTHER}}),
                json!({"name": "jwt", "route": {"id": OTHER}}),
                json!({"name": "acl", "config": {"allow": ["g"]}}),
                json!({"name": "canary", "config": {"upstream_host": "v2"}}),
                json!({"name": "canary", "config": {"upstream_host": "v2", "percentage": 12.5, "hash": "whitelist"}}),
            ],
            "consumer_group_consumers" => {
                alone(json!({"consumer": {"id": OTHER}, "consumer_group": {"id": OTHER}}))
            }
            other => panic!("say what an entity of {other} must have at least"),
        }
    }

    fn with_identity(mut value: Value) -> Value {
        value["id"] = json!(ID);
        value["created_at"] = json!(1_700_000_000);
        value["updated_at"] = json!(1_700_000_001.25);
        value
    }

    #[test]
    fn an_answer_sent_back_is_the_same_entity() {
        for entity in ENTITIES {
            for value in least(entity) {
                let first = show(entity, &canonical_of(entity, &with_identity(value)));
                let again = canonical_of(entity, &Value::Object(first.clone()));
                assert_eq!(show(entity, &again), first, "{}", entity.name);
                let twice = canonical_of(entity, &Value::Object(show(entity, &again)));
                assert_eq!(twice, again, "{}", entity.name);
            }
        }
    }

    proptest! {
        #[test]
        fn numbers_and_lists_come_back_as_they_were(
            timeout in 0.0..65535.0_f64,
            interval in 0_i64..65535,
            statuses in proptest::collection::vec(100_u16..999, 0..5),
            percentage in 0_u32..=10_000,
            start in proptest::option::of(0.0..2e9_f64),
        ) {
            let upstream = json!({"name": "u", "healthchecks": {"active": {
                "timeout": timeout, "healthy": {"interval": interval, "http_statuses": statuses},
            }}});
            let plugin = json!({"name": "canary", "created_at": 1, "config": {
                "upstream_host": "v2", "percentage": f64::from(percentage) / 100.0, "start": start,
            }});
            for (entity, value) in [(&UPSTREAMS, upstream), (&PLUGINS, plugin)] {
                let values = canonical_of(entity, &value);
                let again = canonical_of(entity, &Value::Object(show(entity, &values)));
                prop_assert_eq!(again, values);
            }
        }
    }

    #[test]
    fn a_service_has_all_its_fields_and_no_url() {
        let service = shown(
            &SERVICES,
            with_identity(json!({"name": "shop", "url": "http://shop/api", "tags": []})),
        );
        let expected = json!({
            "id": ID, "name": "shop", "retries": 5, "protocol": "http", "host": "shop", "port": 80, "path": "/api",
            "connect_timeout": 60000, "write_timeout": 60000, "read_timeout": 60000, "tags": [],
            "client_certificate": null, "tls_verify": null, "tls_verify_depth": null, "ca_certificates": null,
            "enabled": true, "created_at": 1_700_000_000, "updated_at": 1_700_000_001,
        });
        assert_eq!(service.to_string(), expected.to_string());
    }

    #[test]
    fn a_target_has_milliseconds_and_refers_to_its_upstream() {
        let target = shown(
            &TARGETS,
            with_identity(json!({"target": "a:80", "upstream": OTHER})),
        );
        assert_eq!(
            target,
            json!({
                "id": ID, "target": "a:80", "weight": 100, "upstream": {"id": OTHER}, "tags": null,
                "created_at": 1_700_000_000, "updated_at": 1_700_000_001.25,
            })
        );
    }

    #[test]
    fn records_are_whole_too() {
        let upstream = shown(&UPSTREAMS, json!({"name": "shop"}));
        assert_eq!(upstream["algorithm"], json!("round-robin"));
        assert_eq!(
            upstream["healthchecks"],
            json!({
                "threshold": 0,
                "active": {
                    "type": "http", "timeout": 1, "concurrency": 10, "http_path": "/", "https_sni": null,
                    "https_verify_certificate": true, "headers": null,
                    "healthy": {"interval": 0, "http_statuses": [200, 302], "successes": 0},
                    "unhealthy": {
                        "interval": 0, "http_statuses": [429, 404, 500, 501, 502, 503, 504, 505],
                        "tcp_failures": 0, "timeouts": 0, "http_failures": 0,
                    },
                },
                "passive": {
                    "type": "http",
                    "healthy": {
                        "http_statuses": [200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304,
                            305, 306, 307, 308],
                        "successes": 0,
                    },
                    "unhealthy": {"http_statuses": [429, 500, 503], "tcp_failures": 0, "timeouts": 0, "http_failures": 0},
                },
            })
        );
    }

    #[test]
    fn what_a_plugin_is_told_follows_its_name() {
        let plugin = shown(
            &PLUGINS,
            json!({"name": "canary", "route": {"id": OTHER}, "config": {"upstream_host": "v2", "percentage": 10}}),
        );
        assert_eq!(
            plugin["config"],
            json!({
                "start": null, "duration": 3600, "percentage": 10, "steps": 1000, "hash": "consumer",
                "hash_header": null, "groups": null, "upstream_host": "v2", "upstream_port": null,
                "upstream_uri": null, "upstream_fallback": false, "canary_by_header_name": null, "cookie": null,
                "salt": null, "groups_then_percentage": false,
            })
        );
        assert_eq!(
            (&plugin["route"], &plugin["service"], &plugin["consumer"]),
            (&json!({"id": OTHER}), &Value::Null, &Value::Null)
        );
        let jwt = shown(&PLUGINS, json!({"name": "jwt"}));
        assert_eq!(
            (&jwt["config"]["cookie_names"], &jwt["config"]["claims_to_verify"]),
            (&json!([]), &Value::Null)
        );
    }

    #[test]
    fn what_only_files_have_is_not_shown() {
        let consumer = shown(
            &CONSUMERS,
            json!({"username": "alice", "groups": [{"name": "gold"}]}),
        );
        let expected = json!({"id": null, "username": "alice", "custom_id": null, "tags": null, "created_at": null, "updated_at": null});
        assert_eq!(consumer, expected);
    }

    #[test]
    fn secrets_can_be_masked() {
        let values = canonical_of(
            &KEYAUTH_CREDENTIALS,
            &json!({"key": "hunter2", "consumer": OTHER}),
        );
        assert_eq!(show(&KEYAUTH_CREDENTIALS, &values)["key"], json!("hunter2"));
        let masked = show_masked(&KEYAUTH_CREDENTIALS, &values);
        assert_eq!((&masked["key"], &masked["ttl"]), (&json!("***"), &Value::Null));
    }
}
