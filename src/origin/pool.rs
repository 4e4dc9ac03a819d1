//! The idle connections of a worker.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ahash::HashMap;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval};

use crate::wait_timer::WaitTimer;

/// How long an idle connection to a Target is kept: shorter than the 75 s that nginx and most
/// servers keep theirs, so that the side that closes is ours and no request meets a closing one.
pub const KEPT_FOR: Duration = Duration::from_secs(60);
/// How often idle connections are looked at: so much longer than they should they may be kept, and so long one that
/// its origin has closed is not closed on this side.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks after which a connection has been kept for long enough.
const LOOKS_KEPT: u64 = KEPT_FOR.as_secs() / LOOK_EVERY.as_secs();

/// Where connections lead that are as good as each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// The Target's address.
    pub address: SocketAddr,
    /// Keeps those of different Upstreams apart, also at one address.
    pub group: u64,
}

/// The idle connections of a worker. Its one thread takes the lock, never for long.
#[derive(Debug)]
pub struct Pool {
    most: usize,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    /// The last of a list was used last.
    by_key: HashMap<PoolKey, Vec<Kept>>,
    count: usize,
    /// Looks so far, by which time is kept.
    looks: u64,
}

/// A connection to an origin.
#[derive(Debug)]
pub(super) struct OriginConnection {
    pub stream: TcpStream,
    /// For its waits, which follow each other over all its tries.
    pub timer: WaitTimer,
}

#[derive(Debug)]
struct Kept {
    connection: OriginConnection,
    /// The look before which it was used.
    since: u64,
}

impl Pool {
    /// Makes a pool that keeps at most so many, those that were used last.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            idle: Mutex::default(),
        })
    }

    /// Takes the connection of this key that was used last and is still open.
    pub(super) fn take(&self, key: PoolKey) -> Option<OriginConnection> {
        self.idle.lock().take(key)
    }

    /// Keeps a connection, for the longest unused one if there are too many.
    pub(super) fn keep(&self, key: PoolKey, connection: OriginConnection) {
        let mut idle = self.idle.lock();
        if idle.count == self.most {
            idle.drop_oldest();
        }
        let since = idle.looks;
        idle.by_key
            .entry(key)
            .or_default()
            .push(Kept { connection, since });
        idle.count += 1;
    }

    /// Closes those that were idle for too long, or that their origin has closed, as long as the worker runs.
    pub async fn watch(self: Arc<Self>) {
        let mut clock = interval(LOOK_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            self.idle.lock().look();
        }
    }
}

impl Idle {
    fn take(&mut self, key: PoolKey) -> Option<OriginConnection> {
        let kept = self.by_key.get_mut(&key)?;
        let mut found = None;
        while found.is_none()
            && let Some(last) = kept.pop()
        {
            self.count -= 1;
            found = last.connection.is_open().then_some(last.connection);
        }
        found
    }

    fn look(&mut self) {
        self.looks += 1;
        let looks = self.looks;
        let is_kept = |kept: &Kept| looks - kept.since <= LOOKS_KEPT && kept.connection.is_open();
        self.by_key.retain(|_, list| {
            list.retain(is_kept);
            !list.is_empty()
        });
        self.count = self.by_key.values().map(Vec::len).sum();
    }

    /// Passes over all keys, which is little beside a connection that is made anew.
    fn drop_oldest(&mut self) {
        let lists = self.by_key.values_mut().filter(|list| !list.is_empty());
        if let Some(list) = lists.min_by_key(|list| list[0].since) {
            list.remove(0);
            self.count -= 1;
        }
    }
}

