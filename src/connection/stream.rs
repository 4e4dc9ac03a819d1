//! A client's stream that keeps to its limits and can be made to end.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::{SslDigest, TlsRef};
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use pingora_timeout::timeout;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::closing::Closing;
use super::date::Piece;
use super::head::{Head, HeadLimits, Protocol};
use super::{Connection, Reason, Refusal};
use crate::clock;
use crate::lifecycle::IDLE_GRACE;
use crate::metrics::metrics;
use crate::wait_timer::WaitTimer;

/// What is read at once while a request is awaited: most headers whole, and of a body as much as Pingora
/// would read with the header.
const PIECE_BYTES: usize = 8 * 1024;

thread_local! {
    /// Where the beginning of a request is read to: one for all connections that wait.
    static PIECE: RefCell<[u8; PIECE_BYTES]> = const { RefCell::new([0; PIECE_BYTES]) };
}

/// A client's stream between the socket, or TLS, and Pingora.
///
/// While the header of a request is awaited it has a deadline and a size, and an answer of Pingora's to one
/// that cannot be read is replaced by our own. A body in chunks is followed. Once the exchange on it is to
/// end it fails: reading at once, writing when it would have to wait, so that a last answer can be given.
#[derive(Debug)]
pub struct Guarded {
    stream: Stream,
    connection: Arc<Connection>,
    protocol: Protocol,
    waiting: WaitTimer,
    /// What was read and Pingora has not got yet. First the header, by which the wait for it ended; then
    /// what came with it and is behind it: the beginning of the body, which is so read in one piece with
    /// what follows, or what a client had no business to send yet.
    ahead: Bytes,
    /// The header that is awaited.
    head: Option<Head>,
    /// The way to the end, once begun.
    closing: Option<Closing>,
}

impl Guarded {
    /// Guards the stream of this connection.
    pub fn new(stream: Stream, connection: Arc<Connection>, protocol: Protocol) -> Self {
        Self {
            stream,
            connection,
            protocol,
            waiting: WaitTimer::default(),
            ahead: Bytes::new(),
            head: None,
            closing: None,
        }
    }

