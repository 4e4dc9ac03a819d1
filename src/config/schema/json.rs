//! The table as a JSON Schema (draft 2020-12), for editors.
//!
//! Says what one file can say about itself; references, duplicates and rules over several fields are the
//! check's. Wherever a value is no free text, `${NAME}` is allowed beside it, because it is substituted
//! only when the file is loaded.

use serde_json::{Map, Value, json};

use super::{Child, Choices, ENTITIES, Entity, Field, Kind, REMARKS, TOP_LEVEL, units};
use crate::config::check::default_of;

/// Returns the JSON Schema of a configuration file.
pub fn json_schema() -> Value {
    let mut definitions = Map::new();
    definitions.insert("substitution".to_owned(), json!({"type": "string", "pattern": "\\$\\{", "description": "A value from the environment: ${NAME} or ${NAME:-default}."}));
    let mut properties = Map::new();
    for field in &TOP_LEVEL {
        properties.insert(field.name.to_owned(), field_schema(field));
    }
    if let Some(version) = properties
        .get_mut("_format_version")
        .and_then(Value::as_object_mut)
    {
        version.insert("const".to_owned(), json!("3.0"));
    }
    for entity in ENTITIES {
        definitions.insert(entity.name.to_owned(), entity_schema(entity, None));
        for child in entity.children {
            definitions.insert(
                format!("{}.{}", entity.name, child.entity.name),
                entity_schema(child.entity, Some(child.parent)),
            );
        }
        properties.insert(entity.name.to_owned(), list_of(entity.name, entity));
        for (field, choices) in chosen(entity) {
            for (name, record) in choices.records {
                definitions.insert(choice(field, name), record_schema(record.fields));
            }
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Serin configuration",
        "description": "Kong's declarative format 3.0, and settings of the process under `server`.",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "$defs": definitions,
    })
}

fn list_of(definition: &str, entity: &Entity) -> Value {
    json!({"type": ["array", "null"], "items": {"$ref": format!("#/$defs/{definition}")}, "description": entity.doc})
}

fn entity_schema(entity: &Entity, parent: Option<&str>) -> Value {
    let fields: Vec<&Field> = entity
        .fields
        .iter()
        .filter(|field| Some(field.name) != parent)
        .collect();
    let mut properties: Map<String, Value> = fields
        .iter()
        .copied()
        .chain(&REMARKS)
        .map(|field| (field.name.to_owned(), field_schema(field)))
        .collect();
    for Child { entity: child, .. } in entity.children {
        properties.insert(
            child.name.to_owned(),
            list_of(&format!("{}.{}", entity.name, child.name), child),
        );
    }
    let mut schema = json!({"type": "object", "description": entity.doc, "properties": properties, "additionalProperties": false});
    require(&mut schema, &fields);
    let rules: Vec<Value> = chosen(entity)
        .flat_map(|(field, choices)| {
            choices.records.iter().map(move |(name, _)| {
                json!({
                    "if": {"properties": {choices.by: {"const": name}}, "required": [choices.by]},
                    "then": {"properties": {field.name: {"anyOf": [{"$ref": format!("#/$defs/{}", choice(field, name))}, {"type": "null"}]}}},
                })
            })
        })
        .collect();
    if !rules.is_empty() {
        schema["allOf"] = json!(rules);
    }
    schema
}

/// Returns the fields whose record another field chooses.
fn chosen(entity: &Entity) -> impl Iterator<Item = (&'static Field, &'static Choices)> {
    entity.fields.iter().filter_map(|field| match field.kind {
        Kind::Chosen(choices) => Some((field, choices)),
        _ => None,
    })
}

/// Returns the name of the definition of one such record.
fn choice(field: &Field, name: &str) -> String {
    format!("{}.{name}", field.name)
}

fn record_schema(fields: &'static [Field]) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|field| (field.name.to_owned(), field_schema(field)))
        .collect();
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    require(&mut schema, &fields.iter().collect::<Vec<_>>());
    schema
}

fn require(schema: &mut Value, fields: &[&Field]) {
    let required: Vec<&str> = fields
        .iter()
        .filter(|field| field.is_required && field.stand_in.is_none())
        .map(|field| field.name)
        .collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if let Some((field, stand_in)) = fields
        .iter()
        .find_map(|field| Some((field.name, field.stand_in?)))
    {
        schema["anyOf"] = json!([{"required": [field]}, {"required": [stand_in]}]);
    }
}

fn field_schema(field: &Field) -> Value {
    let mut alternatives = vec![kind_schema(&field.kind)];
    if !field.is_required {
        alternatives.push(json!({"type": "null"}));
    }
    let mut schema = match alternatives.pop() {
        Some(only) if alternatives.is_empty() => only,
        last => json!({"anyOf": alternatives.into_iter().chain(last).collect::<Vec<_>>()}),
    };
    let mut description = field.doc.to_owned();
    if let super::Effect::None(reason) = field.effect {
        description = format!("{description} Without effect: {reason}.");
    }
    schema["description"] = json!(description);
    if let Some(default) = default_of(field) {
        schema["default"] = default;
    }
    schema
}

