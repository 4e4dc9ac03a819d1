//! What an entity is built from beside itself.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use uuid::Uuid;

use crate::config::identity::MEMBERS;
use crate::entity::Entity;

/// What belongs to Upstreams, Consumers or certificates, by their ids.
#[derive(Debug, Default)]
pub(super) struct Parts<'a> {
    children: HashMap<Uuid, Vec<&'a Arc<Entity>>, RandomState>,
    groups: HashMap<Uuid, &'a Arc<Entity>, RandomState>,
}

impl<'a> Parts<'a> {
    /// Sorts entities by what they belong to.
    pub(super) fn of(entities: impl IntoIterator<Item = &'a Arc<Entity>>) -> Self {
        let mut parts = Self::default();
        for entity in entities {
            let parent = match entity.kind.name() {
                "targets" => entity.reference("upstream"),
                "snis" => entity.reference("certificate"),
                "keyauth_credentials" | "basicauth_credentials" | "jwt_secrets" | "acls" | MEMBERS => {
                    entity.reference("consumer")
                }
                "consumer_groups" => {
                    parts.groups.insert(entity.id, entity);
                    None
                }
                _ => None,
            };
            if let Some(parent) = parent {
                parts.children.entry(parent).or_default().push(entity);
            }
        }
        parts
    }

    /// Returns what an entity is built from beside itself.
    pub(super) fn of_parent(&self, id: Uuid) -> impl Iterator<Item = &'a Arc<Entity>> {
        self.children.get(&id).into_iter().flatten().map(|child| {
            let group = child.reference("consumer_group");
            // Of a membership only the group's name is of use.
            group
                .and_then(|group| self.groups.get(&group))
                .copied()
                .unwrap_or(child)
        })
    }
}
