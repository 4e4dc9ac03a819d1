//! The end of a connection.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::{Connection, Protocol};

/// How long and how much is read of what a client goes on sending after the last answer: closing over
/// bytes that were not read resets the connection, and the answer may be lost with it (RFC 9112 §9.6).
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// A connection on its way to the end: a refusal is written, our end is closed, and where the client may be
/// sending it is heard out.
#[derive(Debug)]
pub(super) struct Closing {
    refusal: Vec<u8>,
    written: usize,
    is_closed: bool,
    /// Bytes that may still be read, while the client may be sending.
    left: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Closing {
    /// Begins to close this connection.
    pub fn new(connection: &Connection, protocol: Protocol) -> Self {
        let refusal = connection.refusal().filter(|_| protocol == Protocol::Http1);
        let is_client_sending = refusal.is_some() || connection.is_body_due.load(Ordering::Relaxed);
        Self {
            refusal: refusal.map(|refusal| refusal.to_bytes()).unwrap_or_default(),
            written: 0,
            is_closed: false,
            left: if is_client_sending { LINGER_BYTES } else { 0 },
            deadline: Box::pin(sleep(LINGER_TIME)),
        }
    }

    /// Is ready once everything is done, or there is no time left for it.
    pub fn poll(&mut self, stream: &mut Stream, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_steps(Pin::new(stream), ctx) {
            Poll::Pending => self.deadline.as_mut().poll(ctx).map(Ok),
            done => done,
        }
    }

    fn poll_steps(&mut self, mut stream: Pin<&mut Stream>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.refusal.len() {
            let rest = &self.refusal[self.written..];
            self.written += ready!(stream.as_mut().poll_write(ctx, rest))?;
        }
        if !self.is_closed {
            // Flushes too.
            ready!(stream.as_mut().poll_shutdown(ctx))?;
            self.is_closed = true;
        }
        let mut bytes = [0; 4096];
        while self.left > 0 {
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(stream.as_mut().poll_read(ctx, &mut buffer))?;
            self.left = match buffer.filled().len() {
                0 => 0,
                count => self.left.saturating_sub(count),
            };
        }
        Poll::Ready(Ok(()))
    }
}
