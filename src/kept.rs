//! States that outlive snapshots: kept by key for a while after their last use.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a state is kept that nothing configured uses any more: Kong's 300 s, so that a Target taken
/// out and put back in a deployment is not taken for healthy.
pub const KEPT_FOR: Duration = Duration::from_secs(300);

/// States by key, kept for a while after their last use. In use is what somebody else holds, so
/// nobody has to keep a list.
#[derive(Debug)]
pub struct Kept<K, T>(Mutex<HashMap<K, Entry<T>>>);

#[derive(Debug)]
struct Entry<T> {
    state: Arc<T>,
    unused_since: Option<Instant>,
}

impl<K: Clone + Eq + Hash, T> Kept<K, T> {
    /// Returns the state of a key, made by `new` when there is none.
    pub fn get_or(&self, key: &K, new: impl FnOnce() -> T) -> Arc<T> {
        let mut kept = self.lock();
        if let Some(entry) = kept.get(key) {
            return entry.state.clone();
        }
        let state = Arc::new(new());
        kept.insert(
            key.clone(),
            Entry {
                state: state.clone(),
                unused_since: None,
            },
        );
        state
    }

    /// Returns every state that is kept.
    pub fn all(&self) -> Vec<(K, Arc<T>)> {
        self.lock()
            .iter()
            .map(|(key, entry)| (key.clone(), entry.state.clone()))
            .collect()
    }

    /// Forgets what nobody has held for [`KEPT_FOR`].
    pub fn tidy(&self, now: Instant) {
        self.lock().retain(|_, entry| {
            if Arc::strong_count(&entry.state) > 1 {
                entry.unused_since = None;
                return true;
            }
            let since = *entry.unused_since.get_or_insert(now);
            now.saturating_duration_since(since) < KEPT_FOR
        });
    }

    /// No holder of this lock can panic half-way through a change, so a poisoned one is still whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Entry<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, T> Default for Kept<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}