impl OriginConnection {
    /// Says whether nothing has come: an end, or what no origin has to say. A call to the system only where
    /// something has.
    pub fn is_open(&self) -> bool {
        let outcome = self.stream.try_read(&mut [0]);
        outcome.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl From<TcpStream> for OriginConnection {
    fn from(stream: TcpStream) -> Self {
        Self {
            stream,
            timer: WaitTimer::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// An origin that nobody serves: the connections to it in the order that they were made.
    struct Origin(TcpListener);

    impl Origin {
        fn new() -> Self {
            Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
        }

        fn key(&self, group: u64) -> PoolKey {
            let address = self.0.local_addr().unwrap();
            PoolKey { address, group }
        }

        /// Returns both ends of a connection, and the port that tells it from others.
        async fn connect(&self) -> (OriginConnection, std::net::TcpStream, u16) {
            let near = TcpStream::connect(self.0.local_addr().unwrap()).await.unwrap();
            let (far, _) = self.0.accept().unwrap();
            let port = near.local_addr().unwrap().port();
            (near.into(), far, port)
        }
    }

    fn take(pool: &Pool, key: PoolKey) -> Option<u16> {
        let connection = pool.take(key)?;
        Some(connection.stream.local_addr().unwrap().port())
    }

    fn count(pool: &Pool) -> usize {
        let idle = pool.idle.lock();
        let listed = idle.by_key.values().map(Vec::len).sum();
        assert_eq!(idle.count, listed);
        listed
    }

    #[tokio::test]
    async fn what_was_used_last_is_taken_first_and_only_under_its_key() {
        let (pool, origin) = (Pool::new(8), Origin::new());
        let (one, _far_one, first) = origin.connect().await;
        let (two, _far_two, second) = origin.connect().await;
        pool.keep(origin.key(1), one);
        pool.keep(origin.key(1), two);
        assert_eq!(take(&pool, origin.key(2)), None);
        assert_eq!(take(&pool, Origin::new().key(1)), None);
        assert_eq!(take(&pool, origin.key(1)), Some(second));
        assert_eq!(take(&pool, origin.key(1)), Some(first));
        assert_eq!(take(&pool, origin.key(1)), None);
        assert_eq!(count(&pool), 0);
    }

    #[tokio::test]
    async fn the_longest_unused_gives_way_to_one_too_many() {
        let (pool, origin) = (Pool::new(2), Origin::new());
        let mut ports = Vec::new();
        let mut ends = Vec::new();
        for group in 1..=3 {
            let (near, far, port) = origin.connect().await;
            pool.keep(origin.key(group), near);
            pool.idle.lock().look();
            ports.push(port);
            ends.push(far);
        }
        assert_eq!(count(&pool), 2);
        assert_eq!(take(&pool, origin.key(1)), None);
        assert_eq!(take(&pool, origin.key(2)), Some(ports[1]));
        assert_eq!(take(&pool, origin.key(3)), Some(ports[2]));
    }

    #[tokio::test]
    async fn the_longest_unused_of_one_key_is_the_first_of_its_list() {
        let (pool, origin) = (Pool::new(2), Origin::new());
        let mut ports = Vec::new();
        let mut ends = Vec::new();
        for _ in 0..3 {
            let (near, far, port) = origin.connect().await;
            pool.keep(origin.key(1), near);
            ports.push(port);
            ends.push(far);
        }
        assert_eq!(take(&pool, origin.key(1)), Some(ports[2]));
        assert_eq!(take(&pool, origin.key(1)), Some(ports[1]));
        assert_eq!(count(&pool), 0);
    }

    #[tokio::test]
    async fn it_is_kept_for_its_time_and_no_longer() {
        let (pool, origin) = (Pool::new(8), Origin::new());
        let (near, far, _) = origin.connect().await;
        pool.keep(origin.key(1), near);
        for _ in 0..LOOKS_KEPT {
            pool.idle.lock().look();
        }
        assert_eq!(count(&pool), 1);
        pool.idle.lock().look();
        assert_eq!(count(&pool), 0);
        assert!(pool.idle.lock().by_key.is_empty());
        assert_eq!(far.peek(&mut [0]).unwrap(), 0, "the origin sees its end");
    }

    #[tokio::test]
    async fn one_that_was_closed_or_says_something_is_neither_taken_nor_kept() {
        let (pool, origin) = (Pool::new(8), Origin::new());
        for says in [&b""[..], b"x"] {
            let (open, _far_open, port) = origin.connect().await;
            let (spent, mut far, _) = origin.connect().await;
            match says {
                [] => drop(far),
                _ => far.write_all(says).unwrap(),
            }
            spent.stream.readable().await.unwrap();
            pool.keep(origin.key(1), open);
            pool.keep(origin.key(1), spent);
            assert_eq!(take(&pool, origin.key(1)), Some(port));
            assert_eq!(count(&pool), 0);

            let (spent, far, _) = origin.connect().await;
            drop(far);
            spent.stream.readable().await.unwrap();
            pool.keep(origin.key(1), spent);
            pool.idle.lock().look();
            assert_eq!(count(&pool), 0);
        }
    }
}
