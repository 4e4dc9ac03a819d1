//! What a store keeps, as values: it knows nothing of what an entity means.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// Which entity. Ordered by kind, then by id, which is the order of everything that is loaded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Kong's plural name: `services`, `routes`, …
    pub kind: String,
    /// Its identity, which no rename changes.
    pub id: Uuid,
}

impl Key {
    /// Returns the key of an entity.
    pub fn new(kind: impl Into<String>, id: Uuid) -> Self {
        Self {
            kind: kind.into(),
            id,
        }
    }
}

/// What happens to one entity.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It is made, or takes the place of the one of that key.
    Put(Key, Map<String, Value>),
    /// It goes; nothing happens when there is none.
    Delete(Key),
}

/// What a source of configuration said last: the third side of a merge. Its entities stand in the order of
/// their keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Base {
    /// The source: for a file its name as configured.
    pub source: String,
    /// A hash of what it said, to see without comparing that nothing has changed.
    pub hash: u64,
    /// What it said.
    pub entities: Vec<(Key, Map<String, Value>)>,
}

/// What a source says now, by what it said last: so that what is written grows with the change.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseChange {
    /// The source.
    pub source: String,
    /// A hash of what it says now.
    pub hash: u64,
    /// The steps from what is kept of it, in order. Nothing is kept of a source that is new or was forgotten.
    pub changes: Vec<Change>,
}

/// One line of the audit trail: who did what, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The revision that it made; set by the commit.
    pub revision: u64,
    /// When, as the time since 1970.
    pub at: Duration,
    /// Who asked for it.
    pub who: String,
    /// What was asked for: `PATCH /services/checkout`, `file conf/serin.yaml`.
    pub what: String,
    /// What it changed.
    pub changes: Vec<EntryChange>,
}

/// One entity before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntryChange {
    /// Kong's plural name.
    pub kind: String,
    /// Its identity.
    #[serde(with = "text")]
    pub id: Uuid,
    /// What it was; none when it was made.
    pub before: Option<Value>,
    /// What it is; none when it was deleted.
    pub after: Option<Value>,
}

/// What is kept together or not at all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transaction {
    /// The entities, in order: of two changes of one key the later stays.
    pub changes: Vec<Change>,
    /// What a source says now.
    pub base: Option<BaseChange>,
    /// The sources whose base goes, before `base` is changed.
    pub forget: Vec<String>,
    /// The lines for the audit trail, in order. Several when the writes of several clients are kept
    /// together.
    pub entries: Vec<Entry>,
}

/// All that is kept, as of one revision; the audit trail is read page by page.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loaded {
    /// The revision in force; 0 before the first commit.
    pub revision: u64,
    /// The entities, in the order of their keys.
    pub entities: Vec<(Key, Map<String, Value>)>,
    /// What the sources said last, in the order of their names.
    pub bases: Vec<Base>,
    /// Small values that are not numbered, by id: how far a ramp has come.
    pub notes: Vec<(Uuid, Value)>,
}

/// A transaction that has been kept, as a watcher sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// Its revision.
    pub revision: u64,
    /// Its lines in the audit trail; none when it had none.
    pub entries: Vec<Entry>,
}

/// A uuid as its text.
mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use uuid::Uuid;

    pub(super) fn serialize<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}
