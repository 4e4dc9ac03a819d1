//! The table as `GET /schemas/…` shows it: lists of fields in the shape of Kong's own schemas.
//!
//! decK fills in the defaults it finds here before it compares, so each of them is what an answer shows
//! for a field that was left out. Rules over several fields are code and have no place in this shape.

use serde_json::{Map, Value, json};

use crate::config::check::default_of;
use crate::config::schema::{Choices, Effect, Entity, Field, Kind, Made, Presence, format};

/// Returns the schema of an entity.
pub(crate) fn entity_schema(entity: &'static Entity) -> Value {
    let mut schema = json!({
        "fields": fields_where(entity.fields, None, |field| field.presence == Presence::Everywhere),
        "entity_checks": [],
    });
    let shorthands = fields_where(entity.fields, None, |field| field.presence == Presence::Shorthand);
    if !shorthands.is_empty() {
        schema["shorthand_fields"] = shorthands.into();
    }
    schema
}

/// Returns the schema of an entity whose name chooses one of its records, such as the plugin `canary`; `None` when the
/// entity has no such choice or no such name.
pub(crate) fn chosen_schema(entity: &'static Entity, name: &str) -> Option<Value> {
    let choices = choices(entity)?;
    let chosen = choices.records.iter().find(|(known, _)| *known == name)?;
    let is_shown = |field: &Field| {
        field.presence == Presence::Everywhere && field.made.is_none() && field.name != choices.by
    };
    Some(json!({
        "fields": fields_where(entity.fields, Some(chosen.0), is_shown),
        "entity_checks": [],
    }))
}

