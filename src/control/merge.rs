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
        let is_dated =
            said.created_at.is_some() && before.is_none_or(|before| before.created_at != said.created_at);
        if !is_dated && before.is_some_and(|before| before.says_the_same(said)) {
            continue;
        }
        match live.get(said.kind, said.id) {
            None => {
                if before.is_some() {
                    merged.tell(said, String::new(), Outcome::Restored);
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
            self.tell(said, path, Outcome::FileWins);
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
                    self.tell(&parent, String::new(), Outcome::Restored);
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
                self.tell(current, String::new(), Outcome::Kept);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: f64 = 1_800_000_000.5;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn kind(name: &str) -> Kind {
        Kind::named(name).unwrap()
    }

    fn entity(kind_name: &str, number: u128, values: Value) -> Arc<Entity> {
        let Value::Object(values) = values else {
            panic!("no object: {values}");
        };
        Arc::new(Entity::new(kind(kind_name), id(number), values))
    }

    fn state(entities: &[Arc<Entity>]) -> State {
        State::of(entities.iter().cloned())
    }

    /// Merges, and returns what is in force then, and the steps.
    fn merged(base: &State, live: &State, file: &State) -> (State, Merged) {
        let merged = merge(base, live, file, &file.in_order(), NOW);
        let mut result = live.clone();
        entity::apply(&mut result, &merged.changes);
        (result, merged)
    }

    fn told(merged: &Merged) -> Vec<(String, &str, Outcome)> {
        let conflicts = merged.conflicts.iter();
        conflicts
            .map(|conflict| (conflict.name.clone(), &*conflict.path, conflict.outcome))
            .collect()
    }

    /// Merges one Service and returns its values and the paths of the conflicts.
    fn check(base: Value, live: Value, file: Value, wanted: Value, conflicts: &[&str]) {
        let one = |values: Value| state(&[entity("services", 1, values)]);
        let (result, steps) = merged(&one(base), &one(live), &one(file));
        let values = &result.get(kind("services"), id(1)).unwrap().values;
        assert_eq!(Value::Object((**values).clone()), wanted);
        let paths: Vec<_> = steps.conflicts.iter().map(|conflict| &*conflict.path).collect();
        assert_eq!(paths, conflicts);
    }

    #[test]
    fn each_field_is_merged_by_itself() {
        check(
            json!({"host": "a", "retries": 1, "path": "/a"}),
            json!({"host": "a", "retries": 2, "path": "/a", "tags": ["api"]}),
            json!({"host": "b", "retries": 1}),
            json!({"host": "b", "retries": 2, "tags": ["api"]}),
            &[],
        );
    }

    #[test]
    fn where_both_changed_a_field_the_file_wins_and_it_is_told() {
        check(
            json!({"host": "a", "port": 1}),
            json!({"host": "b", "port": 2}),
            json!({"host": "c", "port": 2}),
            json!({"host": "c", "port": 2}),
            &["host"],
        );
        // One removed it, the other changed it.
        check(
            json!({"path": "/a"}),
            json!({"path": "/b"}),
            json!({}),
            json!({}),
            &["path"],
        );
        check(
            json!({"path": "/a"}),
            json!({}),
            json!({"path": "/b"}),
            json!({"path": "/b"}),
            &["path"],
        );
    }

    #[test]
    fn a_list_is_one_value() {
        check(
            json!({"tags": ["a"], "paths": [1, 2]}),
            json!({"tags": ["a", "api"], "paths": [1, 2, 3]}),
            json!({"tags": ["a", "file"], "paths": [1, 2]}),
            json!({"tags": ["a", "file"], "paths": [1, 2, 3]}),
            &["tags"],
        );
    }

    #[test]
    fn mappings_are_merged_key_by_key_at_any_depth() {
        check(
            json!({"checks": {"active": {"path": "/", "timeout": 1}, "threshold": 0}}),
            json!({"checks": {"active": {"path": "/", "timeout": 2}, "threshold": 1}}),
            json!({"checks": {"active": {"path": "/up", "timeout": 1, "type": "http"}, "threshold": 2}}),
            json!({"checks": {"active": {"path": "/up", "timeout": 2, "type": "http"}, "threshold": 2}}),
            &["checks.threshold"],
        );
        // Both have made one.
        check(
            json!({}),
            json!({"headers": {"a": 1, "c": 1}}),
            json!({"headers": {"b": 2, "c": 2}}),
            json!({"headers": {"a": 1, "c": 2, "b": 2}}),
            &["headers.c"],
        );
        // The file takes the whole of it away.
        check(
            json!({"headers": {"a": 1}}),
            json!({"headers": {"a": 1, "b": 2}}),
            json!({}),
            json!({}),
            &["headers"],
        );
    }

    #[test]
    fn what_the_admin_api_made_under_the_same_id_takes_what_the_file_says() {
        let (file, live) = (
            state(&[entity("services", 1, json!({"host": "file", "port": 80}))]),
            state(&[entity("services", 1, json!({"host": "api", "tags": []}))]),
        );
        let (result, steps) = merged(&State::default(), &live, &file);
        let values = &result.get(kind("services"), id(1)).unwrap().values;
        assert_eq!(
            **values,
            *json!({"host": "file", "port": 80, "tags": []})
                .as_object()
                .unwrap()
        );
        assert_eq!(told(&steps), [(id(1).to_string(), "host", Outcome::FileWins)]);
        assert_eq!(steps.mixed.len(), 1);
    }

    #[test]
    fn a_change_keeps_the_age_and_what_is_new_keeps_the_order_of_the_file() {
        let dated = |entity: &Entity, created_at: Option<f64>| {
            Arc::new(Entity {
                created_at,
                ..entity.clone()
            })
        };
        let old = entity("services", 9, json!({"host": "a"}));
        let base = state(std::slice::from_ref(&old));
        let live = state(&[dated(&old, Some(5.0))]);
        let order = [
            entity("services", 7, json!({})),
            entity("services", 3, json!({})),
            entity("services", 9, json!({"host": "b"})),
        ];
        let steps = merge(&base, &live, &state(&order), &order, NOW);
        let mut result = live.clone();
        entity::apply(&mut result, &steps.changes);
        let ids: Vec<_> = result.in_order().iter().map(|entity| entity.id).collect();
        assert_eq!(ids, [id(9), id(7), id(3)]);
        let changed = result.get(kind("services"), id(9)).unwrap();
        assert_eq!(
            (changed.created_at, changed.updated_at),
            (Some(5.0), Some(NOW.floor()))
        );

        // A time that the file gives is one that it can change, and leaves alone once it says nothing.
        let said = |time| state(&[dated(&old, time)]);
        for (before, now, wanted) in [
            (None, Some(7.0), 7.0),
            (Some(7.0), Some(8.0), 8.0),
            (Some(7.0), Some(7.0), 5.0),
            (Some(7.0), None, 5.0),
        ] {
            let (result, _) = merged(&said(before), &live, &said(now));
            let created_at = result.get(kind("services"), id(9)).unwrap().created_at;
            assert_eq!(created_at, Some(wanted), "{before:?} then {now:?}");
        }
    }

    #[test]
    fn what_the_file_drops_goes_unless_it_was_changed_or_is_needed() {
        let [kept, gone, needed] = [1, 2, 3].map(|number| entity("services", number, json!({"host": "a"})));
        let base = state(&[kept.clone(), gone.clone(), needed.clone()]);
        let live = state(&[
            entity("services", 1, json!({"host": "b"})),
            gone,
            needed,
            entity("routes", 4, json!({"service": id(3).to_string()})),
        ]);
        let (result, steps) = merged(&base, &live, &State::default());
        let ids: Vec<_> = result.in_order().iter().map(|entity| entity.id).collect();
        assert_eq!(ids, [id(1), id(3), id(4)]);
        let told = told(&steps);
        assert_eq!(told.len(), 2);
        assert!(told.iter().all(|(_, _, outcome)| *outcome == Outcome::Kept));
    }

    #[test]
    fn a_parent_whose_children_the_file_has_moved_goes() {
        let route = |service: u128| entity("routes", 3, json!({"service": id(service).to_string()}));
        let [old, new] = [1, 2].map(|number| entity("services", number, json!({})));
        let base = state(&[old, route(1)]);
        let (result, steps) = merged(&base, &base, &state(&[new, route(2)]));
        assert!(result.get(kind("services"), id(1)).is_none());
        assert_eq!(told(&steps), []);
        assert_eq!(steps.changes[0], Change::Delete(kind("services"), id(1)));
    }

    #[test]
    fn what_was_removed_meanwhile_stays_away_until_the_file_changes_it() {
        let service = |host: &str| entity("services", 1, json!({"host": host}));
        let base = state(&[service("a")]);
        let (result, steps) = merged(&base, &State::default(), &base);
        assert!(result.is_empty() && steps.conflicts.is_empty());
        let (result, steps) = merged(&base, &State::default(), &state(&[service("b")]));
        assert_eq!(result.len(), 1);
        assert_eq!(
            told(&steps),
            [(id(1).to_string(), "", Outcome::Restored)],
            "it is back"
        );
        let (result, steps) = merged(&base, &State::default(), &State::default());
        assert!(
            result.is_empty() && steps.conflicts.is_empty(),
            "both have removed it"
        );
    }

    #[test]
    fn a_new_child_brings_its_parents_back() {
        let service = entity("services", 1, json!({"name": "shop"}));
        let route = entity("routes", 2, json!({"service": id(1).to_string()}));
        let plugin = entity("plugins", 3, json!({"route": id(2).to_string()}));
        let base = state(&[service.clone(), route.clone()]);
        let (result, steps) = merged(&base, &State::default(), &state(&[service, route, plugin]));
        assert_eq!(result.len(), 3);
        let told = told(&steps);
        assert_eq!(
            told,
            [
                (id(2).to_string(), "", Outcome::Restored),
                ("shop".to_owned(), "", Outcome::Restored)
            ]
        );
    }

    #[test]
    fn a_difference_names_every_field() {
        let (file, live) = (
            entity("services", 1, json!({"a": 1, "c": {"x": 1, "y": 1}, "only": 1})),
            entity("services", 1, json!({"a": 1, "c": {"x": 2, "y": 1}, "new": 1})),
        );
        let added = entity("services", 2, json!({}));
        let removed = entity("services", 3, json!({}));
        let found = differences(&state(&[file, removed]), &state(&[live, added]));
        assert_eq!(found.len(), 3);
        assert_eq!(
            found[0].fields(),
            [
                ("c.x".to_owned(), Some(json!(1)), Some(json!(2))),
                ("only".to_owned(), Some(json!(1)), None),
                ("new".to_owned(), None, Some(json!(1))),
            ]
        );
        assert!(found[1].live.is_none() && found[2].file.is_none());
    }

    /// An entity as the properties below vary it.
    #[derive(Debug, Clone)]
    struct Sketch {
        text: u8,
        number: Option<u8>,
        list: Vec<u8>,
        nested: [Option<u8>; 2],
        /// Which of the possible parents.
        parent: usize,
    }

    /// What may be there: a kind, and where the possible parents are.
    const PLACES: [(&str, &str, &[usize]); 10] = [
        ("services", "", &[]),
        ("services", "", &[]),
        ("routes", "service", &[0, 1]),
        ("routes", "service", &[0, 1]),
        ("routes", "service", &[1]),
        ("upstreams", "", &[]),
        ("targets", "upstream", &[5]),
        ("targets", "upstream", &[5]),
        ("plugins", "route", &[2, 3]),
        ("plugins", "service", &[0, 1]),
    ];

    /// A whole state: what has no parent is left out.
    type World = Vec<Option<Sketch>>;

    fn sketch() -> impl Strategy<Value = Sketch> {
        (
            0..3_u8,
            proptest::option::of(0..2_u8),
            proptest::collection::vec(0..2_u8, 0..2),
            [proptest::option::of(0..3_u8), proptest::option::of(0..3_u8)],
            0..2_usize,
        )
            .prop_map(|(text, number, list, nested, parent)| Sketch {
                text,
                number,
                list,
                nested,
                parent,
            })
    }

    fn world() -> impl Strategy<Value = World> {
        proptest::collection::vec(proptest::option::weighted(0.7, sketch()), PLACES.len())
    }

    /// A world of which about half is as in another.
    fn edited(world: World) -> impl Strategy<Value = World> {
        let edits = proptest::collection::vec(
            proptest::option::of(proptest::option::weighted(0.7, sketch())),
            world.len(),
        );
        edits.prop_map(move |edits| {
            let both = edits.into_iter().zip(&world);
            both.map(|(edit, before)| edit.unwrap_or_else(|| before.clone()))
                .collect()
        })
    }

    /// What the file said, what is in force, what the file says.
    fn three() -> impl Strategy<Value = (State, State, State)> {
        world().prop_flat_map(|base| {
            let (live, file) = (edited(base.clone()), edited(base.clone()));
            (live, file).prop_map(move |(live, file)| (build(&base), build(&live), build(&file)))
        })
    }

    fn build(world: &World) -> State {
        let mut entities: Vec<Arc<Entity>> = Vec::new();
        for (place, sketch) in world.iter().enumerate() {
            let Some(sketch) = sketch else { continue };
            let (kind_name, field, parents) = PLACES[place];
            let mut values = json!({
                "text": sketch.text.to_string(),
                "list": sketch.list,
                "nested": {"deep": {}},
            });
            if let Some(number) = sketch.number {
                values["number"] = json!(number);
            }
            if let Some(number) = sketch.nested[0] {
                values["nested"]["shallow"] = json!(number);
            }
            if let Some(number) = sketch.nested[1] {
                values["nested"]["deep"]["leaf"] = json!(number);
            }
            if !parents.is_empty() {
                let parent = id(parents[sketch.parent % parents.len()] as u128);
                if !entities.iter().any(|entity| entity.id == parent) {
                    continue;
                }
                values[field] = json!(parent.to_string());
            }
            entities.push(entity(kind_name, place as u128, values));
        }
        state(&entities)
    }

    fn all(states: &[&State]) -> Vec<(Kind, Uuid)> {
        let mut all: Vec<_> = states
            .iter()
            .flat_map(|state| state.in_order())
            .map(|entity| (entity.kind, entity.id))
            .collect();
        all.sort_by_key(|(_, id)| *id);
        all.dedup();
        all
    }

    /// Whatever is no mapping, by its path.
    fn leaves(entity: &Entity) -> BTreeMap<String, Value> {
        fn gather(values: &Map<String, Value>, path: &str, leaves: &mut BTreeMap<String, Value>) {
            for (key, value) in values {
                let path = format!("{path}.{key}");
                match value {
                    Value::Object(inner) => gather(inner, &path, leaves),
                    value => drop(leaves.insert(path.trim_start_matches('.').to_owned(), value.clone())),
                }
            }
        }
        let mut leaves = BTreeMap::new();
        gather(&entity.values, "", &mut leaves);
        leaves
    }

    fn is_needed(state: &State, subject: (Kind, Uuid)) -> bool {
        state
            .in_order()
            .iter()
            .flat_map(references)
            .any(|it| it == subject)
    }

    proptest! {
        #[test]
        fn a_file_that_says_the_same_changes_nothing((base, live, _) in three()) {
            let (_, steps) = merged(&base, &live, &base);
            prop_assert!(steps.changes.is_empty() && steps.conflicts.is_empty());
        }

        #[test]
        fn without_the_admin_api_what_the_file_says_is_in_force((base, _, file) in three()) {
            let (result, steps) = merged(&base, &base, &file);
            prop_assert_eq!(differences(&file, &result), []);
            prop_assert!(steps.conflicts.is_empty() && steps.mixed.is_empty());
        }

        #[test]
        fn no_reference_leads_nowhere((base, live, file) in three()) {
            let (result, _) = merged(&base, &live, &file);
            for entity in result.in_order() {
                for (kind, id) in references(&entity) {
                    prop_assert!(result.get(kind, id).is_some(), "{:?} to {:?} {}", entity, kind, id);
                }
            }
        }

        #[test]
        fn a_second_time_changes_nothing((base, live, file) in three()) {
            let (result, _) = merged(&base, &live, &file);
            let (_, again) = merged(&file, &result, &file);
            prop_assert!(again.changes.is_empty() && again.conflicts.is_empty());
            // Nor does it when it is forgotten that the file was read.
            let (_, again) = merged(&base, &result, &file);
            prop_assert_eq!(again.changes, []);
        }

        #[test]
        fn a_field_that_the_file_changed_is_the_files_and_any_other_is_the_live_one(
            (base, live, file) in three()
        ) {
            let (result, steps) = merged(&base, &live, &file);
            for (kind, id) in all(&[&base]) {
                let sides = [&base, &live, &file].map(|state| state.get(kind, id).map(|entity| leaves(entity)));
                let [Some(base), Some(live), Some(file)] = sides else { continue };
                let result = leaves(result.get(kind, id).unwrap());
                let paths = base.keys().chain(live.keys()).chain(file.keys());
                for path in paths {
                    let [was, is, said] = [&base, &live, &file].map(|leaves| leaves.get(path));
                    let wanted = if was == said { is } else { said };
                    prop_assert_eq!(result.get(path), wanted, "{}", path);
                    let is_conflict = was != is && was != said && is != said;
                    let is_told = steps.conflicts.iter().any(|conflict| {
                        conflict.name == id.to_string() && conflict.path == *path && conflict.outcome == Outcome::FileWins
                    });
                    prop_assert_eq!(is_told, is_conflict, "{}", path);
                }
            }
        }

        #[test]
        fn what_is_there_afterwards_is_what_either_side_has_a_reason_for((base, live, file) in three()) {
            let (result, steps) = merged(&base, &live, &file);
            let of = |state: &State, (kind, id)| state.get(kind, id).cloned();
            let has_changed = |side: &State, subject| match (of(&base, subject), of(side, subject)) {
                (Some(before), Some(now)) => !before.says_the_same(&now),
                (before, now) => before.is_some() != now.is_some(),
            };
            for subject in all(&[&base, &live, &file]) {
                let sides = [&base, &live, &file].map(|state| of(state, subject).is_some());
                let is_needed = is_needed(&result, subject);
                let wanted = match sides {
                    // Dropped by the file.
                    [true, true, false] => has_changed(&live, subject) || is_needed,
                    // Removed by the Admin API.
                    [true, false, true] => has_changed(&file, subject) || is_needed,
                    [_, is, said] => is || said,
                };
                prop_assert_eq!(of(&result, subject).is_some(), wanted, "{:?} {:?}", subject, sides);
                let told = steps.conflicts.iter().find(|conflict| {
                    conflict.name == subject.1.to_string() && conflict.path.is_empty()
                });
                let outcome = match sides {
                    [true, true, false] if wanted => Some(Outcome::Kept),
                    [true, false, true] if wanted => Some(Outcome::Restored),
                    _ => None,
                };
                prop_assert_eq!(told.map(|conflict| conflict.outcome), outcome, "{:?}", subject);
                if sides == [false, true, false] {
                    prop_assert_eq!(of(&result, subject), of(&live, subject));
                }
            }
        }

        /// Of two edits that have nothing to do with each other it does not matter which comes first.
        #[test]
        fn unrelated_edits_can_come_in_either_order(
            base in world(),
            by_file in proptest::collection::vec(proptest::option::of(7..9_u8), PLACES.len()),
            by_api in proptest::collection::vec(proptest::option::of(7..9_u8), PLACES.len()),
        ) {
            let base = build(&base);
            let edit = |state: &State, path: [&str; 2], edits: &[Option<u8>], made: u128| {
                let mut entities = state.in_order();
                for entity in &mut entities {
                    let Some(edit) = edits[entity.id.as_u128() as usize % edits.len()] else { continue };
                    let mut values = Value::Object((*entity.values).clone());
                    match path {
                        [field, ""] => values[field] = json!(edit),
                        [field, inner] => values[field][inner] = json!(edit),
                    }
                    *entity = self::entity(entity.kind.name(), entity.id.as_u128(), values);
                }
                entities.push(self::entity("services", made, json!({"text": "new"})));
                self::state(&entities)
            };
            let file = edit(&base, ["text", ""], &by_file, 101);
            let (api_first, steps) = merged(&base, &edit(&base, ["nested", "shallow"], &by_api, 201), &file);
            prop_assert!(steps.conflicts.is_empty());
            let (file_first, _) = merged(&base, &base, &file);
            // The Admin API does not touch what the file has just made.
            let untouched = file_first.get(kind("services"), id(101)).cloned();
            let mut file_first = edit(&file_first, ["nested", "shallow"], &by_api, 201);
            entity::apply(&mut file_first, &untouched.map(Change::Put).into_iter().collect::<Vec<_>>());
            prop_assert_eq!(differences(&api_first, &file_first), []);
        }
    }
}
