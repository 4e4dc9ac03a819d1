//! The Admin API as an OpenAPI 3.1 document, for people who generate clients or look around.
//!
//! Its dialect of JSON Schema is that of `serin schema`, so entities are taken from there: without what
//! only files have, and without `${NAME}`, which is substituted in files only.

use serde_json::{Map, Value, json};

use crate::config::json_schema;
use crate::config::schema::certificate::CERTIFICATES;
use crate::config::schema::{ENTITIES, Entity, Field, Kind, Presence};

/// Where a JSON Schema keeps its definitions, and where OpenAPI does.
const DEFINITIONS: &str = "#/$defs/";
const COMPONENTS: &str = "#/components/schemas/";
/// The definition of `${NAME}`.
const SUBSTITUTION: &str = "#/$defs/substitution";

/// A path and what can be done there.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    /// The path, with names in braces, e.g. `/services/{service}`.
    pub(crate) path: String,
    /// Methods, in capitals.
    pub(crate) methods: &'static [&'static str],
    /// What bodies and answers are; `None` for anything.
    pub(crate) entity: Option<&'static Entity>,
    /// Whether `GET` answers a page of a list.
    pub(crate) is_list: bool,
}

/// Makes the document of an API that has these operations.
pub(crate) fn document(operations: &[Operation]) -> Value {
    let mut paths = Map::new();
    for operation in operations {
        let item = paths
            .entry(operation.path.clone())
            .or_insert_with(|| json!({ "parameters": path_parameters(&operation.path) }));
        for method in operation.methods {
            item[method.to_ascii_lowercase()] = describe(operation, method);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Serin Admin API",
            "summary": "Kong's Admin API.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "parameters": {
                "size": parameter("size", "Items on a page.", &json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 100 })),
                "offset": parameter("offset", "The offset of the page before.", &json!({ "type": "string" })),
                "tags": parameter("tags", "Labels: a,b for those that have both, a/b for those that have one of them.", &json!({ "type": "string" })),
            },
            "responses": {
                "Refused": {
                    "description": "Why nothing was done.",
                    "content": { "application/json": { "schema": reference("Error") } },
                },
            },
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "token": { "type": "apiKey", "in": "header", "name": "Kong-Admin-Token" },
            },
        },
        "security": [{ "bearer": [] }, { "token": [] }],
    })
}

fn parameter(name: &str, description: &str, schema: &Value) -> Value {
    json!({ "name": name, "in": "query", "description": description, "schema": schema })
}

fn path_parameters(path: &str) -> Vec<Value> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect()
}

fn reference(component: &str) -> Value {
    json!({ "$ref": format!("{COMPONENTS}{component}") })
}

fn describe(operation: &Operation, method: &str) -> Value {
    let is_page = operation.is_list && matches!(method, "GET" | "HEAD");
    let mut described = json!({
        "operationId": operation_id(&operation.path, method),
        "responses": { "default": { "$ref": "#/components/responses/Refused" } },
    });
    if let Some(entity) = operation.entity {
        described["tags"] = json!([entity.name]);
        if matches!(method, "POST" | "PUT" | "PATCH") {
            let component = if method == "PATCH" {
                patch_name(entity)
            } else {
                entity.name.to_owned()
            };
            let schema = reference(&component);
            let types = [
                "application/json",
                "application/x-www-form-urlencoded",
                "multipart/form-data",
            ];
            let content: Map<String, Value> = types
                .into_iter()
                .map(|name| (name.to_owned(), json!({ "schema": schema })))
                .collect();
            described["requestBody"] = json!({ "required": true, "content": content });
        }
    }
    if is_page {
        let names = ["size", "offset", "tags"];
        let parameters = names.map(|name| json!({ "$ref": format!("#/components/parameters/{name}") }));
        described["parameters"] = json!(parameters);
    }
    let (status, description) = match method {
        "DELETE" => ("204", "It is gone."),
        "POST" => ("201", "It was made."),
        _ => ("200", "It is there."),
    };
    let mut answer = json!({ "description": description });
    let schema = match operation.entity.map(answer_name) {
        Some(name) if is_page => json!({
            "type": "object",
            "required": ["data", "next"],
            "properties": {
                "data": { "type": "array", "items": reference(&name) },
                "next": { "type": ["string", "null"], "description": "Path and query of the next page." },
                "offset": { "type": "string", "description": "Left out on the last page." },
            },
        }),
        Some(name) => reference(&name),
        None => json!({}),
    };
    if !matches!(method, "DELETE" | "HEAD") {
        answer["content"] = json!({ "application/json": { "schema": schema } });
    }
    described["responses"][status] = answer;
    described
}

fn operation_id(path: &str, method: &str) -> String {
    let words = path
        .split(['/', '{', '}'])
        .filter(|word| !word.is_empty())
        .map(|word| word.replace('-', "_"));
    let words: Vec<String> = std::iter::once(method.to_ascii_lowercase())
        .chain(words)
        .collect();
    words.join("_")
}

fn answer_name(entity: &Entity) -> String {
    format!("{}.answer", entity.name)
}

