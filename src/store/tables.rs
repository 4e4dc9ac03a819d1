//! How a store lies in its file: six tables, whose values are JSON.

use std::fmt::Display;

use redb::{
    Database, Durability, Error, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::watch::by_revision;
use super::{Base, Change, Committed, Entry, Key, Loaded, Transaction};

/// The format that is written and the only one that is understood.
pub(super) const FORMAT: u64 = 2;

/// Numbers by name: those below.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_REVISION: &str = "revision";
/// The newest revision of which an entry of the audit trail has been let go.
const META_FORGOTTEN: &str = "forgotten";

/// Entities by kind and id.
const ENTITIES: TableDefinition<(&str, u128), &[u8]> = TableDefinition::new("entities");
/// The hash of what a source said last, by its name.
const BASES: TableDefinition<&str, u64> = TableDefinition::new("bases");
/// What it said, by source, kind and id.
const SAID: TableDefinition<(&str, &str, u128), &[u8]> = TableDefinition::new("said");
/// The audit trail by revision and place in its commit.
const AUDIT: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("audit");
/// Notes by id.
const NOTES: TableDefinition<u128, &[u8]> = TableDefinition::new("notes");

/// What came of trying to commit.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is kept under this revision.
    Committed(u64),
    /// This revision was in force, and nothing was changed.
    Conflict(u64),
}

/// Makes the tables of an empty database, and returns the format of one that is not; none when it is none
/// of ours.
pub(super) fn prepare(database: &Database) -> Result<Option<u64>, Error> {
    let reading = database.begin_read()?;
    if reading.list_tables()?.next().is_some() || reading.list_multimap_tables()?.next().is_some() {
        return match reading.open_table(META) {
            Ok(meta) => Ok(meta.get(META_FORMAT)?.map(|format| format.value())),
            Err(redb::TableError::Storage(error)) => Err(error.into()),
            Err(_) => Ok(None),
        };
    }
    let writing = begin_write(database)?;
    writing.open_table(META)?.insert(META_FORMAT, FORMAT)?;
    writing.open_table(ENTITIES)?;
    writing.open_table(BASES)?;
    writing.open_table(SAID)?;
    writing.open_table(AUDIT)?;
    writing.open_table(NOTES)?;
    writing.commit()?;
    Ok(Some(FORMAT))
}

/// Returns all that is kept but the audit trail, as of one revision.
pub(super) fn load(database: &Database) -> Result<Loaded, Error> {
    let reading = database.begin_read()?;
    let mut loaded = Loaded {
        revision: number(&reading, META_REVISION)?,
        ..Loaded::default()
    };
    for row in reading.open_table(ENTITIES)?.iter()? {
        let (key, values) = row?;
        let (kind, id) = key.value();
        let key = Key::new(kind, Uuid::from_u128(id));
        loaded.entities.push((key, decode(values.value(), "an entity")?));
    }
    for row in reading.open_table(BASES)?.iter()? {
        let (source, hash) = row?;
        loaded.bases.push(Base {
            source: source.value().to_owned(),
            hash: hash.value(),
            entities: Vec::new(),
        });
    }
    let said = reading.open_table(SAID)?;
    for base in &mut loaded.bases {
        for row in said.range(all_of(&base.source))? {
            let (key, values) = row?;
            let (_, kind, id) = key.value();
            let key = Key::new(kind, Uuid::from_u128(id));
            base.entities
                .push((key, decode(values.value(), "what a source said")?));
        }
    }
    for row in reading.open_table(NOTES)?.iter()? {
        let (id, note) = row?;
        let id = Uuid::from_u128(id.value());
        loaded.notes.push((id, decode(note.value(), "a note")?));
    }
    Ok(loaded)
}

/// Returns the revision in force.
pub(super) fn revision(database: &Database) -> Result<u64, Error> {
    number(&database.begin_read()?, META_REVISION)
}

/// Returns the newest revision of which an entry of the audit trail has been let go.
pub(super) fn forgotten(database: &Database) -> Result<u64, Error> {
    number(&database.begin_read()?, META_FORGOTTEN)
}

/// Keeps a transaction, and the newest `kept_entries` of the audit trail.
pub(super) fn commit(
    database: &Database,
    transaction: &Transaction,
    expected_revision: u64,
    kept_entries: usize,
) -> Result<Outcome, Error> {
    let writing = begin_write(database)?;
    let revision = {
        let mut meta = writing.open_table(META)?;
        let actual = meta.get(META_REVISION)?.map_or(0, |revision| revision.value());
        if actual != expected_revision {
            return Ok(Outcome::Conflict(actual));
        }
        meta.insert(META_REVISION, actual + 1)?;
        actual + 1
    };
    put_entities(&writing, &transaction.changes)?;
    put_bases(&writing, transaction)?;
    put_entries(&writing, revision, &transaction.entries, kept_entries)?;
    writing.commit()?;
    Ok(Outcome::Committed(revision))
}

fn put_entities(writing: &WriteTransaction, changes: &[Change]) -> Result<(), Error> {
    let mut entities = writing.open_table(ENTITIES)?;
    for change in changes {
        match change {
            Change::Put(key, values) => {
                let values = encode(values, "an entity")?;
                entities.insert((key.kind.as_str(), key.id.as_u128()), values.as_slice())?;
            }
            Change::Delete(key) => {
                entities.remove((key.kind.as_str(), key.id.as_u128()))?;
            }
        }
    }
    Ok(())
}