/// Returns the names among which an entity's record is chosen.
pub(crate) fn chosen_names(entity: &'static Entity) -> impl Iterator<Item = &'static str> {
    let records = choices(entity).map_or(&[][..], |choices| choices.records);
    records.iter().map(|(name, _)| *name)
}

fn choices(entity: &'static Entity) -> Option<&'static Choices> {
    entity.fields.iter().find_map(|field| match field.kind {
        Kind::Chosen(choices) => Some(choices),
        _ => None,
    })
}

fn fields_where(
    fields: &'static [Field],
    chosen: Option<&str>,
    is_shown: impl Fn(&Field) -> bool,
) -> Vec<Value> {
    let fields = fields.iter().filter(|field| is_shown(field));
    fields
        .map(|field| json!({ field.name: field_schema(field, chosen) }))
        .collect()
}

fn fields_of(fields: &'static [Field]) -> Vec<Value> {
    fields_where(fields, None, |field| field.presence == Presence::Everywhere)
}

/// Shows a field; `chosen` is the name by which a record is chosen, if one is.
fn field_schema(field: &'static Field, chosen: Option<&str>) -> Map<String, Value> {
    let mut schema = match (&field.kind, field.only_null) {
        (_, Some(entity)) => object(json!({ "type": "foreign", "reference": entity, "eq": null })),
        (Kind::Chosen(choices), None) => {
            let record = choices.records.iter().find(|(name, _)| Some(*name) == chosen);
            object(match record {
                Some((_, record)) => json!({ "type": "record", "fields": fields_of(record.fields) }),
                None => json!({ "type": "record", "abstract": true, "fields": [] }),
            })
        }
        (kind, None) => kind_schema(kind),
    };
    match field.made {
        Some(Made::Seconds) => {
            schema = object(json!({ "type": "integer", "timestamp": true, "auto": true }));
        }
        Some(Made::Milliseconds) => {
            schema = object(json!({ "type": "number", "timestamp": true, "auto": true }));
        }
        Some(Made::Id | Made::Token) => drop(schema.insert("auto".to_owned(), true.into())),
        None => {}
    }
    let default = default_of(field).or_else(|| field.settles.map(|value| value()));
    // What has a default is never null, and a record that is required is filled in field by field.
    let is_made = field.made == Some(Made::Token);
    let is_required =
        (field.is_required && !is_made) || default.is_some() || matches!(field.kind, Kind::Chosen(_));
    if is_required {
        schema.insert("required".to_owned(), true.into());
    }
    if let Some(default) = default {
        schema.insert("default".to_owned(), default);
    }
    if field.is_secret {
        schema.insert("encrypted".to_owned(), true.into());
    }
    let mut description = field.doc.to_owned();
    if let Effect::None(reason) = field.effect {
        description = format!("{description} Without effect: {reason}.");
    }
    schema.insert("description".to_owned(), description.into());
    schema
}

fn kind_schema(kind: &'static Kind) -> Map<String, Value> {
    object(match kind {
        Kind::Text(of) if std::ptr::eq(*of, &format::UUID) => json!({ "type": "string", "uuid": true }),
        Kind::Text(_) | Kind::Duration { .. } | Kind::Size { .. } => json!({ "type": "string" }),
        Kind::Integer {
            min: i64::MIN,
            max: i64::MAX,
        } => json!({ "type": "integer" }),
        Kind::Integer { min, max } => json!({ "type": "integer", "between": [min, max] }),
        Kind::Count { max } => json!({ "type": "integer", "between": [1, max] }),
        Kind::Number { min, max } => json!({ "type": "number", "between": [min, max] }),
        Kind::Above { bound, is_whole, .. } => {
            json!({ "type": if *is_whole { "integer" } else { "number" }, "gt": bound })
        }
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Choice { known, .. } => json!({ "type": "string", "one_of": known }),
        Kind::NumberChoice(known) => json!({ "type": "integer", "one_of": known }),
        Kind::List { of, min, is_set } => {
            let kind = if *is_set { "set" } else { "array" };
            let mut schema = json!({ "type": kind, "elements": kind_schema(of) });
            if *min > 0 {
                schema["len_min"] = (*min).into();
            }
            schema
        }
        Kind::Map { of, .. } => {
            json!({ "type": "map", "keys": { "type": "string" }, "values": kind_schema(of) })
        }
        Kind::Record(record) | Kind::RecordOrFalse(record) => {
            json!({ "type": "record", "fields": fields_of(record.fields) })
        }
        Kind::Chosen(_) => json!({ "type": "record", "abstract": true, "fields": [] }),
        Kind::Reference(entity) => json!({ "type": "foreign", "reference": entity }),
        Kind::Any => json!({ "type": "any" }),
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::credential::{JWT_SECRETS, KEYAUTH_CREDENTIALS};
    use crate::config::schema::plugin::PLUGINS;
    use crate::config::schema::route::ROUTES;
    use crate::config::schema::service::SERVICES;
    use crate::config::schema::target::TARGETS;
    use crate::config::schema::upstream::UPSTREAMS;
    use crate::config::schema::{ENTITIES, canonical};
    use crate::entity::show;

    /// Returns a field without its description, which the table's own tests look after.
    fn field(schema: &Value, name: &str) -> Value {
        let fields = schema["fields"].as_array().unwrap();
        let mut field = fields.iter().find_map(|field| field.get(name)).unwrap().clone();
        assert!(field.as_object_mut().unwrap().remove("description").is_some());
        field
    }

    #[test]
    fn fields_are_in_kongs_shape() {
        let services = entity_schema(&SERVICES);
        assert_eq!(
            field(&services, "id"),
            json!({"type": "string", "uuid": true, "auto": true})
        );
        assert_eq!(
            field(&services, "created_at"),
            json!({"type": "integer", "timestamp": true, "auto": true})
        );
        assert_eq!(field(&services, "name"), json!({"type": "string"}));
        assert_eq!(
            field(&services, "host"),
            json!({"type": "string", "required": true})
        );
        assert_eq!(
            field(&services, "port"),
            json!({"type": "integer", "between": [0, 65535], "required": true, "default": 80})
        );
        assert_eq!(
            field(&services, "tags"),
            json!({"type": "set", "elements": {"type": "string"}})
        );
        assert_eq!(
            field(&services, "client_certificate"),
            json!({"type": "foreign", "reference": "certificates"})
        );
        assert_eq!(
            field(&services, "ca_certificates"),
            json!({"type": "array", "elements": {"type": "string", "uuid": true}})
        );
        assert_eq!(services["entity_checks"], json!([]));
        assert!(
            services["fields"]
                .as_array()
                .unwrap()
                .iter()
                .all(|field| field.get("url").is_none())
        );
        assert_eq!(services["shorthand_fields"][0]["url"]["type"], json!("string"));

        let routes = entity_schema(&ROUTES);
        assert_eq!(
            field(&routes, "protocols"),
            json!({
                "type": "set", "elements": {"type": "string", "one_of": ["http", "https", "grpc", "grpcs"]}, "len_min": 1,
                "required": true, "default": ["http", "https"],
            })
        );
        assert_eq!(
            field(&routes, "headers"),
            json!({
                "type": "map", "keys": {"type": "string"},
                "values": {"type": "array", "elements": {"type": "string"}, "len_min": 1},
            })
        );
        assert_eq!(
            field(&routes, "regex_priority"),
            json!({"type": "integer", "required": true, "default": 0})
        );
        assert_eq!(
            field(&routes, "service"),
            json!({"type": "foreign", "reference": "services"})
        );
        assert_eq!(
            field(&entity_schema(&TARGETS), "created_at")["type"],
            json!("number")
        );
        assert_eq!(
            field(&entity_schema(&KEYAUTH_CREDENTIALS), "key"),
            json!({"type": "string", "auto": true, "encrypted": true})
        );
        assert_eq!(
            field(&entity_schema(&JWT_SECRETS), "key"),
            json!({"type": "string", "auto": true})
        );
    }

    #[test]
    fn a_plugin_has_its_own_schema() {
        let canary = chosen_schema(&PLUGINS, "canary").unwrap();
        let config = field(&canary, "config");
        assert_eq!(
            (&config["type"], &config["required"]),
            (&json!("record"), &json!(true))
        );
        assert_eq!(
            field(&config, "steps"),
            json!({"type": "integer", "gt": 1, "required": true, "default": 1000})
        );
        assert_eq!(
            field(&config, "percentage"),
            json!({"type": "number", "between": [0, 100]})
        );
        assert_eq!(
            field(&canary, "consumer"),
            json!({"type": "foreign", "reference": "consumers", "eq": null})
        );
        assert_eq!(
            field(&entity_schema(&PLUGINS), "config"),
            json!({"type": "record", "abstract": true, "fields": [], "required": true})
        );
        assert_eq!(chosen_schema(&PLUGINS, "nothing"), None);
        assert_eq!(chosen_schema(&SERVICES, "canary"), None);
        let names: Vec<_> = chosen_names(&PLUGINS).collect();
        assert_eq!(names, ["key-auth", "basic-auth", "jwt", "acl", "canary"]);
        assert!(names.iter().all(|name| chosen_schema(&PLUGINS, name).is_some()));
    }

    /// Nulls need no default.
    fn without_nulls(value: Value) -> Value {
        match value {
            Value::Object(map) => map
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_nulls(value)))
                .collect(),
            other => other,
        }
    }

    /// Fills a record in as decK does: by defaults, and field by field where a record is required.
    fn filled(schema: &Value) -> Value {
        let mut map = Map::new();
        for entry in schema["fields"].as_array().unwrap() {
            for (name, field) in entry.as_object().unwrap() {
                let is_record = field["type"] == "record" && field["required"] == true;
                let value = if is_record {
                    filled(field)
                } else {
                    field.get("default").cloned().unwrap_or_default()
                };
                if let Some(default) = field.get("default") {
                    assert_eq!(without_nulls(value.clone()), *default, "{name}");
                }
                map.insert(name.clone(), value);
            }
        }
        map.into()
    }

    #[test]
    fn defaults_are_what_an_answer_shows() {
        for (entity, least) in [
            (&SERVICES, json!({"host": "a"})),
            (&ROUTES, json!({"paths": ["/"]})),
            (&UPSTREAMS, json!({"name": "u"})),
            (&TARGETS, json!({"target": "a:1", "upstream": "u"})),
            (&KEYAUTH_CREDENTIALS, json!({"key": "k", "consumer": "c"})),
        ] {
            let shown = show(entity, &canonical(entity, &least).unwrap());
            let filled = filled(&entity_schema(entity));
            for (name, value) in shown {
                if least.get(&name).is_none() {
                    assert_eq!(filled[&name], value, "{}.{name}", entity.name);
                }
            }
        }
        for (name, config) in [
            ("key-auth", json!({})),
            ("basic-auth", json!({})),
            ("jwt", json!({})),
            ("acl", json!({"allow": ["g"]})),
            ("canary", json!({"upstream_host": "v2"})),
        ] {
            let plugin = json!({"name": name, "config": config, "created_at": 1});
            let shown = show(&PLUGINS, &canonical(&PLUGINS, &plugin).unwrap());
            let filled = filled(&chosen_schema(&PLUGINS, name).unwrap());
            for (field, value) in shown["config"].as_object().unwrap() {
                if config.get(field).is_none() {
                    assert_eq!(filled["config"][field], *value, "{name}.{field}");
                }
            }
            for field in ["protocols", "enabled", "tags", "consumer"] {
                assert_eq!(filled[field], shown[field], "{name}.{field}");
            }
        }
    }

    #[test]
    fn every_field_of_every_entity_has_a_type() {
        for entity in ENTITIES {
            let schema = entity_schema(entity);
            for entry in schema["fields"].as_array().unwrap() {
                for (name, field) in entry.as_object().unwrap() {
                    assert!(field["type"].is_string(), "{}.{name}", entity.name);
                }
            }
        }
    }
}
