//! Why a store could not do what it was asked to.

use std::error::Error;
use std::path::PathBuf;

/// The store cannot be opened, read or written. The cause is its source.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or made.
    #[error(
        "cannot open the store {}; create the directory, or set server.store.path to a place that can be written, or server.store.kind to memory",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file belongs to somebody else at present.
    #[error(
        "the store {} is in use by another process; stop that one, or set server.store.path to another file",
        path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a version that keeps things otherwise.
    #[error(
        "the store {} has format {found}, and this version knows format {known}; run the version that wrote it, or move the file away to start from the configuration file",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The format of the file.
        found: u64,
        /// The only format that is understood.
        known: u64,
    },
    /// The file is damaged, or not a store at all.
    #[error(
        "cannot read {} as a store; move the file away to start from the configuration file, or restore a copy; nothing was changed",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Reading or writing failed in the middle of the work: a full disk, a broken one. The next write
    /// tries again from what the disk holds.
    #[error("cannot read or write the store {}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The audit trail no longer reaches back to where a watcher wants to begin.
    #[error("the audit trail begins after revision {oldest}, and revision {from} was asked for; load again")]
    HistoryGone {
        /// The revision after which the watcher wanted to go on.
        from: u64,
        /// The earliest revision after which one can go on.
        oldest: u64,
    },
    /// The process is ending, so nothing is begun any more.
    #[error("the store is closed, for the process is ending")]
    Closed,
}

/// A transaction was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another one came first. Nothing was changed.
    #[error("the configuration has moved on to revision {actual}")]
    Conflict {
        /// The revision in force.
        actual: u64,
    },
    /// It could not be written. It is wholly there or not at all, and
    /// [`revision`](super::Store::revision) tells which as soon as the store can be written again.
    #[error("cannot keep the change")]
    Store(#[from] StoreError),
}
