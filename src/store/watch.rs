//! Following a store: first what it has kept, then what comes.
//!
//! A watcher holds no queue that could overflow: it is only told that there is a newer revision, and
//! reads from the store whatever it has not seen. So nothing is missed and nothing comes twice,
//! however far it falls behind.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use tokio::sync::watch::Receiver;

use super::{Committed, Entry, StoreError};

/// How many revisions are read at once. Bounds the memory of a watcher that is far behind.
const BATCH: usize = 256;

/// What a watcher reads from.
#[async_trait]
pub(super) trait History: Send + Sync {
    /// Returns the transactions after a revision, in order, `limit` at most, without gaps.
    async fn since(self: Arc<Self>, revision: u64, limit: usize) -> Result<Vec<Committed>, StoreError>;
}

/// The transactions after a revision, one after the other.
pub struct Watch {
    history: Weak<dyn History>,
    newest: Receiver<u64>,
    read: VecDeque<Arc<Committed>>,
    /// The last revision that is in `read` or was before.
    seen: u64,
}

impl Watch {
    /// Returns a watcher that begins after the revision `from`.
    pub(super) fn new(history: Weak<dyn History>, newest: Receiver<u64>, from: u64) -> Self {
        Self {
            history,
            newest,
            read: VecDeque::new(),
            seen: from,
        }
    }

    /// Waits for the next transaction. None when the store is gone.
    ///
    /// May be given up at any time, as in a `select!`: nothing is lost.
    ///
    /// # Errors
    ///
    /// When the store cannot be read: the next call tries again, so a caller waits a little before
    /// it. [`StoreError::HistoryGone`] stays: one that fell behind further than the audit trail
    /// reaches has to load again.
    pub async fn next(&mut self) -> Option<Result<Arc<Committed>, StoreError>> {
        loop {
            if let Some(committed) = self.read.pop_front() {
                return Some(Ok(committed));
            }
            let seen = self.seen;
            self.newest.wait_for(|newest| *newest > seen).await.ok()?;
            match self.history.upgrade()?.since(seen, BATCH).await {
                Ok(batch) => {
                    self.seen = batch.last().map_or(seen, |committed| committed.revision);
                    self.read.extend(batch.into_iter().map(Arc::new));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

/// Checks that everything after the revision `from` is still there.
pub(super) fn check_history(from: u64, forgotten: u64) -> Result<(), StoreError> {
    if from < forgotten {
        return Err(StoreError::HistoryGone {
            from,
            oldest: forgotten,
        });
    }
    Ok(())
}

/// Returns one transaction for every revision above `from` up to `last`, with its entries, which come in
/// order. A revision without entries has its place too, so that a watcher can count on having seen all.
pub(super) fn by_revision(from: u64, last: u64, entries: impl Iterator<Item = Entry>) -> Vec<Committed> {
    let mut entries = entries.peekable();
    (from.saturating_add(1)..=last)
        .map(|revision| Committed {
            revision,
            entries: std::iter::from_fn(|| entries.next_if(|entry| entry.revision == revision)).collect(),
        })
        .collect()
}
