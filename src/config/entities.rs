//! Rows to entities: what a file says, in the form in which everything is kept.

use std::sync::Arc;

use serde_json::{Map, Value};
use sha1::{Digest, Sha1};
use uuid::Uuid;

use super::identity::{Identities, MEMBERS, make_id};
use super::rows::Row;
use super::schema::Presence;
use crate::entity::{Entity, Kind, State};
use crate::priority::patiently;

/// Makes the entities of those checked rows of which none were made, and returns those of all, in the order of the
/// files. What `known` holds already shares its values, so that what did not change need not be built again.
pub(super) fn entities(rows: &mut [Row], identities: &Identities, known: &State) -> Vec<Arc<Entity>> {
    let mut entities = Vec::with_capacity(rows.len());
    for (index, row) in patiently(rows).enumerate() {
        if row.made.is_empty() {
            row.made = make(index, row, identities, known);
        }
        entities.extend(row.made.iter().cloned());
    }
    // A group may list a Consumer that lists the group.
    if !identities.groups.is_empty() {
        let mut seen = std::collections::HashSet::with_capacity(entities.len());
        entities.retain(|entity| seen.insert((entity.kind, entity.id)));
    }
    // Stable, so those without a time keep the order of the files, behind those that have one.
    let time = |entity: &Arc<Entity>| entity.created_at.unwrap_or(f64::MAX);
    if entities.iter().any(|entity| entity.created_at.is_some()) {
        entities.sort_by(|a, b| time(a).total_cmp(&time(b)));
    }
    entities
}

/// Makes the entity of a row, and those that its lists stand for.
fn make(index: usize, row: &Row, identities: &Identities, known: &State) -> Vec<Arc<Entity>> {
    let mut values = row.values.clone();
    for field in row.entity.fields {
        if field.presence == Presence::FileOnly {
            if values.contains_key(field.name) {
                Arc::make_mut(&mut values).shift_remove(field.name);
            }
        } else if field.kind.is_reference()
            && let Some(parent) = identities.reference(index, field.name)
        {
            Arc::make_mut(&mut values).insert(field.name.to_owned(), text_of(identities.ids[parent]));
        }
    }
    if row.is_transformed
        && let Some(password) = values.get("password").and_then(Value::as_str)
        && let Some(consumer) = identities.reference(index, "consumer")
    {
        let hash = hash_password(password, identities.ids[consumer]);
        Arc::make_mut(&mut values).insert("password".to_owned(), Value::from(hash));
    }
    let own = Entity::new(row.entity.into(), identities.ids[index], values);
    let groups = identities.groups.get(&index).into_iter().flatten();
    let members = groups.filter_map(|group| member(identities.ids[index], identities.ids[*group]));
    let all = std::iter::once(own).chain(members);
    all.map(|entity| share(entity, known)).collect()
}

/// Makes the entity that says that a Consumer is in a group.
pub(crate) fn member(consumer: Uuid, group: Uuid) -> Option<Entity> {
    let values = Map::from_iter([
        ("consumer".to_owned(), text_of(consumer)),
        ("consumer_group".to_owned(), text_of(group)),
    ]);
    let id = make_id(MEMBERS, &format!("{group}:{consumer}"));
    Some(Entity::new(Kind::named(MEMBERS)?, id, values))
}

/// Returns what Kong keeps of a password: the SHA-1 of it and of the Consumer's id, in hexadecimal digits.
/// What is such a hash already is not told apart: a password may look like one.
pub(crate) fn hash_password(password: &str, consumer: Uuid) -> String {
    let hash: [u8; 20] = Sha1::new()
        .chain_update(password)
        .chain_update(consumer.to_string())
        .finalize()
        .into();
    hex(&hash)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn share(mut entity: Entity, known: &State) -> Arc<Entity> {
    if let Some(known) = known.get(entity.kind, entity.id)
        && known.values == entity.values
    {
        entity.values = known.values.clone();
    }
    Arc::new(entity)
}

fn text_of(id: Uuid) -> Value {
    Value::from(id.to_string())
}
