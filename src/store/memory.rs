//! A store that ends with the process.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::sync::watch::Sender;
use uuid::Uuid;

use super::watch::{History, by_revision, check_history};
use super::{
    Base, BaseChange, Change, CommitError, Committed, Entry, Key, Loaded, Store, StoreError, Transaction,
    Watch,
};

/// How many lines of the audit trail are kept: enough to see what has happened lately, and some hundred KiB.
const KEPT_ENTRIES: usize = 1000;

/// Keeps everything in memory, with the promises of [`Store`] except that anything outlives the process.
pub struct Memory(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    newest: Sender<u64>,
    kept_entries: usize,
}

type Entities = BTreeMap<Key, Map<String, Value>>;

#[derive(Default)]
struct State {
    revision: u64,
    entities: Entities,
    /// By source, with the hash of what it said.
    bases: BTreeMap<String, (u64, Entities)>,
    notes: BTreeMap<Uuid, Value>,
    entries: VecDeque<Line>,
    /// The newest revision of which an entry has been let go.
    forgotten: u64,
}

/// A line of the audit trail as JSON, which takes a fifth of the memory of its values.
struct Line {
    revision: u64,
    entry: Box<[u8]>,
}

impl Memory {
    /// Returns an empty store.
    pub fn new() -> Self {
        Self::keeping(KEPT_ENTRIES)
    }

    /// Returns an empty store whose audit trail is bounded otherwise.
    pub(super) fn keeping(kept_entries: usize) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            newest: Sender::new(0),
            kept_entries,
        }))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Shared {
    /// No holder of this lock can panic half-way through a change, so a poisoned one is still whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn new(revision: u64, entry: &Entry) -> Result<Self, StoreError> {
        let entry = serde_json::to_vec(entry).map_err(failed)?.into();
        Ok(Self { revision, entry })
    }

    fn read(&self) -> Result<Entry, StoreError> {
        let mut entry: Entry = serde_json::from_slice(&self.entry).map_err(failed)?;
        entry.revision = self.revision;
        Ok(entry)
    }
}

/// Nothing that is kept fails to be written as JSON, or to be read again.
fn failed(error: serde_json::Error) -> StoreError {
    StoreError::Failed {
        path: "in memory".into(),
        source: error.into(),
    }
}

impl State {
    fn apply(&mut self, transaction: Transaction, kept_entries: usize) -> Result<(), StoreError> {
        let revision = self.revision + 1;
        let lines = transaction.entries.iter().map(|entry| Line::new(revision, entry));
        let lines = lines.collect::<Result<Vec<_>, _>>()?;
        self.revision = revision;
        self.entries.extend(lines);
        put(&mut self.entities, transaction.changes);
        for source in &transaction.forget {
            self.bases.remove(source);
        }
        if let Some(BaseChange {
            source,
            hash,
            changes,
        }) = transaction.base
        {
            let base = self.bases.entry(source).or_default();
            base.0 = hash;
            put(&mut base.1, changes);
        }
        while self.entries.len() > kept_entries {
            let oldest = self.entries.pop_front();
            self.forgotten = oldest.map_or(self.forgotten, |line| line.revision);
        }
        Ok(())
    }

    /// Returns the place of the first entry of a revision above `revision`.
    fn after(&self, revision: u64) -> usize {
        self.entries.partition_point(|line| line.revision <= revision)
    }
}

fn put(entities: &mut Entities, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Put(key, values) => entities.insert(key, values),
            Change::Delete(key) => entities.remove(&key),
        };
    }
}

fn all(entities: &Entities) -> Vec<(Key, Map<String, Value>)> {
    let pairs = entities.iter();
    pairs.map(|(key, values)| (key.clone(), values.clone())).collect()
}

#[async_trait]
impl Store for Memory {
    async fn load(&self) -> Result<Loaded, StoreError> {
        let state = self.0.lock();
        let bases = state.bases.iter().map(|(source, (hash, entities))| Base {
            source: source.clone(),
            hash: *hash,
            entities: all(entities),
        });
        Ok(Loaded {
            revision: state.revision,
            entities: all(&state.entities),
            bases: bases.collect(),
            notes: state.notes.iter().map(|(id, note)| (*id, note.clone())).collect(),
        })
    }

    async fn revision(&self) -> Result<u64, StoreError> {
        Ok(self.0.lock().revision)
    }

    async fn commit(&self, transaction: Transaction, expected_revision: u64) -> Result<u64, CommitError> {
        let mut state = self.0.lock();
        if state.revision != expected_revision {
            return Err(CommitError::Conflict {
                actual: state.revision,
            });
        }
        state.apply(transaction, self.0.kept_entries)?;
        // Told under the lock, so that revisions are told in order.
        self.0.newest.send_replace(state.revision);
        Ok(state.revision)
    }

    async fn watch(&self, from_revision: u64) -> Result<Watch, StoreError> {
        check_history(from_revision, self.0.lock().forgotten)?;
        let history: Arc<dyn History> = self.0.clone();
        Ok(Watch::new(
            Arc::downgrade(&history),
            self.0.newest.subscribe(),
            from_revision,
        ))
    }

    async fn entries(&self, before: Option<u64>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let state = self.0.lock();
        let end = match before {
            Some(before) => before.checked_sub(1).map_or(0, |last| state.after(last)),
            None => state.entries.len(),
        };
        let mut page: Vec<Entry> = Vec::new();
        for line in state.entries.range(..end).rev() {
            if page.len() >= limit && page.last().is_none_or(|last| last.revision != line.revision) {
                break;
            }
            page.push(line.read()?);
        }
        Ok(page)
    }

    async fn note(&self, notes: Vec<(Uuid, Option<Value>)>) -> Result<(), StoreError> {
        let mut state = self.0.lock();
        for (id, note) in notes {
            match note {
                Some(note) => state.notes.insert(id, note),
                None => state.notes.remove(&id),
            };
        }
        Ok(())
    }

    /// No other process can have it.
    async fn lend(&self) {}

    async fn reclaim(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl History for Shared {
    async fn since(self: Arc<Self>, revision: u64, limit: usize) -> Result<Vec<Committed>, StoreError> {
        let state = self.lock();
        check_history(revision, state.forgotten)?;
        let last = state.revision.min(revision.saturating_add(limit as u64));
        let lines = state.entries.range(state.after(revision)..state.after(last));
        let entries = lines.map(Line::read).collect::<Result<Vec<_>, _>>()?;
        Ok(by_revision(revision, last, entries.into_iter()))
    }
}