fn patch_name(entity: &Entity) -> String {
    format!("{}.change", entity.name)
}

/// Returns the schemas of all entities, as they are sent, changed and answered, and of errors.
fn schemas() -> Map<String, Value> {
    let mut schemas = Map::new();
    let definitions = json_schema()["$defs"].take();
    let Value::Object(definitions) = definitions else {
        return schemas;
    };
    for (name, mut schema) in definitions {
        let entity = ENTITIES.iter().find(|entity| entity.name == name);
        if name == "substitution" || (entity.is_none() && is_nested(&name)) {
            continue;
        }
        clean(&mut schema);
        if let Some(entity) = entity {
            keep(&mut schema, entity, |field| field.presence != Presence::FileOnly);
            let mut answer = answer_schema(schema.clone(), entity);
            if entity.name == CERTIFICATES.name {
                add_names(&mut schema, &mut answer);
            }
            let mut change = schema.clone();
            if let Value::Object(change) = &mut change {
                change.shift_remove("required");
                change.shift_remove("anyOf");
            }
            schemas.insert(answer_name(entity), answer);
            schemas.insert(patch_name(entity), change);
        }
        schemas.insert(name, schema);
    }
    schemas.insert("Error".to_owned(), error_schema());
    schemas
}

/// Says whether a definition is that of an entity nested in another, such as `services.routes`.
fn is_nested(name: &str) -> bool {
    let parent = name.split_once('.').map(|(parent, _)| parent);
    parent.is_some_and(|parent| ENTITIES.iter().any(|entity| entity.name == parent))
}

/// Leaves only some fields: also no nested entities and no remarks.
fn keep(schema: &mut Value, entity: &'static Entity, is_kept: impl Fn(&Field) -> bool) {
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.retain(|name, _| {
            let field = entity.fields.iter().find(|field| field.name == name);
            field.is_some_and(&is_kept)
        });
    }
}

/// Makes the schema of a request that of an answer: every field is there, and references are records.
fn answer_schema(mut schema: Value, entity: &'static Entity) -> Value {
    keep(&mut schema, entity, |field| {
        field.presence == Presence::Everywhere
    });
    let mut required = Vec::new();
    for field in entity.fields {
        let Some(property) = schema["properties"].get_mut(field.name) else {
            continue;
        };
        required.push(field.name);
        if matches!(field.kind, Kind::Reference(_)) {
            *property = json!({
                "type": ["object", "null"],
                "properties": { "id": { "type": "string", "format": "uuid" } },
                "required": ["id"],
                "description": field.doc,
            });
        }
    }
    if let Value::Object(schema) = &mut schema {
        schema.shift_remove("anyOf");
        schema.insert("required".to_owned(), json!(required));
    }
    schema
}

/// Adds what bodies and answers of certificates have beside the fields of the entity (`names`): their SNIs by name.
fn add_names(request: &mut Value, answer: &mut Value) {
    let description = "All names by which clients ask for it, the SNIs that refer to it.";
    let items = json!({ "type": "string" });
    answer["properties"]["snis"] = json!({ "type": "array", "items": items, "description": description });
    if let Some(required) = answer["required"].as_array_mut() {
        required.push("snis".into());
    }
    let description = format!(
        "{description} They are made and removed with it, in one change; those that it has stay when this is left out."
    );
    request["properties"]["snis"] = json!({
        "type": ["array", "null"], "items": items, "uniqueItems": true, "description": description,
    });
}

