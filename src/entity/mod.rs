//! What is kept: entities in their one canonical form, and the set of them that is in force.
//!
//! An [`Entity`] is what the table of `config::schema` has judged and completed: every default is
//! there, nothing is null, a reference is the id of what it means. A file and the Admin API both end here,
//! the store keeps nothing else, and `config` builds the model from it. [`State`] is a set of them in
//! which every reference leads somewhere and nothing that must be unique is there twice.
//!
//! Left to others: how values are judged (`config`), how entities look to clients (`admin`), where they
//! outlive the process (`store`).

mod edit;
mod order;
mod show;
mod state;
#[cfg(test)]
pub(crate) mod testbed;

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};
use uuid::Uuid;

pub(crate) use self::edit::{EditError, apply, delete, put};
pub(crate) use self::order::InOrder;
pub(crate) use self::show::{show, show_masked};
pub use self::state::State;
use crate::config::schema;

/// A kind of entity: Services, Routes.
#[derive(Clone, Copy)]
pub struct Kind(&'static schema::Entity);

impl Kind {
    /// Returns every kind; what others refer to comes first.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        schema::ENTITIES.into_iter().map(Self)
    }

    /// Returns the kind that Kong calls so, in the plural: `services`.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.name() == name)
    }

    /// Returns Kong's name, in the plural.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Returns what an entity of this kind may hold.
    pub(crate) fn schema(self) -> &'static schema::Entity {
        self.0
    }

    /// Returns the place in [`Kind::all`].
    fn position(self) -> usize {
        Self::all().position(|kind| kind == self).unwrap_or_default()
    }
}

impl From<&'static schema::Entity> for Kind {
    fn from(entity: &'static schema::Entity) -> Self {
        Self(entity)
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for Kind {}

impl std::hash::Hash for Kind {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::ptr::from_ref(self.0).hash(state);
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One entity.
#[derive(Clone, PartialEq)]
pub struct Entity {
    /// What it is.
    pub kind: Kind,
    /// Identity.
    pub id: Uuid,
    /// Its fields but id and times. Shared by what a file said and what is in force, where they agree.
    pub values: Arc<Map<String, Value>>,
    /// When it was made, in seconds since 1970; of one second, the order of making is in the fraction.
    /// `None` only for an entity of a file that does not say.
    pub created_at: Option<f64>,
    /// When it was last changed, in seconds since 1970.
    pub updated_at: Option<f64>,
}

/// Fields that are not among the values.
const APART: [&str; 3] = ["id", "created_at", "updated_at"];

impl Entity {
    /// Takes checked values apart.
    pub(crate) fn new(kind: Kind, id: Uuid, values: impl Into<Arc<Map<String, Value>>>) -> Self {
        let mut values = values.into();
        let mut take = |name: &str| {
            let is_there = values.contains_key(name);
            is_there.then(|| Arc::make_mut(&mut values).shift_remove(name))?
        };
        take("id");
        let created_at = take("created_at").and_then(|time| time.as_f64());
        let updated_at = take("updated_at").and_then(|time| time.as_f64());
        Self {
            kind,
            id,
            values,
            created_at,
            updated_at,
        }
    }

    /// Returns all fields together, as the table names them.
    pub(crate) fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::with_capacity(self.values.len() + APART.len());
        fields.insert("id".to_owned(), Value::from(self.id.to_string()));
        fields.extend(
            self.values
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        for (name, time) in [("created_at", self.created_at), ("updated_at", self.updated_at)] {
            if let Some(time) = time {
                fields.insert(name.to_owned(), Value::from(time));
            }
        }
        fields
    }

    /// Returns the text of a field.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.values.get(field)?.as_str()
    }

    /// Returns the id that a reference holds.
    pub fn reference(&self, field: &str) -> Option<Uuid> {
        Uuid::parse_str(self.text(field)?).ok()
    }

    /// Returns the name that people know it by, or else the id. Never a secret.
    pub fn label(&self) -> String {
        let schema = self.kind.schema();
        let field = schema.fields.iter().find(|field| field.name == schema.key);
        let is_shown = field.is_some_and(|field| !field.is_secret && !field.kind.is_reference());
        // A certificate is no name.
        let name = self
            .text(schema.key)
            .filter(|name| is_shown && !name.contains('\n'));
        name.or_else(|| self.text("custom_id"))
            .map_or_else(|| self.id.to_string(), str::to_owned)
    }

    /// Says whether both hold the same but for their times.
    pub fn says_the_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.values, &other.values) || self.values == other.values
    }
}

/// Shows no field: some are secrets.
impl fmt::Debug for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.label())
    }
}

/// A step from one state to the next.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// An entity is made or replaced.
    Put(Arc<Entity>),
    /// An entity is removed.
    Delete(Kind, Uuid),
}

impl Change {
    /// Returns what it concerns.
    pub fn subject(&self) -> (Kind, Uuid) {
        match self {
            Self::Put(entity) => (entity.kind, entity.id),
            Self::Delete(kind, id) => (*kind, *id),
        }
    }
}
