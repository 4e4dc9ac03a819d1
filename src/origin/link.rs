//! What a try reaches its origin by.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::ext;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::VirtualSocketStream;
use pingora_error::{Error, ErrorSource, ErrorType, OrErr, Result};
use pingora_timeout::timeout;

use super::pool::{OriginConnection, Pool, PoolKey};
use super::socket::OriginSocket;

/// How long an origin may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To let a connection be made.
    pub connect: Duration,
    /// To send more.
    pub read: Duration,
    /// To take more.
    pub write: Duration,
}

/// How what Pingora writes goes out. It writes and flushes a header by itself, then each part of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// As it comes.
    AsItComes,
    /// The header waits for the body, the beginning of which is at hand: one write for both.
    HeaderWithBody,
    /// What follows the header waits until Pingora flushes it: one write for a chunk, its size and its end.
    Gathered,
}

/// A try's way to its origin: by it Pingora connects, and the proxy's hooks learn how.
#[derive(Debug)]
pub struct Link {
    this: Weak<Self>,
    pool: Arc<Pool>,
    key: PoolKey,
    pub(super) timeouts: Timeouts,
    pub(super) writing: Writing,
    // Relaxed: one task writes and reads them.
    is_reused: AtomicBool,
    is_answered: AtomicBool,
    timeout: OnceLock<ErrorType>,
}

impl Link {
    /// Makes a way to where the key leads, by a connection that is kept in the pool or by a new one.
    pub fn new(pool: &Arc<Pool>, key: PoolKey, timeouts: Timeouts, writing: Writing) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            pool: pool.clone(),
            key,
            timeouts,
            writing,
            is_reused: AtomicBool::new(false),
            is_answered: AtomicBool::new(false),
            timeout: OnceLock::new(),
        })
    }

    /// Says whether the connection had been kept, so that its origin may have closed it meanwhile.
    pub fn is_reused(&self) -> bool {
        self.is_reused.load(Ordering::Relaxed)
    }

    /// Gives an error of the connection its type, if that is that the origin took too long.
    pub fn name_timeout(&self, error: &mut Error) {
        if let Some(timeout) = self.timeout.get()
            && *error.esource() == ErrorSource::Upstream
        {
            error.etype = timeout.clone();
        }
    }

    /// Notes that the final header of the answer has come.
    pub fn note_answer(&self) {
        self.is_answered.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_answered(&self) -> bool {
        self.is_answered.load(Ordering::Relaxed)
    }

    /// Notes that the origin took too long; returns what Pingora is told.
    pub(super) fn note_timeout(&self, timeout: ErrorType) -> io::Error {
        // The first ends the try.
        let _ = self.timeout.set(timeout);
        io::ErrorKind::TimedOut.into()
    }

    /// Keeps the connection for another try.
    pub(super) fn keep(&self, connection: OriginConnection) {
        self.pool.keep(self.key, connection);
    }

    async fn dial(&self) -> Result<OriginConnection> {
        let connecting = ext::connect(&self.key.address, None);
        let stream = timeout(self.timeouts.connect, connecting)
            .await
            .or_err(ErrorType::ConnectTimedout, "while connecting")??;
        stream
            .set_nodelay(true)
            .or_err(ErrorType::ConnectError, "while setting TCP_NODELAY")?;
        Ok(stream.into())
    }
}

#[async_trait]
impl L4Connect for Link {
    async fn connect(&self, _: &SocketAddr) -> Result<Stream> {
        let connection = match self.pool.take(self.key) {
            Some(kept) => {
                self.is_reused.store(true, Ordering::Relaxed);
                kept
            }
            None => self.dial().await?,
        };
        let link = self.this.upgrade().expect("it is alive while it is asked");
        let socket = OriginSocket::new(connection, link);
        Ok(VirtualSocketStream::new(Box::new(socket)).into())
    }
}
