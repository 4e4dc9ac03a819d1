//! What a file says now, what it said last, and what is in force: three ways, field by field.
//!
//! A field that the file changed since it was last read takes the file's value; any other keeps the one in
//! force. So a PATCH outlives a reload for another reason, and an edit of the file wins where both changed.
//! Lists are one value, mappings are merged key by key. `kubectl apply` does the same.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::entity::{self, Change, Entity, Kind, State};
use crate::priority::patiently;

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
    pub resolution: Resolution,
}

/// What became of a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
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
        f.write_str(match self.resolution {
            Resolution::FileWins => {
                ": changed in the file and by the Admin API; the file's value is in force"
            }
            Resolution::Kept => ": no longer in the file, but changed by the Admin API; it is kept",
            Resolution::Restored => {
                ": removed by the Admin API, but changed or needed in the file; it is back"
            }
        })
    }
}

/// Returns the steps from `live` to what it shall be now that the file says `file` and said `base`. `now`
/// is the time in seconds since 1970.
pub(super) fn merge(base: &State, live: &State, file: &State, order: &[Arc<Entity>], now: f64) -> Merged {
    let mut merged = Merged::default();
    let mut born = now;
    let mut put = HashSet::new();
    let changed: Vec<Kind> = Kind::all().filter(|kind| !file.shares(*kind, base)).collect();
    for said in patiently(order).filter(|said| changed.contains(&said.kind)) {
        let before = base.get(said.kind, said.id);
        let is_dated =
            said.created_at.is_some() && before.is_none_or(|before| before.created_at != said.created_at);
        if !is_dated && before.is_some_and(|before| before.says_the_same(said)) {
            continue;
        }
        match live.get(said.kind, said.id) {
            None => {
                if before.is_some() {
                    merged.tell(said, String::new(), Resolution::Restored);
                }
                merged.make(said, &mut born, &mut put);
            }
            Some(current) => {
                let created_at = match is_dated {
                    true => said.created_at,
                    false => current.created_at,
                };
                merged.change(said, before, current, created_at, now);
            }
        }
    }
    merged.restore_parents(live, file, &mut born, &mut put);
    merged.remove(base, live, file);
    merged
}

impl Merged {
    fn tell(&mut self, entity: &Entity, path: String, resolution: Resolution) {
        self.conflicts.push(Conflict {
            kind: entity.kind,
            name: entity.label(),
            path,
            resolution,
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

    /// Takes the fields that the file has changed.
    fn change(
        &mut self,
        said: &Arc<Entity>,
        before: Option<&Arc<Entity>>,
        current: &Arc<Entity>,
        created_at: Option<f64>,
        now: f64,
    ) {
        let empty = Map::new();
        let before = before.map_or(&empty, |before| &*before.values);
        let mut conflicts = Vec::new();
        let values = merge_maps(before, &current.values, &said.values, "", &mut conflicts);
        for path in conflicts {
            self.tell(said, path, Resolution::FileWins);
        }
        if values == *current.values && created_at == current.created_at {
            return;
        }
        let is_files = values == *said.values;
        let entity = Arc::new(Entity {
            values: match is_files {
                true => said.values.clone(),
                false => Arc::new(values),
            },
            created_at,
            updated_at: Some(now.floor()),
            ..(**said).clone()
        });
        if !is_files {
            self.mixed.push(entity.clone());
        }
        self.changes.push(Change::Put(entity));
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
            for (kind, id) in references(&entity) {
                if live.get(kind, id).is_some() || put.contains(&(kind, id)) {
                    continue;
                }
                if let Some(parent) = file.get(kind, id).cloned() {
                    self.tell(&parent, String::new(), Resolution::Restored);
                    self.make(&parent, born, put);
                }
            }
        }
    }

    /// Removes what the file has dropped, children first, but keeps what was changed meanwhile and what
    /// still is referred to.
    fn remove(&mut self, base: &State, live: &State, file: &State) {
        let dropped: Vec<_> = Kind::all()
            .rev()
            .filter(|kind| !file.shares(*kind, base))
            .flat_map(|kind| base.entities(kind))
            .filter(|before| file.get(before.kind, before.id).is_none())
            .filter_map(|before| Some((before, live.get(before.kind, before.id)?)))
            .collect();
        if dropped.is_empty() {
            return;
        }
        let mut left = live.clone();
        entity::apply(&mut left, &self.changes);
        let mut referring: HashMap<(Kind, Uuid), usize> = HashMap::new();
        for subject in Kind::all()
            .flat_map(|kind| left.entities(kind))
            .flat_map(references)
        {
            *referring.entry(subject).or_default() += 1;
        }
        let mut removed = Vec::with_capacity(dropped.len());
        for (before, current) in dropped {
            let subject = (current.kind, current.id);
            if !current.says_the_same(before) || referring.get(&subject).is_some_and(|count| *count > 0) {
                self.tell(current, String::new(), Resolution::Kept);
                continue;
            }
            for parent in references(current) {
                referring.entry(parent).and_modify(|count| *count -= 1);
            }
            removed.push(Change::Delete(current.kind, current.id));
        }
        // Before what is put, which may take a name over.
        self.changes.splice(0..0, removed);
    }
}

/// Returns what an entity refers to.
fn references(entity: &Arc<Entity>) -> impl Iterator<Item = (Kind, Uuid)> {
    let fields = entity.kind.schema().fields.iter();
    fields.filter_map(|field| {
        let kind = field.kind.refers_to().and_then(Kind::named)?;
        Some((kind, entity.reference(field.name)?))
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

#[cfg(test)]
mod tests;
