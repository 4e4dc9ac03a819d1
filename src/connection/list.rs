//! The connections that are open, listed by worker so that no worker waits for another.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::{Connection, Place};

/// The lists of all workers. One for the process, like its metrics: whoever ends exchanges knows no
/// worker, and the workers nobody who does.
static WORKERS: LazyLock<Mutex<Vec<Arc<Connections>>>> = LazyLock::new(Mutex::default);

/// The open connections of one worker.
#[derive(Debug, Default)]
pub struct Connections(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    by_number: HashMap<u64, Arc<Connection>, ahash::RandomState>,
}

/// A connection that is listed while this lives.
#[derive(Debug)]
pub struct Listed {
    list: Arc<Connections>,
    number: u64,
    connection: Arc<Connection>,
}

impl Connections {
    /// Makes the list of another worker.
    pub fn of_worker() -> Arc<Self> {
        let list = Arc::new(Self::default());
        lock(&WORKERS).push(list.clone());
        list
    }

    /// Lists a connection that this task serves, and the name that its TLS handshake asked for.
    pub fn open(self: &Arc<Self>, task: Waker, server_name: Option<Box<str>>) -> Listed {
        let connection = Arc::new(Connection::new(task, server_name));
        let mut open = lock(&self.0);
        let number = open.next;
        open.next += 1;
        open.by_number.insert(number, connection.clone());
        Listed {
            list: self.clone(),
            number,
            connection,
        }
    }

    fn end_exchanges(&self, is_there: impl Fn(Place) -> bool) -> usize {
        // Woken once the lock is free: whoever wakes up may want it.
        let mut found = Vec::new();
        for connection in lock(&self.0).by_number.values() {
            connection.find_exchanges(&is_there, &mut found);
        }
        let ended = found
            .iter()
            .filter(|(whereabouts, exchange)| whereabouts.end(*exchange));
        ended.count()
    }
}

impl Listed {
    /// Returns the connection.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.list.0).by_number.remove(&self.number);
    }
}

/// Ends every exchange at one of these places and returns how many were not told so before.
pub fn end_exchanges(is_there: impl Fn(Place) -> bool) -> usize {
    let workers = lock(&WORKERS).clone();
    workers.iter().map(|list| list.end_exchanges(&is_there)).sum()
}

/// Nothing can panic half-way through a change of a list, so a poisoned one is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_listed_while_it_is_open() {
        let list = Arc::new(Connections::default());
        let open = || list.open(Waker::noop().clone(), None);
        let (one, other) = (open(), open());
        one.connection().whereabouts.begin(Place::new(7));
        other.connection().whereabouts.begin(Place::new(8));
        assert_eq!(list.end_exchanges(|place| place == Place::new(7)), 1);
        assert!(one.connection().is_ending() && !other.connection().is_ending());
        assert_eq!(list.end_exchanges(|_| true), 1, "one was told before");
        drop((one, other));
        assert!(lock(&list.0).by_number.is_empty());
    }
}
