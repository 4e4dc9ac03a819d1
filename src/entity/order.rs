//! The order in which entities are built and written: those that others refer to first, of one kind the
//! oldest first.

use std::sync::Arc;

use super::{Entity, Kind};

/// Entities of every kind in that order. A list that did not change is the same from one state to the next,
/// and not only equal: by that whoever builds something from it knows that there is nothing to do.
#[derive(Debug, Clone, Default)]
pub(crate) struct InOrder {
    /// By the position of the kind.
    kinds: Vec<Arc<[Arc<Entity>]>>,
}

impl InOrder {
    /// Takes lists by the position of their kind.
    pub(super) fn new(kinds: Vec<Arc<[Arc<Entity>]>>) -> Self {
        Self { kinds }
    }

    /// Takes entities that stand in this order already, and from `last` every list that did not change.
    pub(crate) fn of(entities: &[Arc<Entity>], last: &Self) -> Self {
        let mut kinds = vec![Vec::new(); Kind::all().count()];
        for entity in entities {
            kinds[entity.kind.position()].push(entity);
        }
        let list = |(kind, entities): (usize, Vec<&Arc<Entity>>)| {
            let is_same = |last: &&Arc<[Arc<Entity>]>| {
                let mut pairs = last.iter().zip(&entities);
                last.len() == entities.len() && pairs.all(|(last, entity)| Arc::ptr_eq(last, entity))
            };
            let last = last.kinds.get(kind).filter(is_same).cloned();
            last.unwrap_or_else(|| entities.into_iter().cloned().collect())
        };
        Self::new(kinds.into_iter().enumerate().map(list).collect())
    }

    /// Returns the entities of one kind.
    pub(crate) fn of_kind(&self, kind: Kind) -> Arc<[Arc<Entity>]> {
        self.kinds.get(kind.position()).cloned().unwrap_or_default()
    }

    /// Returns all entities.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Entity>> {
        self.kinds.iter().flat_map(|entities| entities.iter())
    }
}
