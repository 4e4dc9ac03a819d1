//! What outlives the process: the entities in force, what the sources of configuration said last, who
//! changed what, and how far ramps have come.
//!
//! A store keeps values under keys and numbers its transactions; what they mean is for others. It promises
//!
//! - that a transaction is kept as a whole or not at all, and is on the disk when [`Store::commit`]
//!   returns;
//! - that of two writers which began from one revision only one succeeds, so none undoes unseen what the
//!   other did;
//! - that a watcher sees every transaction after a revision, in order and once.
//!
//! [`Embedded`] keeps all in one file and needs nothing installed; [`Memory`] is for tests and for
//! containers that cannot write.

mod embedded;
mod error;
mod file;
mod handle;
mod memory;
mod pages;
mod record;
mod tables;
#[cfg(test)]
mod tests;
mod watch;

use std::fmt::Debug;

use async_trait::async_trait;
use serde_json::Value;
use uuid::Uuid;

pub use embedded::Embedded;
pub use error::{CommitError, StoreError};
pub use memory::Memory;
pub use record::{Base, BaseChange, Change, Committed, Entry, EntryChange, Key, Loaded, Transaction};
pub use watch::Watch;

/// What outlives the process.
#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// Returns all that is kept, as of one revision. An empty store has revision 0.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    async fn load(&self) -> Result<Loaded, StoreError>;

    /// Returns the revision in force. After a commit that failed it tells whether the transaction is
    /// there all the same.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, and as long as it cannot be known what the disk holds.
    async fn revision(&self) -> Result<u64, StoreError>;

    /// Keeps a transaction, all of it or nothing, and returns its revision, which is
    /// `expected_revision + 1`, also when the transaction is empty. It is durable then, and its entries
    /// bear that revision.
    ///
    /// Once it is being written it goes on, also when its caller no longer waits.
    ///
    /// # Errors
    ///
    /// [`CommitError::Conflict`] when another revision is in force than the expected one, and
    /// [`CommitError::Store`] when it cannot be written.
    async fn commit(&self, transaction: Transaction, expected_revision: u64) -> Result<u64, CommitError>;

    /// Returns every transaction after `from_revision`, in order, then those to come.
    ///
    /// # Errors
    ///
    /// [`StoreError::HistoryGone`] when the audit trail no longer reaches back that far.
    async fn watch(&self, from_revision: u64) -> Result<Watch, StoreError>;

    /// Returns the newest entries of the audit trail, newest first: those of a revision below `before`, or
    /// of all. A page does not end in the middle of a commit, so it can be longer than `limit`, and the
    /// next one begins `before` the revision of its last entry.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    async fn entries(&self, before: Option<u64>, limit: usize) -> Result<Vec<Entry>, StoreError>;

    /// Puts small values by id, or deletes them: durable, but neither numbered nor watched.
    ///
    /// # Errors
    ///
    /// When they cannot be written. It is safe to try again.
    async fn note(&self, notes: Vec<(Uuid, Option<Value>)>) -> Result<(), StoreError>;

    /// Lends the store to another process: waits for the write under way, then lets go of whatever only
    /// one process can have. Until [`Store::reclaim`] writes wait, and reads fail.
    async fn lend(&self);

    /// Takes the store back. What the other process has written is found by [`Store::revision`].
    ///
    /// # Errors
    ///
    /// When the other process still has it, or left what cannot be read. Writes no longer wait then: they
    /// try again to take it back, and fail for as long as that does not work.
    async fn reclaim(&self) -> Result<(), StoreError>;
}
