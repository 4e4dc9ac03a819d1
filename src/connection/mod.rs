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
//! without a Target to blame. With HTTP/2 the same is done to one stream of the connection, by the session
//! that stands before Pingora's (`http2`).
//!
//! A request pays two stores into memory that only its own thread writes to, and each read of the stream
//! pays a load. A worker's list of connections has a lock, taken when one opens and when it closes; so has
//! a connection's list of streams, taken when a request begins and when it ends.

pub(crate) mod chunks;
mod closing;
mod date;
mod head;
mod http2;
mod idle;
mod list;
mod refusal;
mod socket;
mod stream;
mod whereabouts;

pub use head::{HeadLimits, Protocol};
pub use list::{Connections, Listed, end_exchanges};
pub use refusal::{Reason, Refusal};
pub use socket::ClientSocket;
pub use stream::Guarded;

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};

use http::HeaderValue;
use http::header::TRANSFER_ENCODING;
use parking_lot::Mutex;
use pingora_core::protocols::http::ServerSession;
use pingora_proxy::Session;
use tokio::sync::watch;

use chunks::{BadChunk, Body};
use date::KeptDate;
use http2::GuardedStream;
use whereabouts::Whereabouts;

/// Streams of one connection that a client may give up, beyond those that it lets end: enough for a page that
/// is left while its pictures load.
const GIVEN_UP_LIMIT: u32 = 200;

/// What an exchange runs on: an address of an Upstream, by a number of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place(u32);

/// A client's connection. Relaxed throughout: only its own task reads what it keeps between two reads.
#[derive(Debug)]
pub struct Connection {
    /// Where the exchange under way is, as long as there is one at a time.
    whereabouts: Arc<Whereabouts>,
    /// Where those are that go on at the same time, as with HTTP/2.
    streams: Mutex<Vec<Arc<Whereabouts>>>,
    /// Requests of HTTP/2 so far.
    requests: AtomicU32,
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
    /// One of many at a time, as with HTTP/2.
    Among(Stream),
}

/// A request's part in a connection that many share.
#[derive(Debug)]
pub struct Stream {
    connection: Arc<Connection>,
    whereabouts: Arc<Whereabouts>,
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
            whereabouts: Arc::new(Whereabouts::new(task)),
            streams: Mutex::default(),
            requests: AtomicU32::new(0),
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
    fn count_request(&self) {
        let number = self.requests.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
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
            self.whereabouts.end_everything();
        }
    }

    /// Gets ready for the next request.
    fn await_header(&self) {
        self.has_header.store(false, Ordering::Relaxed);
        self.is_body_due.store(false, Ordering::Relaxed);
        self.is_chunked.store(false, Ordering::Relaxed);
        self.has_date.store(false, Ordering::Relaxed);
    }

    /// Adds the exchanges under way at those places to what was found.
    fn find_exchanges(&self, is_there: impl Fn(Place) -> bool, found: &mut Vec<(Arc<Whereabouts>, u64)>) {
        let mut look_at = |one: &Arc<Whereabouts>| {
            found.extend(one.exchange_at(&is_there).map(|exchange| (one.clone(), exchange)));
        };
        look_at(&self.whereabouts);
        self.streams.lock().iter().for_each(look_at);
    }

    /// Says whether the exchange under way, or with HTTP/2 the whole connection, is to end.
    fn is_ending(&self) -> bool {
        self.whereabouts.is_ending()
    }
}

impl Stream {
    /// Begins another on this connection, served by this task.
    fn open(connection: &Arc<Connection>, task: Waker) -> Self {
        connection.count_request();
        let whereabouts = Arc::new(Whereabouts::new(task));
        connection.streams.lock().push(whereabouts.clone());
        Self {
            connection: connection.clone(),
            whereabouts,
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut streams = self.connection.streams.lock();
        if let Some(at) = streams.iter().position(|one| Arc::ptr_eq(one, &self.whereabouts)) {
            streams.swap_remove(at);
        }
    }
}

impl Exchange {
    /// Takes the part of the request that this session is for, whose header has just been read. With HTTP/2
    /// the session is guarded from here on.
    ///
    /// # Errors
    ///
    /// When the beginning of its body, which came with the header, is not in chunks as it should be.
    pub async fn begin(session: &mut Session) -> Result<Self, BadChunk> {
        let has_body = !session.is_body_empty();
        if session.as_downstream().as_http2().is_some() {
            let Some(connection) = Connection::of(session).cloned() else {
                return Ok(Self::None);
            };
            let task = poll_fn(|ctx| Poll::Ready(ctx.waker().clone())).await;
            let stream = Stream::open(&connection, task);
            guard(session.as_downstream_mut(), &stream);
            return Ok(Self::Among(stream));
        }
        let Some(guarded) = session.as_downstream().stream().and_then(Guarded::of) else {
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
            Self::Alone(connection) | Self::Among(Stream { connection, .. }) => Some(connection),
        }
    }

    fn whereabouts(&self) -> Option<&Whereabouts> {
        match self {
            Self::None => None,
            Self::Alone(connection) => Some(&connection.whereabouts),
            Self::Among(stream) => Some(&stream.whereabouts),
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
        if let Self::Among(stream) = self {
            stream.connection.end_stream(is_given_up && !self.is_ending());
        }
    }

    /// Says that the request is served at this place from now on.
    pub fn move_to(&self, place: Place) {
        if let Some(whereabouts) = self.whereabouts() {
            whereabouts.begin(place);
        }
    }

    /// Says that the request is served nowhere.
    pub fn leave(&self) {
        if let Some(whereabouts) = self.whereabouts() {
            whereabouts.leave();
        }
    }

    /// Says whether the request is being ended from outside.
    pub fn is_ending(&self) -> bool {
        self.whereabouts().is_some_and(Whereabouts::is_ending)
    }
}

/// Puts a guard before a session of HTTP/2.
fn guard(session: &mut ServerSession, stream: &Stream) {
    let nothing = ServerSession::new_custom(Box::new(()));
    *session = match std::mem::replace(session, nothing) {
        ServerSession::H2(session) => {
            let guarded = GuardedStream::new(session, stream.whereabouts.clone());
            ServerSession::new_custom(Box::new(guarded))
        }
        other => other,
    };
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_give_up_so_many_streams_and_no_more() {
        let connection = Arc::new(Connection::new(Waker::noop().clone(), None));
        let stream = Exchange::Among(Stream::open(&connection, Waker::noop().clone()));
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
    fn an_exchange_is_listed_and_somewhere_while_it_lives() {
        let connection = Arc::new(Connection::new(Waker::noop().clone(), None));
        let open = || Exchange::Among(Stream::open(&connection, Waker::noop().clone()));
        let (one, other, alone) = (open(), open(), Exchange::Alone(connection.clone()));
        for (exchange, number) in [(&one, 1), (&other, 2), (&alone, 3)] {
            exchange.move_to(Place::new(number));
        }
        let at = |number: u32| {
            let mut found = Vec::new();
            connection.find_exchanges(|place| place == Place::new(number), &mut found);
            found
        };
        assert_eq!([1, 2, 3, 4].map(|number| at(number).len()), [1, 1, 1, 0]);
        let (whereabouts, exchange) = at(2).remove(0);
        assert!(whereabouts.end(exchange));
        assert!(other.is_ending() && !one.is_ending() && !alone.is_ending());
        drop((one, alone));
        assert_eq!([1, 2, 3].map(|number| at(number).len()), [0, 1, 0]);
        drop(other);
        assert!(connection.streams.lock().is_empty());
    }
}
