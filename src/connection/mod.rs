//! A client's connection below HTTP: what its bytes must keep to, which exchange is under way on it, and
//! how that is ended from outside.
//!
//! Pingora reads a request's header, and shakes hands for HTTP/2, before any hook of the proxy runs, with
//! a limit for each read but none for the whole, and answers what it cannot read without anybody being
//! told. So a deadline for the header, a strict reading of chunks, the answer to a malformed request and
//! its count are here, in the [`Guarded`] stream between the socket and Pingora.
//!
//! An exchange that lasts is idle most of the time: a WebSocket, a stream of events, an answer that does
//! not come. No hook of the proxy runs then, so nothing would look at a flag. What ends such an exchange
//! is its [`Guarded`] stream, which says that the client is gone, and a wake-up of the task that waits
//! for it. Everything after that goes as when a client hangs up: with a line in the access log, and
//! without a Target to blame.
//!
//! A request pays two stores into memory that only its own thread writes to, and each read of the stream
//! pays a load. A worker's list of connections has a lock, taken when one opens and when it closes.

pub(crate) mod chunks;
mod closing;
mod date;
mod head;
mod idle;
mod list;
mod refusal;
mod stream;

pub use head::{HeadLimits, Protocol};
pub use list::{Connections, Listed, end_exchanges};
pub use refusal::{Reason, Refusal};
pub use stream::Guarded;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use http::HeaderValue;
use http::header::TRANSFER_ENCODING;
use parking_lot::Mutex;
use pingora_proxy::Session;
use tokio::sync::watch;

use chunks::{BadChunk, Body};
use date::KeptDate;

/// Streams of one connection that a client may give up, beyond those that it lets end: enough for a page that
/// is left while its pictures load.
const GIVEN_UP_LIMIT: u32 = 200;
/// The exchange that a whole connection is, when all on it is to end.
const EVERYTHING: u64 = u64::MAX;

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
    /// Exchanges so far. Alone on the connection, its own task counts them; among many, each counts itself.
    exchanges: AtomicU32,
    /// The task that serves the connection.
    task: Waker,
    /// The name that the client asked for in its TLS handshake, empty if none; `None` without TLS.
    server_name: Option<Box<str>>,
    /// The proxy has the header of the request under way.
    has_header: AtomicBool,
    /// The client may still be sending the body of the request under way.
    is_body_due: AtomicBool,
    /// The body of the request under way comes in chunks, which [`Connection::body`] follows.
    is_chunked: AtomicBool,
    body: Mutex<Body>,
    /// There is a date to be put in place.
    has_date: AtomicBool,
    date: Mutex<Option<KeptDate>>,
    refusal: OnceLock<Refusal>,
    /// Streams that the client gave up and that no other has made good for.
    given_up: AtomicU32,
    /// With HTTP/2, what ends the connection in good order: no further streams, then no more of it.
    goodbye: OnceLock<Goodbye>,
    /// Written for the first request.
    ends: OnceLock<Ends>,
}

/// Both ends of a connection, as values of fields.
#[derive(Debug)]
pub struct Ends {
    /// Address of the client; `None` by a socket without addresses.
    pub peer: Option<HeaderValue>,
    /// Port that the client came to.
    pub port: HeaderValue,
}

#[derive(Debug)]
struct Goodbye {
    signal: watch::Sender<bool>,
    /// Requests after which it is said.
    limit: u32,
}

/// A request's part in its connection: says where the request is served, while this lives.
#[derive(Debug, Default)]
pub enum Exchange {
    /// On no connection of a client's.
    #[default]
    None,
    /// Alone on its connection for now, as with HTTP/1.
    Alone(Arc<Connection>),
    /// One of many at a time, as with HTTP/2: such a request ends by itself only.
    Among(Arc<Connection>),
}

impl Place {
    /// Makes a place of a number that no other has and that is not 0.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }
}

impl Connection {
    fn new(task: Waker, server_name: Option<Box<str>>) -> Self {
        Self {
            exchange: AtomicU64::new(0),
            ending: AtomicU64::new(0),
            exchanges: AtomicU32::new(0),
            task,
            server_name,
            has_header: AtomicBool::new(false),
            is_body_due: AtomicBool::new(false),
            is_chunked: AtomicBool::new(false),
            body: Mutex::default(),
            has_date: AtomicBool::new(false),
            date: Mutex::default(),
            refusal: OnceLock::new(),
            given_up: AtomicU32::new(0),
            goodbye: OnceLock::new(),
            ends: OnceLock::new(),
        }
    }

    /// Returns the connection that this session is on. Costs a look at the stream, or with HTTP/2, where a
    /// session has none, at what the stream left with its connection.
    pub fn of(session: &Session) -> Option<&Arc<Self>> {
        match session.as_downstream().stream() {
            Some(stream) => Some(Guarded::of(stream)?.connection()),
            None => stream::connection_of(session.digest()?),
        }
    }

