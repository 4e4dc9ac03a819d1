//! Steps that fit: what may be put and removed, by Kong's rules.
//!
//! A plan is made on a state that others read meanwhile, so nothing is changed here; the steps come out
//! whole, and [`apply`] takes them.

use std::sync::Arc;

use uuid::Uuid;

use super::{Change, Entity, Kind, State};
use crate::config::schema::Unique;

/// Why a step does not fit the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EditError {
    /// Another entity holds what must be unique.
    #[error("{} holds the same {}", .other.1, .unique.fields.join(", "))]
    Duplicate {
        /// The rule.
        unique: &'static Unique,
        /// Who came first.
        other: (Kind, Uuid),
    },
    /// A reference leads nowhere.
    #[error("{field}: no such entry in '{}'", .to.name())]
    Dangling {
        /// The field.
        field: &'static str,
        /// The kind it refers to.
        to: Kind,
        /// What it holds.
        id: String,
    },
    /// Entities that would dangle refer to what is to be removed.
    #[error("an existing '{}' entity references this '{}' entity", .by.name(), .of.name())]
    Referenced {
        /// What is to be removed.
        of: Kind,
        /// The kind that refers to it.
        by: Kind,
    },
}

/// Returns the step that makes or replaces an entity.
///
/// # Errors
/// When another entity holds what must be unique, or a reference leads nowhere.
pub(crate) fn put(state: &State, entity: Arc<Entity>) -> Result<Change, EditError> {
    for field in entity.kind.schema().fields {
        let Some(to) = field.kind.refers_to().and_then(Kind::named) else {
            continue;
        };
        let Some(id) = entity.text(field.name) else {
            continue;
        };
        if entity
            .reference(field.name)
            .and_then(|id| state.get(to, id))
            .is_none()
        {
            return Err(EditError::Dangling {
                field: field.name,
                to,
                id: id.to_owned(),
            });
        }
    }
    match state.duplicate_of(&entity) {
        Some((unique, other)) => Err(EditError::Duplicate {
            unique,
            other: (entity.kind, other),
        }),
        None => Ok(Change::Put(entity)),
    }
}

/// Returns the steps that remove an entity and what goes with it: the Targets of an Upstream, the credentials
/// of a Consumer, the plugins of either. Empty when there is none of this id.
///
/// # Errors
/// When something that does not go with it refers to it, as Routes do to their Service.
pub(crate) fn delete(state: &State, kind: Kind, id: Uuid) -> Result<Vec<Change>, EditError> {
    if state.get(kind, id).is_none() {
        return Ok(Vec::new());
    }
    let mut changes = Vec::new();
    for by in Kind::all() {
        for field in by.schema().fields {
            if field.kind.refers_to() != Some(kind.name()) {
                continue;
            }
            for child in state.referring(by, field.name, id) {
                if !field.is_cascaded {
                    return Err(EditError::Referenced { of: kind, by });
                }
                changes.extend(delete(state, by, child.id)?);
            }
        }
    }
    changes.push(Change::Delete(kind, id));
    Ok(changes)
}

/// Takes steps that were planned on this very state.
pub(crate) fn apply(state: &mut State, changes: &[Change]) {
    changes.iter().for_each(|change| state.take(change));
}
