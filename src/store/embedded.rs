//! A store in one file, which needs nothing installed.

use std::path::Path;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
#[cfg(test)]
use redb::StorageBackend;
use serde_json::Value;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::file::LockedFile;
use super::handle::Handle;
use super::watch::{History, check_history};
use super::{CommitError, Committed, Entry, Loaded, Store, StoreError, Transaction, Watch, tables};

/// How many lines of the audit trail are kept: a change every minute for two months. The oldest go first,
/// so that a store does not grow with the age of a system.
const KEPT_ENTRIES: usize = 100_000;

/// Keeps everything in one file, for one process at a time.
///
/// A disk that is full or fails refuses commits, while reads go on; as soon as it can be written again the
/// next commit works. A process that is killed leaves a file that opens with everything that was
/// acknowledged.
#[derive(Debug)]
pub struct Embedded {
    handle: Arc<Handle>,
    /// Held by the one that writes. The others wait for it without a thread each.
    writing: Arc<Mutex<()>>,
    /// The turn to write of the process that the store is lent to.
    lent: Mutex<Option<OwnedMutexGuard<()>>>,
    kept_entries: usize,
}

impl Embedded {
    /// Opens the store in a file, or makes one, for its owner only, when there is no file or an empty one.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, belongs to another process, or is damaged or of another format; such a
    /// file is left as it is.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = match LockedFile::open(path)? {
            Some(file) => Arc::new(file),
            None => LockedFile::create(path, |file| Handle::open(path, file).map(drop))?,
        };
        let handle = Handle::open(path, file.clone())?.locked_by(file);
        Ok(Self::new(handle, KEPT_ENTRIES))
    }

    fn new(handle: Handle, kept_entries: usize) -> Self {
        Self {
            handle: Arc::new(handle),
            writing: Arc::default(),
            lent: Mutex::default(),
            kept_entries,
        }
    }

    /// Opens the store in what stands for a file.
    #[cfg(test)]
    pub(super) fn over(
        path: &Path,
        file: Arc<dyn StorageBackend>,
        kept_entries: usize,
    ) -> Result<Self, StoreError> {
        Ok(Self::new(Handle::open(path, file)?, kept_entries))
    }
}

#[async_trait]
impl Store for Embedded {
    async fn load(&self) -> Result<Loaded, StoreError> {
        blocking(&self.handle, |handle| handle.read(tables::load)).await
    }

    async fn revision(&self) -> Result<u64, StoreError> {
        blocking(&self.handle, Handle::revision).await
    }

    async fn commit(&self, transaction: Transaction, expected_revision: u64) -> Result<u64, CommitError> {
        let turn = self.writing.clone().lock_owned().await;
        let kept_entries = self.kept_entries;
        blocking(&self.handle, move |handle| {
            let _turn = turn;
            handle.commit(&transaction, expected_revision, kept_entries)
        })
        .await
    }

    async fn watch(&self, from_revision: u64) -> Result<Watch, StoreError> {
        let forgotten = blocking(&self.handle, |handle| handle.read(tables::forgotten)).await?;
        check_history(from_revision, forgotten)?;
        let history: Arc<dyn History> = self.handle.clone();
        let history: Weak<dyn History> = Arc::downgrade(&history);
        Ok(Watch::new(
            history,
            self.handle.newest().subscribe(),
            from_revision,
        ))
    }

    async fn entries(&self, before: Option<u64>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        blocking(&self.handle, move |handle| {
            handle.read(|database| tables::entries(database, before, limit))
        })
        .await
    }

    async fn note(&self, notes: Vec<(Uuid, Option<Value>)>) -> Result<(), StoreError> {
        let turn = self.writing.clone().lock_owned().await;
        blocking(&self.handle, move |handle| {
            let _turn = turn;
            handle.write(|database| tables::note(database, &notes))
        })
        .await
    }

    async fn lend(&self) {
        let turn = self.writing.clone().lock_owned().await;
        let closed = blocking(&self.handle, |handle| {
            handle.lend();
            Ok::<(), StoreError>(())
        });
        // The thread that closes it goes on to the end, whoever waits.
        let _ = closed.await;
        *self.lent.lock().await = Some(turn);
    }

    async fn reclaim(&self) -> Result<(), StoreError> {
        let turn = self.lent.lock().await.take();
        blocking(&self.handle, move |handle| {
            let _turn = turn;
            handle.reclaim()
        })
        .await
    }
}

#[async_trait]
impl History for Handle {
    async fn since(self: Arc<Self>, revision: u64, limit: usize) -> Result<Vec<Committed>, StoreError> {
        blocking(&self, move |handle| {
            // What is in the file but not known to be on the disk may yet be gone.
            let newest = *handle.newest().borrow();
            let (committed, forgotten) =
                handle.read(|database| tables::since(database, revision, newest, limit))?;
            check_history(revision, forgotten)?;
            Ok(committed)
        })
        .await
    }
}

/// Works on a thread that may block, to the end also when nobody waits any more.
async fn blocking<T, E>(
    handle: &Arc<Handle>,
    work: impl FnOnce(&Handle) -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    let handle = handle.clone();
    spawn_blocking(move || work(&handle))
        .await
        .unwrap_or_else(|_| Err(StoreError::Closed.into()))
}
