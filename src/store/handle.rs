//! The open database, and how it is opened again after an error.
//!
//! redb refuses everything once a read or a write of its file has failed, until it is closed and opened
//! again. That is done here, at once and before the next write, so that a disk that was full works again
//! without a restart as soon as there is room.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use log::{error, info, warn};
use redb::{Database, Error, StorageBackend};
use tokio::sync::watch::Sender;

use super::file::LockedFile;
use super::pages::{Pages, write_again};
use super::tables::{self, Outcome};
use super::{CommitError, StoreError, Transaction};

/// How much of the file redb keeps in memory at most. What requests read is in the snapshot, so this only
/// speeds up commits.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// The database of one file, for threads that may block.
#[derive(Debug)]
pub(super) struct Handle {
    path: PathBuf,
    file: Arc<dyn StorageBackend>,
    /// The same file with its lock; None for what stands for a file in tests.
    lock: Option<Arc<LockedFile>>,
    /// Held shared while the database is in use, and exclusively to replace it.
    state: RwLock<State>,
    newest: Sender<u64>,
}

#[derive(Debug)]
struct State {
    /// None when even reading fails.
    database: Option<Database>,
    /// Whether what is written to it reaches the file.
    is_writable: bool,
    owner: Owner,
    /// How often it has been opened again: of several that meet an error only the first acts on it.
    reopened: u64,
}

/// Whose the file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Locked by this process.
    Us,
    /// Lent: whoever opened it now would write into what another process writes.
    Another,
    /// Ours again as soon as the other process has given up the lock.
    Unknown,
}

impl Handle {
    /// Opens the database in a file, which is left as it is when it is not a whole one of the known format.
    pub(super) fn open(path: &Path, file: Arc<dyn StorageBackend>) -> Result<Self, StoreError> {
        let failed = |error: std::io::Error| failed(path, error.into());
        if file.len().map_err(failed)? > 0 {
            let look = Pages::layered(file.clone()).map_err(failed)?;
            open_database(path, look, true)?;
        }
        let database = open_database(path, Pages::Direct(file.clone()), false)?;
        let handle = Self {
            path: path.to_owned(),
            file,
            lock: None,
            state: RwLock::new(State {
                database: Some(database),
                is_writable: true,
                owner: Owner::Us,
                reopened: 0,
            }),
            newest: Sender::new(0),
        };
        let revision = handle.read(tables::revision)?;
        handle.newest.send_replace(revision);
        Ok(handle)
    }

    /// Adds the lock that is given up while the file is lent.
    pub(super) fn locked_by(mut self, lock: Arc<LockedFile>) -> Self {
        self.lock = Some(lock);
        self
    }

    /// Closes the database and gives the lock up.
    pub(super) fn lend(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        close(&mut state);
        state.owner = Owner::Another;
        if let Some(lock) = &self.lock {
            lock.unlock();
        }
    }

