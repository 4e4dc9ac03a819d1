//! A set of entities in which every reference leads somewhere.
//!
//! Cheap to copy: the tables are shared until one of them changes, so that whoever reads keeps a whole
//! state while the next one is made.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use super::{Change, Entity, Kind};
use crate::config::schema::Unique;
use crate::config::schema::target::normal_target;

/// All entities.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// By the position of the kind.
    tables: Vec<Arc<Table>>,
}

/// The entities of one kind.
#[derive(Debug, Clone, Default)]
struct Table {
    rows: BTreeMap<Uuid, Arc<Entity>>,
    /// By what must be unique: which rule, and the text that must differ. Shared texts, since the table is
    /// copied with each generation that changes it.
    unique: HashMap<(usize, Arc<str>), Uuid>,
}

impl State {
    /// Puts entities together that fit together, such as those that a store has kept.
    pub fn of(entities: impl IntoIterator<Item = Arc<Entity>>) -> Self {
        let mut state = Self::default();
        for entity in entities {
            state.put(entity);
        }
        state
    }

    /// Returns an entity by its id.
    pub fn get(&self, kind: Kind, id: Uuid) -> Option<&Arc<Entity>> {
        self.table(kind)?.rows.get(&id)
    }

    /// Returns an entity by its id or its name.
    pub fn find(&self, kind: Kind, name_or_id: &str) -> Option<&Arc<Entity>> {
        let by_id = Uuid::parse_str(name_or_id).ok().and_then(|id| self.get(kind, id));
        by_id.or_else(|| {
            let named = |unique: &Unique| unique.fields == [kind.schema().key];
            let rule = kind.schema().unique.iter().position(named)?;
            let table = self.table(kind)?;
            table.rows.get(table.unique.get(&(rule, name_or_id.into()))?)
        })
    }

    /// Returns the entities of a kind in the order of their ids.
    pub fn entities(&self, kind: Kind) -> impl DoubleEndedIterator<Item = &Arc<Entity>> {
        self.table(kind).into_iter().flat_map(|table| table.rows.values())
    }

    /// Returns those that come after an id, in the order of the ids.
    pub fn entities_after(&self, kind: Kind, id: Option<Uuid>) -> impl Iterator<Item = &Arc<Entity>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = id.map_or(Unbounded, Excluded);
        self.table(kind)
            .into_iter()
            .flat_map(move |table| table.rows.range((after, Unbounded)).map(|(_, entity)| entity))
    }

    /// Returns the entities of a kind whose `field` refers to `id`, in the order of their ids.
    pub fn referring<'a>(
        &'a self,
        kind: Kind,
        field: &'a str,
        id: Uuid,
    ) -> impl Iterator<Item = &'a Arc<Entity>> {
        let id = id.to_string();
        self.entities(kind)
            .filter(move |entity| entity.text(field) == Some(id.as_str()))
    }

    /// Returns all entities: those that others refer to first, of one kind the oldest first.
    pub fn in_order(&self) -> Vec<Arc<Entity>> {
        let mut all = Vec::with_capacity(self.len());
        for kind in Kind::all() {
            let start = all.len();
            all.extend(self.entities(kind).cloned());
            all[start..].sort_by(|a, b| {
                let time = |entity: &Arc<Entity>| entity.created_at.unwrap_or(f64::MAX);
                time(a).total_cmp(&time(b))
            });
        }
        all
    }

    /// Returns how many entities there are.
    pub fn len(&self) -> usize {
        self.tables.iter().map(|table| table.rows.len()).sum()
    }

    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the rule that an entity breaks because another one holds the same, and that other.
    pub(crate) fn duplicate_of(&self, entity: &Entity) -> Option<(&'static Unique, Uuid)> {
        let table = self.table(entity.kind)?;
        keys(entity).find_map(|(rule, key)| {
            let id = *table.unique.get(&(rule, key))?;
            (id != entity.id).then(|| (&entity.kind.schema().unique[rule], id))
        })
    }

    /// Takes a step that fits; `entity::apply` sees to it.
    pub(super) fn take(&mut self, change: &Change) {
        match change {
            Change::Put(entity) => self.put(entity.clone()),
            Change::Delete(kind, id) => self.remove(*kind, *id),
        }
    }

    fn put(&mut self, entity: Arc<Entity>) {
        let (kind, id) = (entity.kind, entity.id);
        let table = self.table_mut(kind);
        if let Some(old) = table.rows.insert(id, entity.clone()) {
            table.forget_keys(&old);
        }
        table.unique.extend(keys(&entity).map(|key| (key, id)));
    }

    fn remove(&mut self, kind: Kind, id: Uuid) {
        let table = self.table_mut(kind);
        if let Some(old) = table.rows.remove(&id) {
            table.forget_keys(&old);
        }
    }

    fn table(&self, kind: Kind) -> Option<&Table> {
        self.tables.get(kind.position()).map(|table| &**table)
    }

    fn table_mut(&mut self, kind: Kind) -> &mut Table {
        let position = kind.position();
        if self.tables.len() <= position {
            self.tables.resize_with(position + 1, Arc::default);
        }
        Arc::make_mut(&mut self.tables[position])
    }
}

impl Table {
    /// Another entity may have taken a key over by now.
    fn forget_keys(&mut self, old: &Entity) {
        for key in keys(old) {
            if self.unique.get(&key) == Some(&old.id) {
                self.unique.remove(&key);
            }
        }
    }
}

/// Returns what no other entity of the kind may hold: the rule, and the text that must differ.
fn keys(entity: &Entity) -> impl Iterator<Item = (usize, Arc<str>)> {
    let rules = entity.kind.schema().unique.iter().enumerate();
    rules.filter_map(|(rule, unique)| Some((rule, key_of(entity, unique)?.into())))
}

fn key_of(entity: &Entity, unique: &Unique) -> Option<String> {
    let mut key = String::new();
    for (index, field) in unique.fields.iter().enumerate() {
        if index > 0 {
            key.push('\n');
        }
        match entity.values.get(*field) {
            Some(Value::String(text)) if *field == "target" => key.push_str(&normal_target(text)),
            Some(Value::String(text)) => key.push_str(text),
            Some(value) => key.push_str(&value.to_string()),
            None if unique.counts_null => {}
            None => return None,
        }
    }
    Some(key)
}
