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

    /// Takes entities that stand in this order already.
    pub(crate) fn of(entities: &[Arc<Entity>]) -> Self {
        let of_kind = |kind| {
            let entities = entities.iter().filter(move |entity| entity.kind == kind);
            entities.cloned().collect()
        };
        Self::new(Kind::all().map(of_kind).collect())
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
