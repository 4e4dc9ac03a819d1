//! In what two sets of entities differ: what is in force from what a file says.

use std::sync::Arc;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::entity::{Entity, Kind, State};

/// An entity in which what is in force differs from the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Difference {
    pub(crate) kind: Kind,
    pub(crate) id: Uuid,
    pub(crate) name: String,
    /// What the file says; `None` where it does not have the entity.
    pub(crate) file: Option<Arc<Entity>>,
    /// What is in force; `None` where it was removed.
    pub(crate) live: Option<Arc<Entity>>,
}

impl Difference {
    /// Returns every field that differs, with what the file says and what is in force.
    pub(crate) fn fields(&self) -> Vec<(String, Option<Value>, Option<Value>)> {
        let mut fields = Vec::new();
        if let (Some(file), Some(live)) = (&self.file, &self.live) {
            compare_maps(&file.values, &live.values, "", &mut fields);
        }
        fields
    }
}

/// Returns in what the entities in force differ from those of the file.
pub(crate) fn differences(file: &State, live: &State) -> Vec<Difference> {
    let mut found = Vec::new();
    for kind in Kind::all() {
        let of = |file: Option<&Arc<Entity>>, live: Option<&Arc<Entity>>| {
            let entity = live.or(file)?;
            Some(Difference {
                kind,
                id: entity.id,
                name: entity.label(),
                file: file.cloned(),
                live: live.cloned(),
            })
        };
        for entity in file.entities(kind) {
            let current = live.get(kind, entity.id);
            if current.is_none_or(|current| !current.says_the_same(entity)) {
                found.extend(of(Some(entity), current));
            }
        }
        let added = live
            .entities(kind)
            .filter(|entity| file.get(kind, entity.id).is_none());
        found.extend(added.filter_map(|entity| of(None, Some(entity))));
    }
    found
}

fn compare_maps(
    file: &Map<String, Value>,
    live: &Map<String, Value>,
    path: &str,
    fields: &mut Vec<(String, Option<Value>, Option<Value>)>,
) {
    let only_live = live.keys().filter(|key| !file.contains_key(*key));
    for key in file.keys().chain(only_live) {
        let path = match path {
            "" => key.clone(),
            path => format!("{path}.{key}"),
        };
        match (file.get(key), live.get(key)) {
            (Some(Value::Object(file)), Some(Value::Object(live))) => compare_maps(file, live, &path, fields),
            (file, live) if file != live => fields.push((path, file.cloned(), live.cloned())),
            _ => {}
        }
    }
}
