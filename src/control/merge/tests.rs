//! The merge, case by case and property by property.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::control::differences;
use crate::entity::testbed::{entity, id, kind};

const NOW: f64 = 1_800_000_000.5;

fn state(entities: &[Arc<Entity>]) -> State {
    State::of(entities.iter().cloned())
}

fn all_of(state: &State) -> Vec<Arc<Entity>> {
    state.in_order().iter().cloned().collect()
}

/// Merges, and returns what is in force then, and the steps.
fn merged(base: &State, live: &State, file: &State) -> (State, Merged) {
    let merged = merge(base, live, file, &all_of(file), NOW);
    let mut result = live.clone();
    entity::apply(&mut result, &merged.changes);
    (result, merged)
}

fn told(merged: &Merged) -> Vec<(String, &str, Resolution)> {
    let conflicts = merged.conflicts.iter();
    conflicts
        .map(|conflict| (conflict.name.clone(), &*conflict.path, conflict.resolution))
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
    assert_eq!(told(&steps), [(id(1).to_string(), "host", Resolution::FileWins)]);
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
    assert!(told.iter().all(|(_, _, outcome)| *outcome == Resolution::Kept));
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
        [(id(1).to_string(), "", Resolution::Restored)],
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
            (id(2).to_string(), "", Resolution::Restored),
            ("shop".to_owned(), "", Resolution::Restored)
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
        .flat_map(|state| all_of(state))
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
        for entity in all_of(&result) {
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
                    conflict.name == id.to_string() && conflict.path == *path && conflict.resolution == Resolution::FileWins
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
                [true, true, false] if wanted => Some(Resolution::Kept),
                [true, false, true] if wanted => Some(Resolution::Restored),
                _ => None,
            };
            prop_assert_eq!(told.map(|conflict| conflict.resolution), outcome, "{:?}", subject);
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
            let mut entities = all_of(state);
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
