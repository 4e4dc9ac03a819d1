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

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::entity::testbed::{id, kind};

    /// An entity that refers to others: each a field and a number.
    fn entity(kind_name: &str, number: u128, references: &[(&str, u128)]) -> Arc<Entity> {
        let values = references.iter().map(|(field, number)| {
            let id = Value::from(id(*number).to_string());
            ((*field).to_owned(), id)
        });
        Arc::new(Entity::new(
            kind(kind_name),
            id(number),
            values.collect::<Map<_, _>>(),
        ))
    }

    fn named(kind_name: &str, number: u128, name: &str) -> Arc<Entity> {
        let values = serde_json::Map::from_iter([("name".to_owned(), json!(name))]);
        Arc::new(Entity::new(kind(kind_name), id(number), values))
    }

    /// A Service with a Route and plugins, an Upstream with Targets, a Consumer with credentials, in a group.
    fn whole() -> State {
        State::of([
            entity("services", 1, &[]),
            entity("routes", 2, &[("service", 1)]),
            entity("upstreams", 3, &[]),
            entity("targets", 4, &[("upstream", 3)]),
            entity("targets", 5, &[("upstream", 3)]),
            entity("consumers", 6, &[]),
            entity("consumer_groups", 7, &[]),
            entity(
                "consumer_group_consumers",
                8,
                &[("consumer", 6), ("consumer_group", 7)],
            ),
            entity("keyauth_credentials", 9, &[("consumer", 6)]),
            entity("acls", 10, &[("consumer", 6)]),
            entity("plugins", 11, &[("service", 1)]),
            entity("plugins", 12, &[("route", 2)]),
            entity("plugins", 13, &[("route", 2), ("service", 1)]),
            entity("services", 14, &[]),
        ])
    }

    fn numbers(changes: &[Change]) -> Vec<u128> {
        changes
            .iter()
            .map(|change| change.subject().1.as_u128())
            .collect()
    }

    /// Removes one and returns all that goes, sorted; the last one is the one that was meant.
    fn removed(state: &State, kind_name: &str, number: u128) -> Vec<u128> {
        let changes = delete(state, kind(kind_name), id(number)).unwrap();
        let mut numbers = numbers(&changes);
        assert_eq!(numbers.last(), Some(&number), "children go first");
        let mut after = state.clone();
        apply(&mut after, &changes);
        for entity in after.in_order().iter() {
            assert!(put(&after, entity.clone()).is_ok(), "{entity:?} dangles");
        }
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn what_belongs_to_an_entity_goes_with_it() {
        let state = whole();
        assert_eq!(removed(&state, "upstreams", 3), [3, 4, 5]);
        assert_eq!(removed(&state, "consumers", 6), [6, 8, 9, 10]);
        assert_eq!(removed(&state, "consumer_groups", 7), [7, 8]);
        assert_eq!(removed(&state, "routes", 2), [2, 12, 13]);
        assert_eq!(removed(&state, "targets", 4), [4]);
        assert_eq!(removed(&state, "services", 14), [14]);
    }

    #[test]
    fn a_service_with_routes_stays() {
        let mut state = whole();
        let refused = delete(&state, kind("services"), id(1)).unwrap_err();
        assert_eq!(
            refused,
            EditError::Referenced {
                of: kind("services"),
                by: kind("routes")
            }
        );
        assert_eq!(
            refused.to_string(),
            "an existing 'routes' entity references this 'services' entity"
        );
        let changes = delete(&state, kind("routes"), id(2)).unwrap();
        apply(&mut state, &changes);
        assert_eq!(removed(&state, "services", 1), [1, 11]);
    }

    #[test]
    fn what_is_not_there_takes_no_step_to_remove() {
        assert_eq!(delete(&whole(), kind("services"), id(99)), Ok(Vec::new()));
        assert_eq!(delete(&whole(), kind("routes"), id(1)), Ok(Vec::new()));
    }

    #[test]
    fn a_reference_must_lead_somewhere() {
        let state = whole();
        assert!(put(&state, entity("routes", 20, &[])).is_ok());
        assert!(put(&state, entity("routes", 20, &[("service", 1)])).is_ok());
        // 2 is a Route.
        for number in [2, 99] {
            let refused = put(&state, entity("routes", 20, &[("service", number)])).unwrap_err();
            let wanted = EditError::Dangling {
                field: "service",
                to: kind("services"),
                id: id(number).to_string(),
            };
            assert_eq!(refused, wanted);
            assert_eq!(refused.to_string(), "service: no such entry in 'services'");
        }
    }

    #[test]
    fn the_same_name_twice_is_refused_with_who_has_it() {
        let mut state = State::of([named("services", 1, "a"), named("services", 2, "b")]);
        let refused = put(&state, named("services", 3, "a")).unwrap_err();
        let EditError::Duplicate { unique, other } = &refused else {
            panic!("{refused}");
        };
        assert_eq!(
            (unique.fields, *other),
            (&["name"][..], (kind("services"), id(1)))
        );
        // To keep the name, or to take one that is free again, is no such thing.
        assert!(put(&state, named("services", 1, "a")).is_ok());
        let renamed = put(&state, named("services", 1, "c")).unwrap();
        apply(&mut state, &[renamed]);
        assert!(put(&state, named("services", 2, "a")).is_ok());
    }

    #[test]
    fn steps_change_nothing_until_they_are_taken() {
        let mut state = whole();
        let seen = state.clone();
        let mut changes = delete(&state, kind("upstreams"), id(3)).unwrap();
        changes.push(put(&state, named("services", 1, "new")).unwrap());
        assert_eq!(state.len(), 14);
        apply(&mut state, &changes);
        assert_eq!(state.len(), 11);
        assert_eq!(state.find(kind("services"), "new").unwrap().id, id(1));
        assert_eq!(seen.len(), 14);
        assert!(seen.find(kind("services"), "new").is_none());
    }
}
