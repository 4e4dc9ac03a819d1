//! A client's connection as others see it: which exchange is under way on it, and how that is ended
//! from outside.
//!
//! An exchange that lasts is idle most of the time: a WebSocket, a stream of events, an answer that does
//! not come. No hook of the proxy runs then, so nothing would look at a flag. What ends such an exchange
//! is its [`Guarded`] stream, which says that the client is gone, and a wake-up of the task that waits
//! for it. Everything after that goes as when a client hangs up: with a line in the access log, and
//! without a Target to blame.
//!
//! A request pays two stores into memory that only its own thread writes to, and each read of the stream
//! pays a load. A worker's list of connections has a lock, taken when one opens and when it closes.

mod list;
mod stream;

pub use list::{Connections, Listed, end_exchanges};
pub use stream::Guarded;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::Waker;

use pingora_proxy::Session;

/// What an exchange runs on: an address of an Upstream, by a number of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place(u32);

/// A client's connection. Relaxed throughout: the numbers are all there is to agree on, and the task
/// reads them after the wake-up that follows them.
#[derive(Debug)]
pub struct Connection {
    /// The exchange under way, by its place and its number on this connection; 0 while there is none.
    exchange: AtomicU64,
    /// The exchange that is to end: in full, so that one which has ended by itself takes no other along.
    ending: AtomicU64,
    /// Exchanges so far; its own task alone counts.
    exchanges: AtomicU32,
    /// The task that serves the connection.
    task: Waker,
}

/// A request's part in its connection: says where the request is served, while this lives.
#[derive(Debug, Default)]
pub struct Exchange(Option<Arc<Connection>>);

impl Place {
    /// Makes a place of a number that no other has and that is not 0.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }
}

impl Connection {
    fn new(task: Waker) -> Self {
        Self {
            exchange: AtomicU64::new(0),
            ending: AtomicU64::new(0),
            exchanges: AtomicU32::new(0),
            task,
        }
    }

    /// Says that an exchange begins at this place, and ended where it was before.
    fn begin(&self, place: Place) {
        let number = self.exchanges.load(Ordering::Relaxed).wrapping_add(1);
        self.exchanges.store(number, Ordering::Relaxed);
        let exchange = u64::from(place.0) << 32 | u64::from(number);
        self.exchange.store(exchange, Ordering::Relaxed);
    }

    /// Returns the exchange under way, if its place is one of those.
    fn exchange_at(&self, is_there: impl Fn(Place) -> bool) -> Option<u64> {
        let exchange = self.exchange.load(Ordering::Relaxed);
        let place = Place((exchange >> 32) as u32);
        (exchange != 0 && is_there(place)).then_some(exchange)
    }

    /// Ends an exchange unless it has ended by itself; says whether nobody has before.
    fn end(&self, exchange: u64) -> bool {
        let is_first = self.ending.swap(exchange, Ordering::Relaxed) != exchange;
        self.task.wake_by_ref();
        is_first
    }

    /// Says whether the exchange under way is to end.
    fn is_ending(&self) -> bool {
        let ending = self.ending.load(Ordering::Relaxed);
        ending != 0 && ending == self.exchange.load(Ordering::Relaxed)
    }
}

impl Exchange {
    /// Takes the part of the request that this session is for. With HTTP/2, where a connection has many,
    /// there is none: such a request ends by itself only.
    pub fn of(session: &Session) -> Self {
        let stream = session.as_downstream().stream();
        let guarded = stream.and_then(|stream| (**stream).as_any().downcast_ref::<Guarded>());
        Self(guarded.map(|stream| stream.connection().clone()))
    }

    /// Says that the request is served at this place from now on.
    pub fn move_to(&self, place: Place) {
        if let Some(connection) = &self.0 {
            connection.begin(place);
        }
    }

    /// Says that the request is served nowhere.
    pub fn leave(&self) {
        if let Some(connection) = &self.0 {
            connection.exchange.store(0, Ordering::Relaxed);
        }
    }

    /// Says whether the request is being ended from outside.
    pub fn is_ending(&self) -> bool {
        self.0.as_ref().is_some_and(|connection| connection.is_ending())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLUE: Place = Place::new(1);
    const GREEN: Place = Place::new(2);

    fn exchange_at(connection: &Connection, place: Place) -> Option<u64> {
        connection.exchange_at(|one| one == place)
    }

    #[test]
    fn an_exchange_is_where_it_was_moved_to_last() {
        let connection = Arc::new(Connection::new(Waker::noop().clone()));
        let exchange = Exchange(Some(connection.clone()));
        assert_eq!(exchange_at(&connection, BLUE), None);
        exchange.move_to(BLUE);
        assert!(exchange_at(&connection, BLUE).is_some());
        exchange.move_to(GREEN);
        assert_eq!(exchange_at(&connection, BLUE), None);
        assert!(exchange_at(&connection, GREEN).is_some());
        drop(exchange);
        assert_eq!(exchange_at(&connection, GREEN), None);
    }

    #[test]
    fn an_exchange_that_ended_by_itself_takes_no_other_along() {
        let connection = Arc::new(Connection::new(Waker::noop().clone()));
        let first = Exchange(Some(connection.clone()));
        first.move_to(BLUE);
        let seen = exchange_at(&connection, BLUE).unwrap();
        drop(first);
        // Also not one at the same place.
        let second = Exchange(Some(connection.clone()));
        second.move_to(BLUE);
        assert!(connection.end(seen));
        assert!(!second.is_ending());
        assert!(connection.end(exchange_at(&connection, BLUE).unwrap()));
        assert!(second.is_ending());
        assert!(!connection.end(exchange_at(&connection, BLUE).unwrap()));
        second.move_to(GREEN);
        assert!(!second.is_ending());
    }
}
