//! Entities and changes as the store keeps them, there and back.

use std::collections::HashSet;
use std::sync::Arc;

use log::warn;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::door::Author;
use crate::clock;
use crate::entity::{self, Change, Entity, Kind, State};
use crate::store::{self, Base, Key};

/// What a source said last.
pub(super) struct LastSaid {
    pub(super) file: State,
    /// Of its files; 0 when it has said nothing yet.
    pub(super) hash: u64,
    pub(super) others: Others,
}

/// Other sources, of which the store still has something.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// To be forgotten.
    pub(super) names: Vec<String>,
    /// What they said counts as said by the one that takes their place.
    pub(super) are_replaced: bool,
}

/// Returns what the source said last. A source under another name has taken the place of the former one:
/// there is one owner.
pub(super) fn last_said(bases: Vec<Base>, source: &str) -> LastSaid {
    let own = bases.iter().find(|base| base.source == source);
    let (has_own, hash) = (own.is_some(), own.map_or(0, |base| base.hash));
    let names: Vec<String> = bases
        .iter()
        .map(|base| base.source.clone())
        .filter(|name| name != source)
        .collect();
    let are_replaced = !has_own && !names.is_empty();
    if are_replaced {
        warn!(
            "the store was last written from {}; {source} takes its place",
            names.join(", ")
        );
    }
    let counts = |base: &Base| !has_own || base.source == source;
    let entities = bases.into_iter().filter(counts).flat_map(|base| base.entities);
    LastSaid {
        file: state_of(entities),
        hash,
        others: Others { names, are_replaced },
    }
}

/// Reads entities that the store has kept. A kind that is not known any more is left out, and stays kept.
pub(super) fn state_of(records: impl IntoIterator<Item = (Key, Map<String, Value>)>) -> State {
    let mut unknown = HashSet::new();
    let entities = records.into_iter().filter_map(|(key, values)| {
        let Some(kind) = Kind::named(&key.kind) else {
            unknown.insert(key.kind);
            return None;
        };
        Some(Arc::new(Entity::new(kind, key.id, values)))
    });
    let state = State::of(entities);
    for kind in unknown {
        warn!("the store holds {kind}, which this version does not know: they are left alone");
    }
    state
}

/// Returns an entity as the store keeps it.
pub(super) fn record(entity: &Entity) -> (Key, Map<String, Value>) {
    (key(entity.kind, entity.id), entity.fields())
}

fn key(kind: Kind, id: Uuid) -> Key {
    Key {
        kind: kind.name().to_owned(),
        id,
    }
}

/// Returns a step as the store takes it.
pub(super) fn kept(change: &Change) -> store::Change {
    match change {
        Change::Put(entity) => {
            let (key, values) = record(entity);
            store::Change::Put(key, values)
        }
        Change::Delete(kind, id) => store::Change::Delete(key(*kind, *id)),
    }
}

/// Returns the steps of the store from what a source said to what it says now.
pub(super) fn steps(before: &State, now: &State) -> Vec<store::Change> {
    let mut steps = Vec::new();
    for kind in Kind::all().filter(|kind| !now.shares(*kind, before)) {
        let gone = before
            .entities(kind)
            .filter(|entity| now.get(kind, entity.id).is_none());
        steps.extend(gone.map(|entity| store::Change::Delete(key(kind, entity.id))));
        let is_new = |entity: &&Arc<Entity>| {
            (before.get(kind, entity.id))
                .is_none_or(|before| !Arc::ptr_eq(before, entity) && before != *entity)
        };
        let new = now.entities(kind).filter(is_new).map(|entity| record(entity));
        steps.extend(new.map(|(key, values)| store::Change::Put(key, values)));
    }
    steps
}

/// Makes the line of the audit trail for steps that are about to be taken. It holds no secret.
pub(super) fn entry(author: &Author, state: &State, changes: &[Change]) -> store::Entry {
    let changes = changes.iter().map(|change| {
        let (kind, id) = change.subject();
        let shown =
            |entity: &Entity| Value::Object(entity::show_masked(entity.kind.schema(), &entity.fields()));
        store::EntryChange {
            kind: kind.name().to_owned(),
            id,
            before: state.get(kind, id).map(|entity| shown(entity)),
            after: match change {
                Change::Put(entity) => Some(shown(entity)),
                Change::Delete(..) => None,
            },
        }
    });
    store::Entry {
        revision: 0,
        at: clock::unix(),
        who: author.who.clone(),
        what: author.what.clone(),
        changes: changes.collect(),
    }
}
