//! The file of a store: made whole or not at all, for its owner only, and locked as long as it is in use.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::StorageBackend;

use super::StoreError;

/// A file that no other process has.
///
/// The lock belongs to it and not to the database in it, which is closed and opened again after an
/// error: there is no moment at which somebody else could come in between.
#[derive(Debug)]
pub(super) struct LockedFile(File);

impl LockedFile {
    /// Opens a file and takes its lock. None when there is no such file.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => Self::lock(file, path).map(Some),
            // A link that leads nowhere is not replaced by a file: what it leads to may come yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => Ok(None),
            Err(error) => Err(cannot_open(path, error)),
        }
    }

    /// Makes a file, filled by `fill`, and takes its lock.
    ///
    /// It is filled under another name beside its own, and only then gets its own: one that is
    /// half-filled when the process is killed would be taken for a damaged one at the next start.
    pub(super) fn create(
        path: &Path,
        fill: impl FnOnce(Arc<dyn StorageBackend>) -> Result<(), StoreError>,
    ) -> Result<Arc<Self>, StoreError> {
        let failed = |error| cannot_open(path, error);
        let unfinished = with_suffix(path, ".new");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(&unfinished).map_err(failed)?;
        let file = Arc::new(Self::lock(file, path)?);
        // Another process may have filled and renamed this very file before it gave up the lock.
        let is_ours = unfinished.metadata().is_ok_and(|named| {
            let own = file.0.metadata();
            own.is_ok_and(|own| own.ino() == named.ino() && own.dev() == named.dev())
        });
        if !is_ours || path.exists() {
            return Err(StoreError::Locked {
                path: path.to_owned(),
            });
        }
        file.0.set_len(0).map_err(failed)?;
        fill(file.clone())?;
        std::fs::rename(&unfinished, path).map_err(failed)?;
        // The name of a file is kept in its directory, which has to reach the disk as well.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))
            .and_then(|directory| directory.sync_all())
            .map_err(failed)?;
        Ok(file)
    }

    fn lock(file: File, path: &Path) -> Result<Self, StoreError> {
        let file = Self(file);
        file.lock_again(path)?;
        Ok(file)
    }

    /// Lets another process have it.
    pub(super) fn unlock(&self) {
        // It fails on a descriptor that is not open, which this one is.
        let _ = self.0.unlock();
    }

    /// Takes the lock of a file that another process may have had since.
    pub(super) fn lock_again(&self, path: &Path) -> Result<(), StoreError> {
        match self.0.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(error)) => Err(cannot_open(path, error)),
        }
    }
}

fn cannot_open(path: &Path, source: io::Error) -> StoreError {
    StoreError::Open {
        path: path.to_owned(),
        source,
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Locks nothing by itself, which redb takes for a medium that nobody else can reach.
impl StorageBackend for LockedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}