fn put_bases(writing: &WriteTransaction, transaction: &Transaction) -> Result<(), Error> {
    let mut bases = writing.open_table(BASES)?;
    let mut said = writing.open_table(SAID)?;
    for source in &transaction.forget {
        bases.remove(source.as_str())?;
        said.retain_in(all_of(source), |_, _| false)?;
    }
    if let Some(base) = &transaction.base {
        let source = base.source.as_str();
        bases.insert(source, base.hash)?;
        for change in &base.changes {
            match change {
                Change::Put(key, values) => {
                    let values = encode(values, "what a source said")?;
                    said.insert((source, key.kind.as_str(), key.id.as_u128()), values.as_slice())?;
                }
                Change::Delete(key) => {
                    said.remove((source, key.kind.as_str(), key.id.as_u128()))?;
                }
            }
        }
    }
    Ok(())
}

/// The keys of all that a source said. A kind is lower-case letters and underscores.
fn all_of(source: &str) -> std::ops::Range<(&str, &str, u128)> {
    (source, "", 0)..(source, "\u{7f}", 0)
}

fn put_entries(
    writing: &WriteTransaction,
    revision: u64,
    entries: &[Entry],
    kept_entries: usize,
) -> Result<(), Error> {
    let mut audit = writing.open_table(AUDIT)?;
    for (place, entry) in (0..).zip(entries) {
        let value = encode(entry, "an entry of the audit trail")?;
        audit.insert((revision, place), value.as_slice())?;
    }
    let mut forgotten = None;
    for _ in kept_entries as u64..audit.len()? {
        forgotten = audit.pop_first()?.map(|(key, _)| key.value().0).or(forgotten);
    }
    if let Some(forgotten) = forgotten {
        writing.open_table(META)?.insert(META_FORGOTTEN, forgotten)?;
    }
    Ok(())
}

/// Puts notes, or deletes them.
pub(super) fn note(database: &Database, notes: &[(Uuid, Option<Value>)]) -> Result<(), Error> {
    let writing = begin_write(database)?;
    {
        let mut table = writing.open_table(NOTES)?;
        for (id, note) in notes {
            match note {
                Some(note) => table.insert(id.as_u128(), encode(note, "a note")?.as_slice())?,
                None => table.remove(id.as_u128())?,
            };
        }
    }
    writing.commit()?;
    Ok(())
}

/// Returns the newest entries of the audit trail, as [`Store::entries`](super::Store::entries) says.
pub(super) fn entries(database: &Database, before: Option<u64>, limit: usize) -> Result<Vec<Entry>, Error> {
    let audit = database.begin_read()?.open_table(AUDIT)?;
    let rows = match before {
        Some(before) => audit.range(..(before, 0))?,
        None => audit.iter()?,
    };
    let mut page: Vec<Entry> = Vec::new();
    for row in rows.rev() {
        let (key, entry) = row?;
        let (revision, _) = key.value();
        if page.len() >= limit && page.last().is_none_or(|last| last.revision != revision) {
            break;
        }
        page.push(decode_entry(revision, entry.value())?);
    }
    Ok(page)
}

/// Returns the transactions above the revision `from`, `limit` at most and none above `newest`, and the newest
/// revision of which an entry has been let go.
pub(super) fn since(
    database: &Database,
    from: u64,
    newest: u64,
    limit: usize,
) -> Result<(Vec<Committed>, u64), Error> {
    let reading = database.begin_read()?;
    let newest = newest.min(number(&reading, META_REVISION)?);
    let last = newest.min(from.saturating_add(limit as u64));
    let mut entries = Vec::new();
    if last > from {
        for row in reading
            .open_table(AUDIT)?
            .range((from + 1, 0)..=(last, u32::MAX))?
        {
            let (key, entry) = row?;
            entries.push(decode_entry(key.value().0, entry.value())?);
        }
    }
    let committed = by_revision(from, last, entries.into_iter());
    Ok((committed, number(&reading, META_FORGOTTEN)?))
}

/// The key says the revision, since an entry is written before its commit has one.
fn decode_entry(revision: u64, bytes: &[u8]) -> Result<Entry, Error> {
    let mut entry: Entry = decode(bytes, "an entry of the audit trail")?;
    entry.revision = revision;
    Ok(entry)
}

fn begin_write(database: &Database) -> Result<WriteTransaction, Error> {
    let mut writing = database.begin_write()?;
    writing.set_durability(Durability::Immediate)?;
    Ok(writing)
}

fn number(reading: &ReadTransaction, name: &str) -> Result<u64, Error> {
    let meta = reading.open_table(META)?;
    Ok(meta.get(name)?.map_or(0, |number| number.value()))
}

fn encode(value: &impl Serialize, what: &str) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| cannot_be(what, "written", error))
}

fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| cannot_be(what, "read", error))
}

fn cannot_be(what: &str, done: &str, error: impl Display) -> Error {
    Error::Corrupted(format!("{what} cannot be {done}: {error}"))
}