    /// Returns why a request on it was refused before it was one; at most one is, since it closes.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.get()
    }

    /// Returns both ends as values of fields, which `write` writes for the first request.
    pub fn ends(&self, write: impl FnOnce() -> Ends) -> &Ends {
        self.ends.get_or_init(write)
    }

    /// Counts requests of HTTP/2 from now on; returns what says goodbye to the client after `limit` of them.
    pub fn count_requests(&self, limit: u32) -> watch::Receiver<bool> {
        let goodbye = self.goodbye.get_or_init(|| Goodbye {
            signal: watch::Sender::new(false),
            limit,
        });
        goodbye.signal.subscribe()
    }

    /// Ends a connection of HTTP/2 in good order.
    pub fn say_goodbye(&self) {
        if let Some(goodbye) = self.goodbye.get() {
            goodbye.signal.send_replace(true);
        }
    }

    /// Counts a request that is one of many at a time. Those that come until the client has heard the goodbye
    /// are served.
    fn begin_among(&self) {
        let number = self.exchanges.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if self.goodbye.get().is_some_and(|goodbye| goodbye.limit == number) {
            self.say_goodbye();
        }
    }

    /// Counts a stream of HTTP/2 that is over, and closes the connection once the client has given up too
    /// many: each costs more here than there, and none counts against the limit of open streams
    /// (CVE-2023-44487). A stream that ends well makes good for one that did not.
    fn end_stream(&self, is_given_up: bool) {
        let given_up = match is_given_up {
            true => self.given_up.fetch_add(1, Ordering::Relaxed) + 1,
            false => {
                let less = |count: u32| count.checked_sub(1);
                let _ = self
                    .given_up
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
                return;
            }
        };
        if given_up > GIVEN_UP_LIMIT {
            self.exchange.store(EVERYTHING, Ordering::Relaxed);
            self.end(EVERYTHING);
        }
    }

    /// Gets ready for the next request.
    fn await_header(&self) {
        self.has_header.store(false, Ordering::Relaxed);
        self.is_body_due.store(false, Ordering::Relaxed);
        self.is_chunked.store(false, Ordering::Relaxed);
        self.has_date.store(false, Ordering::Relaxed);
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
    /// Takes the part of the request that this session is for, whose header has just been read.
    ///
    /// # Errors
    ///
    /// When the beginning of its body, which came with the header, is not in chunks as it should be.
    pub fn begin(session: &mut Session) -> Result<Self, BadChunk> {
        let has_body = !session.is_body_empty();
        let Some(stream) = session.as_downstream().stream() else {
            let Some(connection) = Connection::of(session) else {
                return Ok(Self::None);
            };
            connection.begin_among();
            return Ok(Self::Among(connection.clone()));
        };
        let Some(guarded) = Guarded::of(stream) else {
            return Ok(Self::None);
        };
        let connection = guarded.connection();
        connection.has_header.store(true, Ordering::Relaxed);
        if has_body {
            connection.is_body_due.store(true, Ordering::Relaxed);
        }
        if has_body && session.req_header().headers.contains_key(TRANSFER_ENCODING) {
            connection.is_chunked.store(true, Ordering::Relaxed);
            let mut body = connection.body.lock();
            *body = Body::default();
            body.follow(guarded.surplus())?;
        }
        Ok(Self::Alone(connection.clone()))
    }

    fn alone(&self) -> Option<&Connection> {
        match self {
            Self::Alone(connection) => Some(connection),
            Self::None | Self::Among(_) => None,
        }
    }

    /// Returns the connection that the request is on.
    pub fn connection(&self) -> Option<&Connection> {
        match self {
            Self::None => None,
            Self::Alone(connection) | Self::Among(connection) => Some(connection),
        }
    }

    /// Returns the name that the client asked for in its TLS handshake, empty if none; `None` without TLS.
    pub fn server_name(&self) -> Option<&str> {
        self.connection()?.server_name.as_deref()
    }

    /// Says that the client may send from now on what is no request: it has changed the protocol.
    pub fn begin_tunnel(&self) {
        if let Some(connection) = self.alone() {
            connection.is_body_due.store(true, Ordering::Relaxed);
        }
    }

    /// Says that the client has sent the whole body.
    pub fn end_body(&self) {
        if let Some(connection) = self.alone() {
            connection.is_body_due.store(false, Ordering::Relaxed);
        }
    }

    /// Keeps an origin's date for the answer whose header is about to be written.
    pub fn keep_date(&self, date: HeaderValue) {
        if let Some(connection) = self.alone() {
            let date = KeptDate::new(date);
            connection.has_date.store(date.is_some(), Ordering::Relaxed);
            *connection.date.lock() = date;
        }
    }

    /// Says whether the client broke the rules of chunks.
    pub fn is_body_malformed(&self) -> bool {
        let Some(connection) = self.alone() else {
            return false;
        };
        connection.is_chunked.load(Ordering::Relaxed) && connection.body.lock().is_malformed()
    }

    /// Says how the request ended: of many at a time, those that the client gave up are limited.
    pub fn end(&self, is_given_up: bool) {
        if let Self::Among(connection) = self {
            connection.end_stream(is_given_up);
        }
    }

    /// Says that the request is served at this place from now on.
    pub fn move_to(&self, place: Place) {
        if let Some(connection) = self.alone() {
            connection.begin(place);
        }
    }

    /// Says that the request is served nowhere.
    pub fn leave(&self) {
        if let Some(connection) = self.alone() {
            connection.exchange.store(0, Ordering::Relaxed);
        }
    }

    /// Says whether the request is being ended from outside.
    pub fn is_ending(&self) -> bool {
        self.alone().is_some_and(Connection::is_ending)
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
        let connection = Arc::new(Connection::new(Waker::noop().clone(), None));
        let exchange = Exchange::Alone(connection.clone());
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
    fn a_client_may_give_up_so_many_streams_and_no_more() {
        let connection = Arc::new(Connection::new(Waker::noop().clone(), None));
        let stream = Exchange::Among(connection.clone());
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
    fn an_exchange_that_ended_by_itself_takes_no_other_along() {
        let connection = Arc::new(Connection::new(Waker::noop().clone(), None));
        let first = Exchange::Alone(connection.clone());
        first.move_to(BLUE);
        let seen = exchange_at(&connection, BLUE).unwrap();
        drop(first);
        // Also not one at the same place.
        let second = Exchange::Alone(connection.clone());
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
