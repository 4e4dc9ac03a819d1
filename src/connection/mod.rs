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
//! without a Target to blame. With HTTP/2 the same is done to one stream of the connection (`http2`).
//!
//! A request pays two stores into memory that only its own thread writes to, and each read of the stream
//! pays a load. A worker's list of connections has a lock, taken when one opens and when it closes; so has
//! a connection's list of streams, taken when a request begins and when it ends.

pub(crate) mod chunks;
mod closing;
mod date;
mod head;
mod http2;
mod list;
mod refusal;
mod socket;
mod stream;
mod whereabouts;

pub use head::{HeadLimits, Protocol};
pub use http2::{Service as Http2Service, serve_http2};
pub use list::{Connections, Listed, end_exchanges};
pub use refusal::{Reason, Refusal};
pub use socket::ClientSocket;
pub use stream::Guarded;

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};

use http::HeaderValue;
use http::header::TRANSFER_ENCODING;
use parking_lot::Mutex;
use pingora_proxy::Session;

use chunks::{BadChunk, Body};
use date::KeptDate;
use http2::{Stream, Streams};
use whereabouts::Whereabouts;

/// What an exchange runs on: an address of an Upstream, by a number of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place(u32);

/// A client's connection. Relaxed throughout: only its own task reads what it keeps between two reads.
#[derive(Debug)]
pub struct Connection {
    /// Where the exchange under way is, as long as there is one at a time.
    whereabouts: Arc<Whereabouts>,
    /// Those that go on at the same time, as with HTTP/2.
    streams: Streams,
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

/// A request's part in its connection: says where the request is served, while this lives.
#[derive(Debug, Default)]
pub enum Exchange {
    /// On no connection of a client's.
    #[default]
    None,
    /// Alone on its connection for now, as with HTTP/1.
    Alone(Arc<Connection>),
    /// One of many at a time, as with HTTP/2.
    Among(Arc<Stream>),
}

/// Returns what wakes the task that asks.
pub async fn current_task() -> Waker {
    poll_fn(|ctx| Poll::Ready(ctx.waker().clone())).await
}

/// Says whether the beginning of a body of known length has come with the header, and is still to be read.
pub fn is_body_at_hand(session: &Session) -> bool {
    let guarded = session.as_downstream().stream().and_then(Guarded::of);
    guarded.is_some_and(|guarded| {
        let connection = guarded.connection();
        connection.is_body_due.load(Ordering::Relaxed)
            && !connection.is_chunked.load(Ordering::Relaxed)
            && !guarded.surplus().is_empty()
    })
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
            streams: Streams::new(),
            server_name,
            has_header: AtomicBool::new(false),
            is_body_due: AtomicBool::new(false),
            is_chunked: AtomicBool::new(false),
            body: Mutex::default(),
            has_date: AtomicBool::new(false),
            date: Mutex::default(),
            refusal: OnceLock::new(),
            ends: OnceLock::new(),
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
        self.streams.for_each(look_at);
    }

    /// Says whether the exchange under way, or with HTTP/2 the whole connection, is to end.
    fn is_ending(&self) -> bool {
        self.whereabouts.is_ending()
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
            return Ok(Stream::served().map_or(Self::None, Self::Among));
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
            Self::Alone(connection) => Some(connection),
            Self::Among(stream) => Some(&stream.connection),
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
            stream.end(is_given_up && !self.is_ending());
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

impl Drop for Exchange {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_is_listed_and_somewhere_while_it_lives() {
        let connection = Arc::new(Connection::new(Waker::noop().clone(), None));
        let open = || Exchange::Among(Arc::new(Stream::open(&connection, Waker::noop().clone())));
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
    }
}
