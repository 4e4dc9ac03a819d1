//! What a file says now, what it said last, and what is in force: three ways, field by field.
//!
//! A field that the file changed since it was last read takes the file's value; any other keeps the one in
//! force. So a PATCH outlives a reload for another reason, and an edit of the file wins where both changed.
//! Lists are one value, mappings are merged key by key. `kubectl apply` does the same.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::entity::{Change, Entity, Kind, State};

/// What a reload does.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) changes: Vec<Change>,
    pub(super) conflicts: Vec<Conflict>,
    /// Entities that neither the file nor the Admin API has written as they now are.
    pub(super) mixed: Vec<Arc<Entity>>,
}

/// Something that the file and the Admin API have both changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// What kind of entity.
    pub kind: Kind,
    /// Which one.
    pub name: String,
    /// The field; empty for the entity.
    pub path: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Both changed it: the file's value is in force.
    FileWins,
    /// The file no longer has it, but it was changed meanwhile: it is kept.
    Kept,
    /// It was removed meanwhile, and the file has changed it since: it is back.
    Restored,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.name)?;
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        f.write_str(match self.outcome {
            Outcome::FileWins => ": changed in the file and by the Admin API; the file's value is in force",
            Outcome::Kept => ": no longer in the file, but changed by the Admin API; it is kept",
            Outcome::Restored => ": removed by the Admin API, but changed or needed in the file; it is back",
        })
    }
}

/// Returns the steps from `live` to what it shall be now that the file says `file` and said `base`. `now`
/// is the time in seconds since 1970.
pub(super) fn merge(base: &State, live: &State, file: &State, order: &[Arc<Entity>], now: f64) -> Merged {
    let mut merged = Merged::default();
    let mut born = now;
    let mut put = HashSet::new();
    for said in order {
        let before = base.get(said.kind, said.id);
        let current = live.get(said.kind, said.id);
        let is_changed = before.is_none_or(|before| !before.says_the_same(said));
        match current {
            None if is_changed => {
                if before.is_some() {
                    merged.tell(said, String::new(), Outcome::Restored);
                }
                merged.make(said, &mut born, &mut put);
            }
            Some(current) if is_changed => {
                let empty = Map::new();
                let before = before.map_or(&empty, |before| &*before.values);
                let values = merged.fields(said, before, &current.values, &said.values);
                if values != *current.values {
                    let is_files = values == *said.values;
                    let entity = Arc::new(Entity {
                        values: if is_files {
                            said.values.clone()
                        } else {
                            Arc::new(values)
                        },
                        created_at: said.created_at.or(current.created_at),
                        updated_at: Some(now.floor()),
                        ..(**said).clone()
                    });
                    if !is_files {
                        merged.mixed.push(entity.clone());
                    }
                    merged.changes.push(Change::Put(entity));
                }
            }
            _ => {}
        }
    }
    merged.restore_parents(live, file, &mut born, &mut put);
    merged.remove(base, live, file);
    merged
}

impl Merged {
    fn tell(&mut self, entity: &Entity, path: String, outcome: Outcome) {
        self.conflicts.push(Conflict {
            kind: entity.kind,
            name: entity.label(),
            path,
            outcome,
        });
    }

    /// Adds an entity that is new. Those of one moment are told apart by a microsecond each, which keeps
    /// the order of the file.
    fn make(&mut self, said: &Arc<Entity>, born: &mut f64, put: &mut HashSet<(Kind, Uuid)>) {
        put.insert((said.kind, said.id));
        self.changes.push(Change::Put(Arc::new(Entity {
            created_at: said.created_at.or(Some(*born)),
            updated_at: said.updated_at.or(Some(born.floor())),
            ..(**said).clone()
        })));
        *born += 1e-6;
    }

    /// What the file says anew may refer to what was removed meanwhile: that is then back too.
    fn restore_parents(
        &mut self,
        live: &State,
        file: &State,
        born: &mut f64,
        put: &mut HashSet<(Kind, Uuid)>,
    ) {
        let mut at = 0;
        while let Some(change) = self.changes.get(at).cloned() {
            at += 1;
            let Change::Put(entity) = change else { continue };
            for field in entity.kind.schema().fields {
                let parent = field.kind.refers_to().and_then(Kind::named);
                let (Some(kind), Some(id)) = (parent, entity.reference(field.name)) else {
                    continue;
                };
                if live.get(kind, id).is_some() || put.contains(&(kind, id)) {
                    continue;
                }
                if let Some(parent) = file.get(kind, id).cloned() {
                    self.tell(&parent, String::new(), Outcome::Restored);
                    self.make(&parent, born, put);
                }
            }
        }
    }

    /// Removes what the file has dropped, children first, but keeps what was changed meanwhile and what
    /// such things refer to.
    fn remove(&mut self, base: &State, live: &State, file: &State) {
        let mut left = live.clone();
        for kind in Kind::all().collect::<Vec<_>>().into_iter().rev() {
            for before in base.entities(kind) {
                let Some(current) = live.get(kind, before.id) else {
                    continue;
                };
                if file.get(kind, before.id).is_some() {
                    continue;
                }
                if !current.says_the_same(before) || is_referred_to(&left, kind, before.id) {
                    self.tell(current, String::new(), Outcome::Kept);
                    continue;
                }
                let change = Change::Delete(kind, before.id);
                crate::entity::apply(&mut left, std::slice::from_ref(&change));
                // Before what is put, which may take its name.
                self.changes.insert(0, change);
            }
        }
    }

    /// Merges mappings and tells of what both have changed.
    fn fields(
        &mut self,
        said: &Entity,
        before: &Map<String, Value>,
        current: &Map<String, Value>,
        now: &Map<String, Value>,
    ) -> Map<String, Value> {
        let mut conflicts = Vec::new();
        let result = merge_maps(before, current, now, "", &mut conflicts);
        for path in conflicts {
            self.tell(said, path, Outcome::FileWins);
        }
        result
    }
}

fn is_referred_to(state: &State, kind: Kind, id: Uuid) -> bool {
    Kind::all().any(|by| {
        let fields = by.schema().fields.iter();
        fields
            .filter(|field| field.kind.refers_to() == Some(kind.name()))
            .any(|field| state.referring(by, field.name, id).next().is_some())
    })
}

fn merge_maps(
    before: &Map<String, Value>,
    current: &Map<String, Value>,
    now: &Map<String, Value>,
    path: &str,
    conflicts: &mut Vec<String>,
) -> Map<String, Value> {
    let mut result = Map::new();
    let added = now.keys().filter(|key| !current.contains_key(*key));
    for key in current.keys().chain(added) {
        let (was, is, said) = (before.get(key), current.get(key), now.get(key));
        let path = match path {
            "" => key.clone(),
            path => format!("{path}.{key}"),
        };
        let value = match (was, is, said) {
            // The file has not touched it.
            (was, is, said) if was == said => is.cloned(),
            (was, Some(Value::Object(is)), Some(Value::Object(said))) => {
                let empty = Map::new();
                let was = was.and_then(Value::as_object).unwrap_or(&empty);
                Some(Value::Object(merge_maps(was, is, said, &path, conflicts)))
            }
            (was, is, said) => {
                if was != is && is != said {
                    conflicts.push(path);
                }
                said.cloned()
            }
        };
        if let Some(value) = value {
            result.insert(key.clone(), value);
        }
    }
    result
}

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
