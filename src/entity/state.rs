//! A set of entities in which every reference leads somewhere.
//!
//! Cheap to copy: the tables are shared until one of them changes, so that whoever reads keeps a whole
//! state while the next one is made.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};
use uuid::Uuid;

use super::order::InOrder;
use super::{Change, Entity, Kind};
use crate::config::schema::Unique;
use crate::config::schema::target::normal_target;
use crate::priority::patiently;

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
    unique: HashMap<(usize, Arc<str>), Uuid, ahash::RandomState>,
    /// The rows, the oldest first; made when it is first asked for.
    in_order: OnceLock<Arc<[Arc<Entity>]>>,
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

    /// Returns a state of other entities that fit together, each of them once. What is the same is shared.
    pub(crate) fn changed_to(&self, entities: &[Arc<Entity>]) -> Self {
        let mut state = self.clone();
        for entity in patiently(entities) {
            let known = self.get(entity.kind, entity.id);
            if known.is_none_or(|known| !Arc::ptr_eq(known, entity)) {
                state.put(entity.clone());
            }
        }
        // While none is too many nothing was removed.
        if state.len() > entities.len() {
            let left: HashSet<_> = entities.iter().map(|entity| (entity.kind, entity.id)).collect();
            let of_kind = |kind| self.entities(kind).map(move |entity| (kind, entity.id));
            for (kind, id) in Kind::all().flat_map(of_kind).filter(|one| !left.contains(one)) {
                state.remove(kind, id);
            }
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

    /// Returns an entity that refers to `parent` by `field`, by its id or by what tells it from its siblings:
    /// the value of the one other field of something that must be unique.
    pub fn child(&self, kind: Kind, field: &str, parent: Uuid, name_or_id: &str) -> Option<&Arc<Entity>> {
        let is_child = |entity: &&Arc<Entity>| entity.reference(field) == Some(parent);
        let by_id = Uuid::parse_str(name_or_id).ok().and_then(|id| self.get(kind, id));
        by_id.filter(is_child).or_else(|| {
            let table = self.table(kind)?;
            let mut rules = kind.schema().unique.iter().enumerate();
            rules.find_map(|(rule, unique)| {
                let mut others = unique.fields.iter().filter(|name| **name != field);
                let (Some(own), None) = (others.next(), others.next()) else {
                    return None;
                };
                let values = [(field, parent.to_string()), (*own, name_or_id.to_owned())];
                let values = values.map(|(name, value)| (name.to_owned(), Value::from(value)));
                let key = key_of(&Map::from_iter(values), unique)?;
                let id = table.unique.get(&(rule, key.into()))?;
                table.rows.get(id).filter(is_child)
            })
        })
    }

    /// Returns all entities: those that others refer to first, of one kind the oldest first.
    pub(crate) fn in_order(&self) -> InOrder {
        InOrder::new(self.tables.iter().map(|table| table.in_order()).collect())
    }

    /// Says whether the entities of a kind are the same as there, as far as that is known without comparing them.
    pub(crate) fn shares(&self, kind: Kind, other: &Self) -> bool {
        let of = |state: &Self| state.tables.get(kind.position()).map(Arc::as_ptr);
        of(self) == of(other)
    }

    /// Returns how many entities there are.
    pub fn len(&self) -> usize {
        self.tables.iter().map(|table| table.rows.len()).sum()
    }

    /// Returns how many entities of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.table(kind).map_or(0, |table| table.rows.len())
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

    /// Says whether an entity holds something that must be unique and that it does not hold here.
    pub(crate) fn is_claim(&self, entity: &Entity) -> bool {
        let holder = |key| self.table(entity.kind)?.unique.get(&key);
        keys(entity).any(|key| holder(key) != Some(&entity.id))
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
        let table = Arc::make_mut(&mut self.tables[position]);
        table.in_order.take();
        table
    }
}

impl Table {
    /// Those of one time, and those without any, are in the order of their ids.
    fn in_order(&self) -> Arc<[Arc<Entity>]> {
        let sort = || {
            let time = |entity: &Entity| entity.created_at.unwrap_or(f64::MAX);
            let mut rows: Vec<_> = patiently(self.rows.values())
                .map(|row| (time(row), row))
                .collect();
            rows.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            rows.into_iter().map(|(_, row)| row.clone()).collect()
        };
        self.in_order.get_or_init(sort).clone()
    }

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
    rules.filter_map(|(rule, unique)| Some((rule, key_of(&entity.values, unique)?.into())))
}

fn key_of(values: &Map<String, Value>, unique: &Unique) -> Option<String> {
    let mut key = String::new();
    for (index, field) in unique.fields.iter().enumerate() {
        if index > 0 {
            key.push('\n');
        }
        match values.get(*field) {
            Some(Value::String(text)) if *field == "target" => key.push_str(&normal_target(text)),
            Some(Value::String(text)) => key.push_str(text),
            Some(value) => key.push_str(&value.to_string()),
            None if unique.counts_null => {}
            None => return None,
        }
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::entity::testbed::{entity, id, kind};

    fn named(kind_name: &str, number: u128, name: &str) -> Arc<Entity> {
        entity(kind_name, number, json!({"name": name}))
    }

    /// Returns what the second one shares with the first, by the rule that forbids it.
    fn shared(kind_name: &str, first: Value, second: Value) -> Option<&'static [&'static str]> {
        let state = State::of([entity(kind_name, 1, first)]);
        let (rule, other) = state.duplicate_of(&entity(kind_name, 2, second))?;
        assert_eq!(other, id(1));
        Some(rule.fields)
    }

    #[test]
    fn an_entity_is_found_by_id_and_by_name() {
        let state = State::of([named("services", 1, "shop"), named("routes", 2, "shop")]);
        let found = |name_or_id: &str| {
            let found = state.find(kind("services"), name_or_id);
            found.map(|entity| entity.id)
        };
        assert_eq!(found("shop"), Some(id(1)));
        assert_eq!(found(&id(1).to_string()), Some(id(1)));
        assert_eq!(found(&id(1).to_string().to_uppercase()), Some(id(1)));
        for unknown in ["Shop", "sho", "", &id(2).to_string()] {
            assert_eq!(found(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_name_that_looks_like_an_id_is_a_name_where_it_is_no_id() {
        let name = id(9).to_string();
        let state = State::of([named("services", 1, &name), named("services", 2, "shop")]);
        assert_eq!(state.find(kind("services"), &name).unwrap().id, id(1));
        let other = id(2).to_string();
        let state = State::of([named("services", 1, &other), named("services", 2, "shop")]);
        assert_eq!(
            state.find(kind("services"), &other).unwrap().id,
            id(2),
            "ids come first"
        );
    }

    #[test]
    fn what_names_no_one_by_itself_is_found_by_id_only() {
        let state = State::of([
            entity(
                "targets",
                1,
                json!({"target": "a:1", "upstream": id(3).to_string()}),
            ),
            entity("plugins", 2, json!({"name": "jwt"})),
        ]);
        assert!(state.find(kind("targets"), "a:1").is_none());
        assert!(state.find(kind("plugins"), "jwt").is_none());
        assert!(state.find(kind("plugins"), &id(2).to_string()).is_some());
    }

    #[test]
    fn a_child_is_found_by_what_tells_it_from_its_siblings() {
        let parent = |number: u128| id(number).to_string();
        let state = State::of([
            entity("targets", 1, json!({"target": "a:1", "upstream": parent(8)})),
            entity("targets", 2, json!({"target": "b", "upstream": parent(9)})),
            entity("routes", 3, json!({"name": "shop", "service": parent(8)})),
            entity("plugins", 4, json!({"name": "jwt", "service": parent(8)})),
        ]);
        let child = |kind_name: &str, field: &str, number: u128, name: &str| {
            let found = state.child(kind(kind_name), field, id(number), name);
            found.map(|entity| entity.id.as_u128())
        };
        assert_eq!(child("targets", "upstream", 8, "A:1"), Some(1));
        assert_eq!(child("targets", "upstream", 9, "b:8000"), Some(2));
        assert_eq!(child("targets", "upstream", 9, "a:1"), None, "of another parent");
        assert_eq!(child("targets", "upstream", 9, &parent(2)), Some(2));
        assert_eq!(child("targets", "upstream", 8, &parent(2)), None);
        assert_eq!(child("routes", "service", 8, "shop"), Some(3));
        assert_eq!(child("routes", "service", 9, "shop"), None);
        assert_eq!(
            child("plugins", "service", 8, "jwt"),
            None,
            "several may have one name"
        );
        assert_eq!(child("plugins", "service", 8, &parent(4)), Some(4));
    }

    #[test]
    fn a_state_that_was_changed_is_that_of_its_entities_and_shares_what_is_the_same() {
        let shop = named("services", 1, "shop");
        let before = State::of([
            shop.clone(),
            named("services", 2, "cart"),
            named("services", 3, "old"),
            named("routes", 4, "r"),
        ]);
        // A name goes to another, and two change theirs.
        let now = [
            named("services", 2, "old"),
            shop,
            named("services", 5, "cart"),
            named("upstreams", 6, "u"),
        ];
        let changed = before.changed_to(&now);
        let whole = State::of(now.iter().cloned());
        let all = |state: &State| state.in_order().iter().cloned().collect::<Vec<_>>();
        assert_eq!(all(&changed), all(&whole));
        let found = |state: &State, name: &str| state.find(kind("services"), name).map(|found| found.id);
        for name in ["shop", "cart", "old"] {
            assert_eq!(found(&changed, name), found(&whole, name), "{name}");
        }
        assert!(changed.find(kind("routes"), "r").is_none());
        let again = changed.changed_to(&now);
        assert!(Kind::all().all(|kind| again.shares(kind, &changed)));
        let routes = again.changed_to(&[&now[..], &[named("routes", 7, "r")]].concat());
        for kind in ["services", "upstreams", "consumers"] {
            assert!(
                routes.shares(super::super::testbed::kind(kind), &changed),
                "{kind}"
            );
        }
        assert!(!routes.shares(kind("routes"), &changed));
    }

    #[test]
    fn names_are_unique_within_a_kind() {
        let shop = || json!({"name": "shop"});
        assert_eq!(shared("services", shop(), shop()), Some(&["name"][..]));
        assert_eq!(shared("services", shop(), json!({"name": "Shop"})), None);
        assert_eq!(shared("services", json!({}), json!({})), None);
        let state = State::of([named("services", 1, "shop")]);
        assert!(state.duplicate_of(&named("routes", 2, "shop")).is_none());
        assert!(state.duplicate_of(&named("services", 1, "shop")).is_none());
    }

    #[test]
    fn a_consumer_has_two_names() {
        let both = |username: &str, custom_id: &str| json!({"username": username, "custom_id": custom_id});
        assert_eq!(
            shared("consumers", both("a", "1"), both("b", "1")),
            Some(&["custom_id"][..])
        );
        assert_eq!(
            shared("consumers", both("a", "1"), both("a", "2")),
            Some(&["username"][..])
        );
        assert_eq!(shared("consumers", both("a", "b"), both("b", "a")), None);
    }

    #[test]
    fn there_is_one_plugin_of_a_name_for_each_place() {
        let plugin = |name: &str, route: Option<u128>, service: Option<u128>| {
            let mut values = json!({ "name": name });
            for (field, number) in [("route", route), ("service", service)] {
                if let Some(number) = number {
                    values[field] = json!(id(number).to_string());
                }
            }
            values
        };
        let places = [
            (None, None),
            (Some(1), None),
            (None, Some(1)),
            (Some(1), Some(1)),
            (Some(2), None),
        ];
        for (index, first) in places.into_iter().enumerate() {
            for (other, second) in places.into_iter().enumerate() {
                let found = shared(
                    "plugins",
                    plugin("jwt", first.0, first.1),
                    plugin("jwt", second.0, second.1),
                );
                assert_eq!(found.is_some(), index == other, "{first:?} {second:?}");
                let found = shared(
                    "plugins",
                    plugin("jwt", first.0, first.1),
                    plugin("acl", second.0, second.1),
                );
                assert_eq!(found, None);
            }
        }
    }

    #[test]
    fn two_spellings_of_a_target_are_one_target() {
        let target =
            |target: &str, upstream: u128| json!({"target": target, "upstream": id(upstream).to_string()});
        for (first, second) in [("SHOP:8000", "shop"), ("[0:0::1]:80", "[::1]:80")] {
            let rule = shared("targets", target(first, 7), target(second, 7));
            assert_eq!(rule, Some(&["upstream", "target"][..]), "{first} {second}");
            assert_eq!(shared("targets", target(first, 7), target(second, 8)), None);
        }
        assert_eq!(shared("targets", target("a:1", 7), target("a:2", 7)), None);
    }

    #[test]
    fn a_new_name_frees_the_old_one() {
        let mut state = State::of([named("services", 1, "old")]);
        state.put(named("services", 1, "new"));
        assert!(state.find(kind("services"), "old").is_none());
        assert!(state.duplicate_of(&named("services", 2, "old")).is_none());
        assert!(state.duplicate_of(&named("services", 2, "new")).is_some());
        state.remove(kind("services"), id(1));
        assert!(state.duplicate_of(&named("services", 2, "new")).is_none());
        assert!(state.is_empty());
    }

    #[test]
    fn a_name_can_be_taken_over_in_any_order() {
        let kind = kind("services");
        let by_name = |state: &State, name: &str| state.find(kind, name).map(|entity| entity.id);
        let before = State::of([named("services", 1, "a"), named("services", 2, "b")]);
        // Two change names.
        let mut state = before.clone();
        state.put(named("services", 1, "b"));
        state.put(named("services", 2, "a"));
        assert_eq!(
            (by_name(&state, "a"), by_name(&state, "b")),
            (Some(id(2)), Some(id(1)))
        );
        // One takes the name of another that goes only then.
        let mut state = before.clone();
        state.put(named("services", 3, "a"));
        state.remove(kind, id(1));
        assert_eq!(by_name(&state, "a"), Some(id(3)));
        // Whoever keeps a state sees none of it.
        assert_eq!(
            (by_name(&before, "a"), by_name(&before, "b")),
            (Some(id(1)), Some(id(2)))
        );
    }

    #[test]
    fn what_others_refer_to_comes_first_and_then_the_oldest() {
        let made = |kind_name: &str, number: u128, created_at: Option<f64>| {
            Arc::new(Entity {
                created_at,
                ..(*entity(kind_name, number, json!({}))).clone()
            })
        };
        let state = State::of([
            made("plugins", 1, Some(1.0)),
            made("routes", 2, None),
            made("routes", 5, Some(7.000_002)),
            made("routes", 4, Some(7.000_001)),
            made("routes", 3, Some(9.0)),
            made("routes", 6, Some(7.000_001)),
            made("services", 7, Some(99.0)),
        ]);
        let ids: Vec<u128> = state
            .in_order()
            .iter()
            .map(|entity| entity.id.as_u128())
            .collect();
        assert_eq!(ids, [7, 4, 6, 5, 3, 2, 1]);
        assert_eq!(state.len(), 7);
    }

    #[test]
    fn what_comes_after_an_id_is_in_the_order_of_ids() {
        let state = State::of([3, 1, 2].map(|number| entity("services", number, json!({}))));
        let after = |id| -> Vec<u128> {
            let entities = state.entities_after(kind("services"), id);
            entities.map(|entity| entity.id.as_u128()).collect()
        };
        assert_eq!(after(None), [1, 2, 3]);
        assert_eq!(after(Some(id(1))), [2, 3]);
        assert_eq!(after(Some(id(3))), []);
        assert_eq!(state.entities_after(kind("routes"), None).count(), 0);
    }
}