    /// Returns the guarded stream that Pingora knows as this one.
    pub(super) fn of(stream: &Stream) -> Option<&Self> {
        (**stream).as_any().downcast_ref()
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Begins the deadline for a header, or with HTTP/2 for the preface.
    pub fn await_header(&mut self, limits: HeadLimits) {
        self.connection.await_header();
        self.head = Some(Head::new(self.protocol, limits));
    }

    /// Waits until a request begins; says whether one does. Nothing is held meanwhile but the stream
    /// itself, not even a buffer, so an idle connection costs little.
    pub async fn has_request(
        &mut self,
        limit: Duration,
        stopping: Pin<&mut impl Future<Output = ()>>,
    ) -> bool {
        let stream = &mut self.stream;
        let end = clock::monotonic() + limit;
        let began = tokio::select! {
            // What has come is served, also when the proxy stops.
            biased;
            began = poll_fn(|ctx| poll_begin(stream, ctx)) => began,
            () = stopping => match timeout(IDLE_GRACE, poll_fn(|ctx| poll_begin(stream, ctx))).await {
                Ok(began) => began,
                Err(_) => return false,
            },
            () = poll_fn(|ctx| self.waiting.poll(end, ctx)) => return false,
        };
        self.ahead = began.unwrap_or_default();
        !self.ahead.is_empty()
    }

    /// Returns what came with the last header, is behind it, and was not read since.
    pub(super) fn surplus(&self) -> &[u8] {
        &self.ahead
    }

    /// Says whether the client sent more than its request: it is not to send the next one before the answer.
    pub fn is_overread(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Closes it.
    pub async fn close(&mut self) {
        Shutdown::shutdown(self).await;
    }

    fn unless_ending<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match outcome.is_pending() && self.connection.is_ending() {
            true => Poll::Ready(Err(ended())),
            false => outcome,
        }
    }

    /// Says whether a header is awaited; it is not any more once the proxy has it.
    fn is_awaiting_header(&mut self) -> bool {
        if self.head.is_some() && self.connection.has_header.load(Ordering::Relaxed) {
            self.head = None;
        }
        self.head.is_some()
    }

    fn refuse(&self, reason: Reason) {
        if self.connection.refusal.set(Refusal::new(reason)).is_ok() {
            metrics()
                .requests_refused
                .with_label_values(&[reason.label()])
                .inc();
        }
    }

    fn poll_read_head(&mut self, ctx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(head) = &mut self.head else {
            return Poll::Ready(Ok(()));
        };
        if let Some(reason) = head.excess() {
            self.refuse(reason);
            return Poll::Ready(Err(refused()));
        }
        if head.is_malformed() || (head.has_ended() && !self.ahead.is_empty()) {
            return Poll::Ready(Err(refused()));
        }
        let before = buffer.filled().len();
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..count]);
        } else if Pin::new(&mut self.stream).poll_read(ctx, buffer)?.is_pending() {
            ready!(head.poll_deadline(ctx));
            self.refuse(Reason::HeaderTimeout);
            return Poll::Ready(Err(refused()));
        }
        let new = &buffer.filled()[before..];
        let end = head.note(new);
        if head.is_malformed() {
            // Pingora answers nothing to a connection that fails at once. One byte is the beginning of a
            // request, and never the end of one.
            buffer.set_filled(before + 1);
            self.refuse(Reason::Malformed);
            return Poll::Ready(Ok(()));
        }
        let count = end.unwrap_or(new.len());
        if !self.ahead.is_empty() {
            drop(self.ahead.split_to(count));
        } else if count < new.len() {
            self.ahead = Bytes::copy_from_slice(&new[count..]);
        }
        buffer.set_filled(before + count);
        if head.is_whole() {
            self.head = None;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads the beginning of a body, and with it what has come since. Nothing, where no body is due: a
    /// client that goes on to the next request too early is not read any further.
    fn poll_read_surplus(&mut self, ctx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.connection.is_body_due.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let count = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead.split_to(count));
        if buffer.remaining() > 0
            && let Poll::Ready(Err(error)) = self.poll_read_body(ctx, buffer)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read_body(&mut self, ctx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(ctx, buffer))?;
        if self.connection.is_chunked.load(Ordering::Relaxed) {
            let new = &buffer.filled()[before..];
            let mut body = self.connection.body.lock();
            body.follow(new)
                .map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes of an answer's header, with the date that was kept for it.
    fn poll_write_head(&mut self, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        let mut kept = self.connection.date.lock();
        let piece = match kept.as_mut().and_then(|date| date.piece(bytes)) {
            Some(Piece::AsIs(count)) => &bytes[..count],
            Some(Piece::Instead(date)) => date,
            None => {
                self.connection.has_date.store(false, Ordering::Relaxed);
                return stream.poll_write(ctx, bytes);
            }
        };
        let count = ready!(stream.poll_write(ctx, piece))?;
        if let Some(date) = &mut *kept {
            date.wrote(count);
        }
        Poll::Ready(Ok(count))
    }
}

/// Reads the beginning of a request; nothing at the stream's end.
fn poll_begin(stream: &mut Stream, ctx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    PIECE.with_borrow_mut(|piece| {
        let mut piece = ReadBuf::new(piece);
        ready!(Pin::new(stream).poll_read(ctx, &mut piece))?;
        Poll::Ready(Ok(Bytes::copy_from_slice(piece.filled())))
    })
}

pub(super) fn ended() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "closed because its target is out of rotation for longer than target_drain",
    )
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the client's header is refused")
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_awaiting_header() {
            return self.poll_read_head(ctx, buffer);
        }
        if self.connection.is_ending() {
            return Poll::Ready(Err(ended()));
        }
        match self.ahead.is_empty() {
            true => self.poll_read_body(ctx, buffer),
            false => self.poll_read_surplus(ctx, buffer),
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.protocol == Protocol::Http1
            && self.is_awaiting_header()
            && let Some(head) = &self.head
        {
            self.refuse(head.reason_of(bytes));
            return Poll::Ready(Ok(bytes.len()));
        }
        let outcome = match self.connection.has_date.load(Ordering::Relaxed) {
            true => self.poll_write_head(ctx, bytes),
            false => Pin::new(&mut self.stream).poll_write(ctx, bytes),
        };
        self.unless_ending(outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(ctx);
        self.unless_ending(outcome)
    }

    /// Closes in good order: what is left to say, then our end, then what the client still sends.
    fn poll_shutdown(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let connection = &this.connection;
        let protocol = this.protocol;
        let closing = this
            .closing
            .get_or_insert_with(|| Closing::new(connection, protocol));
        let outcome = closing.poll(&mut this.stream, ctx);
        self.unless_ending(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(ctx, slices);
        self.unless_ending(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Guarded {
    async fn shutdown(&mut self) {
        // What is lost of a stream that is closed is lost.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl Peek for Guarded {}

impl UniqueID for Guarded {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for Guarded {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.stream.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        // Pingora would find out by waiting for a preface, without a limit.
        Some(match self.protocol {
            Protocol::Http1 => ALPN::H1,
            Protocol::Http2 => ALPN::H2,
        })
    }
}

impl GetTimingDigest for Guarded {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.stream.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.stream.get_write_pending_time()
    }
}

impl GetProxyDigest for Guarded {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.stream.set_proxy_digest(digest);
    }
}

impl GetSocketDigest for Guarded {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.stream.set_socket_digest(digest);
    }
}