/// Takes the substitutions out of a schema, and leads its references to where OpenAPI has the definitions.
fn clean(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.values_mut().for_each(clean);
            if let Some(Value::Array(alternatives)) = map.get_mut("anyOf") {
                alternatives
                    .retain(|schema| schema.get("$ref").and_then(Value::as_str) != Some(SUBSTITUTION));
                // An alternative that is the only one left is none.
                if let [Value::Object(only)] = alternatives.as_slice() {
                    let only = only.clone();
                    map.shift_remove("anyOf");
                    map.extend(only);
                }
            }
            if let Some(Value::String(target)) = map.get_mut("$ref")
                && target != SUBSTITUTION
                && let Some(name) = target.strip_prefix(DEFINITIONS)
            {
                *target = format!("{COMPONENTS}{name}");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(clean),
        _ => {}
    }
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["message"],
        "properties": {
            "message": { "type": "string", "description": "What is wrong, in a sentence." },
            "code": { "type": "integer", "description": "Kong's number of the kind of error." },
            "name": { "type": "string", "description": "The kind of error in words." },
            "fields": { "type": "object", "description": "What is wrong with which field, nested as the fields are." },
            "options": { "type": "object", "description": "What is wrong with which argument of the query." },
            "hints": { "type": "object", "additionalProperties": { "type": "string" }, "description": "Ways out, by field." },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::plugin::PLUGINS;
    use crate::config::schema::service::SERVICES;

    fn example() -> Value {
        document(&[
            Operation {
                path: "/services".to_owned(),
                methods: &["GET", "POST"],
                entity: Some(&SERVICES),
                is_list: true,
            },
            Operation {
                path: "/services/{service}".to_owned(),
                methods: &["GET", "PUT", "PATCH", "DELETE"],
                entity: Some(&SERVICES),
                is_list: false,
            },
            Operation {
                path: "/services/{service}/plugins".to_owned(),
                methods: &["GET", "POST"],
                entity: Some(&PLUGINS),
                is_list: true,
            },
            Operation {
                path: "/status".to_owned(),
                methods: &["GET"],
                entity: None,
                is_list: false,
            },
        ])
    }

    #[test]
    fn operations_name_what_they_take_and_give() {
        let document = example();
        let paths = &document["paths"];
        let list = &paths["/services"]["get"];
        assert_eq!(list["operationId"], json!("get_services"));
        assert_eq!(
            list["parameters"][0],
            json!({"$ref": "#/components/parameters/size"})
        );
        let page = &list["responses"]["200"]["content"]["application/json"]["schema"]["properties"];
        assert_eq!(
            page["data"]["items"],
            json!({"$ref": "#/components/schemas/services.answer"})
        );
        let make = &paths["/services"]["post"];
        assert_eq!(
            make["requestBody"]["content"]["application/json"]["schema"],
            json!({"$ref": "#/components/schemas/services"})
        );
        assert!(make["responses"].get("201").is_some());
        let item = &paths["/services/{service}"];
        assert_eq!(
            item["parameters"],
            json!([{"name": "service", "in": "path", "required": true, "schema": {"type": "string"}}])
        );
        assert_eq!(
            item["delete"]["responses"]["204"],
            json!({"description": "It is gone."})
        );
        assert_eq!(
            item["patch"]["requestBody"]["content"]["application/json"]["schema"],
            json!({"$ref": "#/components/schemas/services.change"})
        );
        assert_eq!(
            paths["/services/{service}/plugins"]["get"]["operationId"],
            json!("get_services_service_plugins")
        );
        assert_eq!(document["security"], json!([{"bearer": []}, {"token": []}]));
    }

    #[test]
    fn entities_are_as_the_api_has_them() {
        let document = example();
        let schemas = &document["components"]["schemas"];
        let request = &schemas["services"]["properties"];
        assert_eq!(
            request["port"],
            json!({
                "anyOf": [{"type": "integer", "minimum": 0, "maximum": 65535}, {"type": "null"}], "default": 80,
                "description": "Port, used when host is not the name of an Upstream.",
            })
        );
        assert_eq!((request.get("routes"), request.get("_comment")), (None, None));
        assert!(request.get("url").is_some());
        assert_eq!(
            schemas["services"]["anyOf"],
            json!([{"required": ["host"]}, {"required": ["url"]}])
        );
        let answer = &schemas["services.answer"];
        assert_eq!(
            (answer["properties"].get("url"), answer.get("anyOf")),
            (None, None)
        );
        assert_eq!(
            answer["required"].as_array().unwrap().len(),
            answer["properties"].as_object().unwrap().len()
        );
        assert_eq!(
            schemas["routes.answer"]["properties"]["service"]["required"],
            json!(["id"])
        );
        let consumer = &schemas["consumers"]["properties"];
        assert_eq!((consumer.get("groups"), consumer.get("plugins")), (None, None));
        assert_eq!(schemas["targets.change"].get("required"), None);
        assert_eq!(schemas.get("services.routes"), None);
    }

    #[test]
    fn certificates_come_with_their_names() {
        let document = example();
        let schemas = &document["components"]["schemas"];
        for (schema, kind) in [
            ("certificates", json!(["array", "null"])),
            ("certificates.change", json!(["array", "null"])),
            ("certificates.answer", json!("array")),
        ] {
            let names = &schemas[schema]["properties"]["snis"];
            assert_eq!(
                (&names["type"], &names["items"]),
                (&kind, &json!({"type": "string"}))
            );
            let description = names["description"].as_str().unwrap();
            assert!(description.starts_with("All names"), "{description}");
        }
        let is_required = |schema: &str| {
            let required = schemas[schema]["required"].as_array();
            required.is_some_and(|fields| fields.contains(&json!("snis")))
        };
        assert!(is_required("certificates.answer") && !is_required("certificates"));
        // Other entities that nest some have none of them in a body.
        assert_eq!(schemas["services"]["properties"].get("routes"), None);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(value: &Value, document: &Value) {
            match value {
                Value::Object(map) => {
                    if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                        let pointer = target.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{target}");
                    }
                    map.values().for_each(|value| check(value, document));
                }
                Value::Array(items) => items.iter().for_each(|value| check(value, document)),
                _ => {}
            }
        }
        let document = example();
        check(&document, &document);
        assert!(!document.to_string().contains("$defs"));
        assert!(document["components"]["schemas"].get("config.canary").is_some());
    }

    #[test]
    fn operations_have_ids_of_their_own() {
        let document = example();
        let mut ids: Vec<&str> = (document["paths"].as_object().unwrap().values())
            .flat_map(|item| item.as_object().unwrap().values())
            .filter_map(|operation| operation.get("operationId")?.as_str())
            .collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((count, ids.len()), (9, 9));
    }
}
