//! The streams of a connection that are open, and how many the client gave up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::sleep_until;

use crate::clock;
use crate::connection::Connection;
use crate::connection::whereabouts::Whereabouts;

/// Streams of one connection that a client may give up, beyond those that it lets end: enough for a page that
/// is left while its pictures load.
const GIVEN_UP_LIMIT: u32 = 200;

tokio::task_local! {
    /// The stream that a task serves: its session cannot be asked, as Pingora knows no more of it than it must.
    static SERVED: Arc<Stream>;
}

/// What a connection knows of its streams.
#[derive(Debug)]
pub(in crate::connection) struct Streams {
    open: Mutex<Open>,
    /// Streams that the client gave up and that no other has made good for.
    given_up: AtomicU32,
}

#[derive(Debug)]
struct Open {
    /// Where each is.
    list: Vec<Arc<Whereabouts>>,
    /// When the last one ended.
    ended: Instant,
}

/// A request's part in a connection that many share.
#[derive(Debug)]
pub struct Stream {
    pub(in crate::connection) connection: Arc<Connection>,
    pub(in crate::connection) whereabouts: Arc<Whereabouts>,
}

impl Streams {
    /// Begins without any.
    pub fn new() -> Self {
        let open = Open {
            list: Vec::new(),
            ended: clock::monotonic(),
        };
        Self {
            open: Mutex::new(open),
            given_up: AtomicU32::new(0),
        }
    }

    /// Looks at where each is.
    pub fn for_each(&self, look_at: impl FnMut(&Arc<Whereabouts>)) {
        self.open.lock().list.iter().for_each(look_at);
    }

    /// Waits until there has been none for as long as `limit` says by then.
    pub async fn unused_for(&self, limit: impl Fn() -> Duration) {
        loop {
            let now = clock::monotonic();
            let end = self.unused_since().unwrap_or(now) + limit();
            if end <= now {
                return;
            }
            sleep_until(end.into()).await;
        }
    }

    fn unused_since(&self) -> Option<Instant> {
        let open = self.open.lock();
        open.list.is_empty().then_some(open.ended)
    }

    /// Counts one that is over; says whether the client has given up too many. Each costs more here than
    /// there, and none counts against the limit of open streams (CVE-2023-44487). A stream that ends well makes
    /// good for one that did not.
    fn end_one(&self, is_given_up: bool) -> bool {
        let count = &self.given_up;
        if is_given_up {
            return count.fetch_add(1, Ordering::Relaxed) >= GIVEN_UP_LIMIT;
        }
        let less = |count: u32| count.checked_sub(1);
        let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        false
    }
}

impl Stream {
    /// Begins another on this connection, served by this task.
    pub fn open(connection: &Arc<Connection>, task: Waker) -> Self {
        let whereabouts = Arc::new(Whereabouts::new(task));
        connection.streams.open.lock().list.push(whereabouts.clone());
        Self {
            connection: connection.clone(),
            whereabouts,
        }
    }

    /// Returns the one that the present task serves.
    pub fn served() -> Option<Arc<Self>> {
        SERVED.try_with(Arc::clone).ok()
    }

    /// Serves it by what is to be done for it.
    pub async fn serve(self: Arc<Self>, service: impl Future<Output = ()>) {
        SERVED.scope(self, service).await;
    }

    /// Says how it ended; the connection ends with it once the client has given up too many.
    pub fn end(&self, is_given_up: bool) {
        if self.connection.streams.end_one(is_given_up) {
            self.connection.whereabouts.end_everything();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut open = self.connection.streams.open.lock();
        let position = open
            .list
            .iter()
            .position(|one| Arc::ptr_eq(one, &self.whereabouts));
        if let Some(at) = position {
            open.list.swap_remove(at);
        }
        open.ended = clock::monotonic();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Arc<Connection> {
        Arc::new(Connection::new(Waker::noop().clone(), None))
    }

    fn open(connection: &Arc<Connection>) -> Stream {
        Stream::open(connection, Waker::noop().clone())
    }

    #[test]
    fn a_client_may_give_up_so_many_streams_and_no_more() {
        let connection = connection();
        let stream = open(&connection);
        for _ in 0..10 * GIVEN_UP_LIMIT {
            stream.end(true);
            stream.end(false);
        }
        for _ in 0..GIVEN_UP_LIMIT {
            stream.end(true);
            assert!(!connection.is_ending());
        }
        stream.end(true);
        assert!(connection.is_ending());
    }

    #[test]
    fn a_stream_is_listed_while_it_lives() {
        let connection = connection();
        let count = || {
            let mut count = 0;
            connection.streams.for_each(|_| count += 1);
            count
        };
        let (one, other) = (open(&connection), open(&connection));
        assert_eq!(count(), 2);
        drop(one);
        assert_eq!(count(), 1);
        connection
            .streams
            .for_each(|left| assert!(Arc::ptr_eq(left, &other.whereabouts)));
        drop(other);
        assert_eq!(count(), 0);
    }

    #[tokio::test]
    async fn a_connection_is_unused_since_its_last_stream() {
        let connection = connection();
        let is_unused_for = |limit: Duration| {
            let unused = connection.streams.unused_for(move || limit);
            tokio::time::timeout(Duration::ZERO, unused)
        };
        const FOREVER: Duration = Duration::from_hours(1);
        assert!(is_unused_for(Duration::ZERO).await.is_ok());
        assert!(is_unused_for(FOREVER).await.is_err());
        let before = clock::monotonic();
        drop((open(&connection), open(&connection)));
        assert!(connection.streams.open.lock().ended >= before);
    }
}
