//! Names beside a certificate: Kong's shorthand for the SNIs that refer to it.
//!
//! A body of `/certificates` may hold `snis`, the list of all names of the certificate; they are made and removed
//! with it, in one step. Answers show the list, in alphabetical order, however the SNIs were made.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::wire::refusal::Refusal;
use super::write::Draft;
use crate::entity::{self, Change, Entity, Kind, State};

const NAMES: &str = "snis";
const CERTIFICATE: &str = "certificate";

/// Takes the names out of a body of this kind; `None` where it says nothing of them.
///
/// # Errors
/// When they are no list of names, or hold one twice.
pub(super) fn take_names(kind: Kind, body: &mut Map<String, Value>) -> Result<Option<Vec<String>>, Refusal> {
    if kind.name() != "certificates" {
        return Ok(None);
    }
    let items = match body.shift_remove(NAMES) {
        None => return Ok(None),
        Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items,
        // A form with one.
        Some(name @ Value::String(_)) => vec![name],
        Some(_) => return Err(Refusal::field_violation(NAMES, "expected a set")),
    };
    let mut names = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Value::String(name) if names.contains(&name) => {
                return Err(Refusal::field_violation(NAMES, &format!("{name} is duplicated")));
            }
            Value::String(name) => names.push(name),
            _ => return Err(Refusal::field_violation(NAMES, "expected a string")),
        }
    }
    names.sort_unstable();
    Ok(Some(names))
}

/// Returns the steps after which a certificate, put in place by `change`, has these names and no others.
///
/// # Errors
/// When another certificate has one of them, or one is no name.
pub(super) fn give_names(
    state: &State,
    certificate: &Entity,
    change: Change,
    names: &[String],
    now: f64,
) -> Result<Vec<Change>, Refusal> {
    let mut changes = vec![change];
    let Some(kind) = Kind::named(NAMES) else {
        return Ok(changes);
    };
    for sni in state.referring(kind, CERTIFICATE, certificate.id) {
        if !names.iter().any(|name| sni.text("name") == Some(name)) {
            changes.push(Change::Delete(kind, sni.id));
        }
    }
    let mut draft = state.clone();
    entity::apply(&mut draft, &changes);
    for name in names {
        let owner = draft
            .find(kind, name)
            .filter(|sni| sni.text("name") == Some(name));
        match owner.map(|sni| sni.reference(CERTIFICATE)) {
            None => {
                let sni = make(&draft, kind, name, certificate.id, now)?;
                entity::apply(&mut draft, std::slice::from_ref(&sni));
                changes.push(sni);
            }
            Some(owner) if owner == Some(certificate.id) => {}
            Some(owner) => {
                let owner = owner.unwrap_or_default();
                let message = format!("{name} already associated with existing certificate '{owner}'");
                return Err(Refusal::field_violation(NAMES, &message));
            }
        }
    }
    Ok(changes)
}

fn make(state: &State, kind: Kind, name: &str, certificate: Uuid, now: f64) -> Result<Change, Refusal> {
    let values = [("name", name.to_owned()), (CERTIFICATE, certificate.to_string())];
    let body = values.map(|(field, value)| (field.to_owned(), Value::from(value)));
    let draft = Draft {
        kind,
        body: Map::from_iter(body),
        id: None,
        now,
    };
    let made = draft.put(state, None).map_err(|refusal| {
        let fields = refusal.body.get("fields");
        match fields.and_then(|fields| fields.get("name")?.as_str()) {
            Some(why) => Refusal::field_violation(NAMES, why),
            None => refusal,
        }
    })?;
    Ok(made.change)
}

/// The names of certificates, for those that are shown.
#[derive(Default)]
pub(super) struct Names(HashMap<Uuid, Vec<String>, ahash::RandomState>);

impl Names {
    /// Finds the names of these entities, where they are certificates: one look at every SNI.
    pub(super) fn of(state: &State, entities: &[&Arc<Entity>]) -> Self {
        let certificates = entities.iter().filter(|one| one.kind.name() == "certificates");
        let mut names: HashMap<Uuid, Vec<String>, _> = certificates.map(|one| (one.id, Vec::new())).collect();
        if let Some(kind) = Kind::named(NAMES).filter(|_| !names.is_empty()) {
            for sni in state.entities(kind) {
                let list = sni.reference(CERTIFICATE).and_then(|id| names.get_mut(&id));
                if let (Some(list), Some(name)) = (list, sni.text("name")) {
                    list.push(name.to_owned());
                }
            }
        }
        names.values_mut().for_each(|list| list.sort_unstable());
        Self(names)
    }

    /// Adds its names to an entity that is shown, if it has any to be shown.
    pub(super) fn add_to(&self, shown: &mut Value, entity: &Entity) {
        if let (Some(names), Value::Object(fields)) = (self.0.get(&entity.id), shown) {
            fields.insert(NAMES.to_owned(), Value::from(names.clone()));
        }
    }
}