    /// Takes the lock and opens the database again, if that can be; otherwise the next write tries.
    pub(super) fn reclaim(&self) -> Result<(), StoreError> {
        let reopened = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            if state.owner == Owner::Another {
                state.owner = Owner::Unknown;
            }
            state.reopened
        };
        self.reopen(reopened)
    }

    /// Returns the newest revision that is known to be on the disk.
    pub(super) fn newest(&self) -> &Sender<u64> {
        &self.newest
    }

    /// Reads: while the file cannot be written, what it held when that began.
    pub(super) fn read<T>(&self, read: impl Fn(&Database) -> Result<T, Error>) -> Result<T, StoreError> {
        let (reopened, result) = self.attempt(&read);
        let result = match result {
            Err(error) if is_broken(&error) => {
                // Whether it can be written matters to the next write only.
                let reopening = self.reopen(reopened);
                match (self.attempt(&read).1, reopening) {
                    (Err(Error::DatabaseClosed), Err(cause)) => return Err(cause),
                    (result, _) => result,
                }
            }
            result => result,
        };
        result.map_err(|error| failed(&self.path, error))
    }

    /// Writes what may be written twice.
    pub(super) fn write<T>(&self, write: impl Fn(&Database) -> Result<T, Error>) -> Result<T, StoreError> {
        self.ensure_writable()?;
        let (reopened, result) = self.attempt(&write);
        let result = match result {
            Err(error) if is_broken(&error) => {
                self.warn(&error);
                self.reopen(reopened)?;
                self.attempt(&write).1
            }
            result => result,
        };
        result.map_err(|error| failed(&self.path, error))
    }

    /// Returns the revision in force, once it is certain what the disk holds.
    pub(super) fn revision(&self) -> Result<u64, StoreError> {
        self.ensure_writable()?;
        self.read(tables::revision)
    }

    /// Keeps a transaction. Only one thread may be in here at a time: by that, a revision that has come
    /// about in spite of an error is known to be the one that was being written.
    pub(super) fn commit(
        &self,
        transaction: &Transaction,
        expected_revision: u64,
        kept_entries: usize,
    ) -> Result<u64, CommitError> {
        self.ensure_writable()?;
        let before = *self.newest.borrow();
        let (reopened, result) =
            self.attempt(|database| tables::commit(database, transaction, expected_revision, kept_entries));
        let error = match result {
            Ok(Outcome::Committed(revision)) => {
                self.newest.send_replace(revision);
                return Ok(revision);
            }
            Ok(Outcome::Conflict(actual)) => return Err(CommitError::Conflict { actual }),
            Err(error) => error,
        };
        if is_broken(&error) {
            self.warn(&error);
            let is_certain = self.reopen(reopened).is_ok();
            let after = *self.newest.borrow();
            if is_certain && before == expected_revision && after == expected_revision + 1 {
                return Ok(after);
            }
        }
        Err(failed(&self.path, error).into())
    }

    fn attempt<T>(&self, work: impl Fn(&Database) -> Result<T, Error>) -> (u64, Result<T, Error>) {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let result = match &state.database {
            Some(database) => guarded(|| work(database)),
            None => Err(Error::DatabaseClosed),
        };
        (state.reopened, result)
    }

    fn ensure_writable(&self) -> Result<(), StoreError> {
        let reopened = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            if state.is_writable {
                return Ok(());
            }
            state.reopened
        };
        self.reopen(reopened)
    }

    /// Opens the database again, unless somebody did since it had been reopened that often; without
    /// writing to the file when it cannot be written.
    fn reopen(&self, reopened: u64) -> Result<(), StoreError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.reopened != reopened && state.is_writable {
            return Ok(());
        }
        self.claim(&mut state)?;
        close(&mut state);
        match self.open_again() {
            Ok((database, revision)) => {
                state.database = Some(database);
                state.is_writable = true;
                let acknowledged = self.newest.send_replace(revision);
                info!("the store {} can be written again", self.path.display());
                if revision < acknowledged {
                    error!(
                        "the store {} holds revision {revision} only, and revision {acknowledged} had been written",
                        self.path.display()
                    );
                }
                Ok(())
            }
            Err(error) => {
                state.database = Pages::layered(self.file.clone())
                    .ok()
                    .and_then(|pages| open_database(&self.path, pages, true).ok());
                Err(error)
            }
        }
    }

    /// Sees to it that the file is this process's.
    fn claim(&self, state: &mut State) -> Result<(), StoreError> {
        match (state.owner, &self.lock) {
            (Owner::Another, _) => {
                return Err(StoreError::Locked {
                    path: self.path.clone(),
                });
            }
            (Owner::Unknown, Some(lock)) => {
                lock.lock_again(&self.path)?;
                // A newer version may have had it: what it has made of the file is left as it is.
                let look =
                    Pages::layered(self.file.clone()).map_err(|error| failed(&self.path, error.into()))?;
                open_database(&self.path, look, true)?;
            }
            _ => {}
        }
        state.owner = Owner::Us;
        Ok(())
    }

    fn open_again(&self) -> Result<(Database, u64), StoreError> {
        write_again(&*self.file).map_err(|error| failed(&self.path, error.into()))?;
        let database = open_database(&self.path, Pages::Direct(self.file.clone()), true)?;
        let revision = guarded(|| tables::revision(&database)).map_err(|error| failed(&self.path, error))?;
        Ok((database, revision))
    }

    fn warn(&self, error: &Error) {
        warn!("cannot write the store {}: {error}", self.path.display());
    }
}

fn close(state: &mut State) {
    let old = state.database.take();
    state.is_writable = false;
    state.reopened += 1;
    // redb may panic over what it finds in its memory after an error.
    let _ = guarded(|| {
        drop(old);
        Ok(())
    });
}

/// Opens a database, with its tables. `verify`: reads all of it and compares it with its checksums.
fn open_database(path: &Path, pages: Pages, verify: bool) -> Result<Database, StoreError> {
    let name = path.to_owned();
    let is_direct = matches!(pages, Pages::Direct(_));
    let opened = guarded(|| {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(verify)
            .set_repair_callback(move |repair| {
                // How redb says that the newest transaction is not whole, and is left out.
                if is_direct && repair.progress() == 0.3 {
                    warn!(
                        "the last write to the store {} was not finished and is undone",
                        name.display()
                    );
                }
            })
            .create_with_backend(pages)?;
        let format = tables::prepare(&database)?;
        Ok((database, format))
    });
    let path = path.to_owned();
    match opened {
        Ok((database, Some(tables::FORMAT))) => Ok(database),
        Ok((_, Some(found))) => Err(StoreError::Format {
            path,
            found,
            known: tables::FORMAT,
        }),
        Ok((_, None)) => Err(StoreError::Corrupt {
            path,
            source: "it is the database of another program".into(),
        }),
        // A damaged file can make redb panic.
        Err(Error::Backend(source)) => Err(StoreError::Corrupt { path, source }),
        Err(error) => Err(failed(&path, error)),
    }
}

fn failed(path: &Path, error: Error) -> StoreError {
    let path = path.to_owned();
    let is_corrupt = match &error {
        Error::Io(error) => matches!(
            error.kind(),
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
        ),
        error => !is_broken(error) && !matches!(error, Error::ValueTooLarge(_)),
    };
    // What the system said stands for itself.
    let source = match error {
        Error::Io(error) => error.into(),
        Error::Backend(error) => error,
        error => error.into(),
    };
    if is_corrupt {
        StoreError::Corrupt { path, source }
    } else {
        StoreError::Failed { path, source }
    }
}

/// Returns whether an error may be gone when the database has been opened again.
fn is_broken(error: &Error) -> bool {
    matches!(
        error,
        Error::Io(_)
            | Error::Backend(_)
            | Error::PreviousIo
            | Error::DatabaseClosed
            | Error::LockPoisoned(_)
            | Error::TransactionPoisoned
    )
}

/// Turns a panic into an error: redb panics rather than fails over some damage, and that must not be the end
/// of the one who asked.
fn guarded<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = (panic.downcast_ref::<String>().map(String::as_str))
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("redb panicked");
        Err(Error::Backend(message.into()))
    })
}