fn kind_schema(kind: &Kind) -> Value {
    let or_substituted = |schema: Value| json!({"anyOf": [schema, {"$ref": "#/$defs/substitution"}]});
    match kind {
        Kind::Any => json!({}),
        Kind::Text(format) => match format.pattern {
            Some(pattern) => or_substituted(json!({"type": "string", "pattern": pattern})),
            None => json!({"type": "string"}),
        },
        Kind::Boolean => or_substituted(json!({"type": "boolean"})),
        Kind::Integer { min, max } => {
            or_substituted(json!({"type": "integer", "minimum": min, "maximum": max}))
        }
        Kind::Count { max } => or_substituted(json!({
            "anyOf": [{"type": "integer", "minimum": 1, "maximum": max}, {"const": "unlimited"}],
        })),
        Kind::Number { min, max } => {
            or_substituted(json!({"type": "number", "minimum": min, "maximum": max}))
        }
        Kind::Above { bound, max, is_whole } => {
            let kind = if *is_whole { "integer" } else { "number" };
            or_substituted(json!({"type": kind, "exclusiveMinimum": bound, "maximum": max}))
        }
        Kind::Chosen(_) => json!({"type": "object"}),
        Kind::Choice { known, .. } => or_substituted(json!({"enum": known})),
        Kind::NumberChoice(known) => or_substituted(json!({"enum": known})),
        Kind::List { of, min, .. } => json!({"type": "array", "items": kind_schema(of), "minItems": min}),
        Kind::Map { of, .. } => json!({"type": "object", "additionalProperties": kind_schema(of)}),
        Kind::Record(record) => record_schema(record.fields),
        Kind::RecordOrFalse(record) => json!({"anyOf": [record_schema(record.fields), {"const": false}]}),
        Kind::Reference("consumers") => json!({
            "description": "Username or id of one of the consumers.",
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"], "additionalProperties": false},
                {"type": "object", "properties": {"username": {"type": "string"}}, "required": ["username"], "additionalProperties": false},
            ],
        }),
        Kind::Reference(entity) => json!({
            "description": format!("Name or id of one of the {entity}."),
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"], "additionalProperties": false},
                {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"], "additionalProperties": false},
            ],
        }),
        Kind::Duration {
            min,
            max,
            or_unlimited,
        } => {
            let unlimited = if *or_unlimited { ", or unlimited" } else { "" };
            json!({
                "type": "string",
                "description": format!("A time such as 10s, 500ms or 1m30s, from {} to {}{unlimited}.", units::show_duration(*min), units::show_duration(*max)),
            })
        }
        Kind::Size {
            min,
            max,
            or_unlimited,
        } => {
            let unlimited = if *or_unlimited { ", or unlimited" } else { "" };
            json!({
                "type": ["integer", "string"],
                "description": format!("Bytes, or a number with KiB, MiB or GiB, from {} to {}{unlimited}.", units::show_size(*min), units::show_size(*max)),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_table_is_in_the_schema_with_its_documentation() {
        let schema = json_schema();
        for entity in ENTITIES {
            for field in entity.fields {
                let found = &schema["$defs"][entity.name]["properties"][field.name];
                let description = found["description"].as_str().unwrap_or_default();
                assert!(
                    description.starts_with(field.doc),
                    "{}.{}: {found}",
                    entity.name,
                    field.name
                );
            }
            assert_eq!(schema["$defs"][entity.name]["additionalProperties"], json!(false));
        }
    }

    #[test]
    fn ranges_defaults_and_nesting_come_through() {
        let schema = json_schema();
        let weight = &schema["$defs"]["targets"]["properties"]["weight"];
        assert_eq!(weight["default"], json!(100));
        assert_eq!(
            weight["anyOf"][0]["anyOf"][0],
            json!({"type": "integer", "minimum": 0, "maximum": 65535})
        );
        assert_eq!(
            schema["$defs"]["services"]["properties"]["routes"]["items"]["$ref"],
            json!("#/$defs/services.routes")
        );
        assert_eq!(
            schema["$defs"]["upstreams.targets"]["properties"].get("upstream"),
            None
        );
        assert_eq!(
            schema["$defs"]["targets"]["required"],
            json!(["target", "upstream"])
        );
    }

    #[test]
    fn what_a_plugin_is_told_depends_on_its_name() {
        let schema = json_schema();
        for plugin in ["plugins", "services.plugins", "routes.plugins"] {
            let rules = schema["$defs"][plugin]["allOf"].as_array().unwrap();
            let names: Vec<_> = rules
                .iter()
                .map(|rule| &rule["if"]["properties"]["name"]["const"])
                .collect();
            assert_eq!(
                names,
                ["key-auth", "basic-auth", "jwt", "acl", "canary"],
                "{plugin}"
            );
        }
        let steps = &schema["$defs"]["config.canary"]["properties"]["steps"];
        let range = json!({"type": "integer", "exclusiveMinimum": 1, "maximum": 1_000_000});
        assert_eq!(steps["anyOf"][0]["anyOf"][0], range);
        assert_eq!(steps["default"], json!(1000));
    }

    /// Every `$ref` must lead somewhere, or an editor drops the whole schema.
    #[test]
    fn every_reference_resolves() {
        fn check(value: &Value, definitions: &Value) {
            match value {
                Value::Object(map) => {
                    if let Some(name) = map
                        .get("$ref")
                        .and_then(Value::as_str)
                        .and_then(|text| text.strip_prefix("#/$defs/"))
                    {
                        assert!(definitions.get(name).is_some(), "{name}");
                    }
                    map.values().for_each(|value| check(value, definitions));
                }
                Value::Array(items) => items.iter().for_each(|value| check(value, definitions)),
                _ => {}
            }
        }
        let schema = json_schema();
        check(&schema, &schema["$defs"]);
    }
}
