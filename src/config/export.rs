//! What is in force, as a file says it.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::check::default_of;
use super::schema::{Field, Kind as FieldKind};
use crate::entity::{Entity, Kind, State};

/// The entities that are written in the list of one kind in one parent.
type List = (&'static str, Uuid, &'static str);

/// What is written where: at the top, or in a parent. Entities are gathered once, so that a file takes as long to write as
/// it has entities.
#[derive(Default)]
struct Nesting {
    roots: Vec<(Kind, Vec<Arc<Entity>>)>,
    children: HashMap<List, Vec<Arc<Entity>>, RandomState>,
}

/// Returns the entities as the YAML text of a file: defaults left out, children in their parents, oldest first. Loaded
/// again it says the same, ids included.
pub(crate) fn export(state: &State) -> String {
    let document = document(state);
    // Nothing in it that YAML cannot hold.
    serde_yaml::to_string(&document).unwrap_or_default()
}

/// Returns the entities as a file holds them.
pub(crate) fn document(state: &State) -> Value {
    let mut top = Map::new();
    top.insert("_format_version".to_owned(), json!("3.0"));
    if Kind::named("basicauth_credentials").is_some_and(|kind| state.entities(kind).next().is_some()) {
        // Passwords are kept as hashes.
        top.insert("_transform".to_owned(), json!(false));
    }
    let all = state.in_order();
    let mut nesting = Nesting::default();
    for kind in Kind::all() {
        let mut roots = Vec::new();
        for entity in all.of_kind(kind).iter() {
            match parent_of(entity) {
                Some((_, parent, field)) => {
                    let list = (kind.name(), parent, field);
                    nesting.children.entry(list).or_default().push(entity.clone());
                }
                None => roots.push(entity.clone()),
            }
        }
        nesting.roots.push((kind, roots));
    }
    for (kind, roots) in &nesting.roots {
        let list: Vec<Value> = roots.iter().map(|one| written(one, &nesting, state)).collect();
        if !list.is_empty() {
            top.insert(kind.name().to_owned(), list.into());
        }
    }
    Value::Object(top)
}

/// Returns the entity that a file nests an entity in: the first that it refers to and that has a list of its kind. A
/// plugin for both a Route and a Service stands alone.
fn parent_of(entity: &Entity) -> Option<(Kind, Uuid, &'static str)> {
    let references = entity.kind.schema().fields.iter().filter_map(|field| {
        let to = field.kind.refers_to().and_then(Kind::named)?;
        let child = to
            .schema()
            .children
            .iter()
            .find(|child| Kind::from(child.entity) == entity.kind)?;
        Some((to, entity.reference(field.name)?, child.parent))
    });
    let found: Vec<_> = references.collect();
    match found[..] {
        [only] => Some(only),
        _ => None,
    }
}

fn written(entity: &Entity, nesting: &Nesting, state: &State) -> Value {
    let parent = parent_of(entity);
    let mut map = Map::new();
    for field in entity.kind.schema().fields {
        let value = entity.values.get(field.name);
        let is_said = parent.is_some_and(|(.., name)| name == field.name);
        if let Some(value) = value.filter(|_| !is_said) {
            let value = match field.kind.refers_to().and_then(Kind::named) {
                Some(to) => Some(name_of(to, value, state)),
                None => without_defaults(field, value, &entity.values),
            };
            if let Some(value) = value {
                map.insert(field.name.to_owned(), value);
            }
        }
        if field.name == "id" {
            map.insert("id".to_owned(), Value::from(entity.id.to_string()));
        }
    }
    // A ramp may start, and a key's life does begin, when the entity was made; otherwise it is of no use in a file.
    let uses_its_age = matches!(entity.kind.name(), "plugins" | "keyauth_credentials" | "routes");
    if let Some(time) = entity.created_at.filter(|_| uses_its_age) {
        map.insert("created_at".to_owned(), json!(time));
    }
    for child in entity.kind.schema().children {
        let kind = Kind::from(child.entity);
        let list = (kind.name(), entity.id, child.parent);
        if let Some(children) = nesting.children.get(&list) {
            let list: Vec<Value> = children.iter().map(|one| written(one, nesting, state)).collect();
            map.insert(kind.name().to_owned(), list.into());
        }
    }
    Value::Object(map)
}

/// Refers by name, where there is one that is nobody's id.
fn name_of(to: Kind, id: &Value, state: &State) -> Value {
    let entity = id
        .as_str()
        .and_then(|id| Uuid::parse_str(id).ok())
        .and_then(|id| state.get(to, id));
    // What is not unique names nothing: a certificate is known by its id.
    let schema = to.schema();
    let is_name = schema.unique.iter().any(|unique| unique.fields == [schema.key]);
    let name = entity.and_then(|entity| entity.text(schema.key).filter(|_| is_name));
    match name.filter(|name| Uuid::parse_str(name).is_err()) {
        Some(name) => Value::from(name),
        None => id.clone(),
    }
}

fn without_defaults(field: &Field, value: &Value, beside: &Map<String, Value>) -> Option<Value> {
    let is_default = default_of(field).as_ref() == Some(value);
    if is_default || field.settles.is_some_and(|settled| settled() == *value) {
        return None;
    }
    let fields = match &field.kind {
        FieldKind::Chosen(choices) => choices.record(beside).map(|record| record.fields),
        kind => kind.fields(),
    };
    let (Some(fields), Value::Object(map)) = (fields, value) else {
        return Some(value.clone());
    };
    let kept = map.iter().filter_map(|(name, value)| {
        let field = fields.iter().find(|field| field.name == name)?;
        Some((name.clone(), without_defaults(field, value, map)?))
    });
    let kept: Map<String, Value> = kept.collect();
    (!kept.is_empty()).then_some(Value::Object(kept))
}
