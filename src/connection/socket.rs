//! A client's socket, whose writes are gathered: a header and what follows it at once go out together.
//!
//! Pingora's own stream reads the clock whenever it waits, and asks the system when it is dropped.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_util::FutureExt;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// What is gathered at most: a packet.
const WRITE_BUFFER: usize = 1460;

/// A client's socket. Reads are not gathered.
#[derive(Debug)]
pub struct ClientSocket {
    socket: BufWriter<Socket>,
    /// Whose it is: who has connected, or the client that a load balancer tells of.
    digest: Arc<SocketDigest>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Does the same with either kind of socket.
macro_rules! with {
    ($socket:expr, $name:ident => $body:expr) => {
        match $socket {
            Socket::Tcp($name) => $body,
            Socket::Unix($name) => $body,
        }
    };
}

impl ClientSocket {
    /// Gathers the writes to the socket of this peer; one without an address has come by a Unix socket.
    ///
    /// # Errors
    ///
    /// When the system does not let the socket be waited for.
    pub fn new(socket: socket2::Socket, peer: Option<std::net::SocketAddr>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let digest = SocketDigest::from_raw_fd(socket.as_raw_fd());
        // It is new, so its peer has not been found out yet.
        let _ = digest.peer_addr.set(peer.map(SocketAddr::from));
        let socket = match peer {
            Some(_) => {
                socket.set_tcp_nodelay(true)?;
                Socket::Tcp(TcpStream::from_std(socket.into())?)
            }
            None => Socket::Unix(UnixStream::from_std(socket.into())?),
        };
        Ok(Self {
            socket: BufWriter::with_capacity(WRITE_BUFFER, socket),
            digest: Arc::new(digest),
        })
    }

    /// Returns whose it is; `None` where that is a process of this host, by a Unix socket.
    pub fn peer(&self) -> Option<std::net::SocketAddr> {
        self.digest.peer_addr()?.as_inet().copied()
    }

    /// Takes it for one between these two, as a load balancer says that it is.
    pub fn set_ends(&mut self, client: std::net::SocketAddr, server: std::net::SocketAddr) {
        let digest = SocketDigest::from_raw_fd(self.id());
        // Both are new, so that neither has been found out yet.
        let _ = digest.peer_addr.set(Some(client.into()));
        let _ = digest.local_addr.set(Some(server.into()));
        self.digest = Arc::new(digest);
    }

    /// Waits until there is something to read, and copies it without reading it. Returns how many bytes: 0 at the end.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        with!(self.socket.get_ref(), socket => {
            let look = || Ok(recv(socket, &mut *bytes, RecvFlags::PEEK)?.0);
            socket.async_io(Interest::READABLE, look).await
        })
    }
}

impl Drop for ClientSocket {
    /// What was written goes out, as far as the system takes it.
    fn drop(&mut self) {
        let _ = self.socket.flush().now_or_never();
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        with!(&mut *self, socket => Pin::new(socket).poll_read(ctx, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        with!(&mut *self, socket => Pin::new(socket).poll_write(ctx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with!(&mut *self, socket => Pin::new(socket).poll_write_vectored(ctx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(&mut *self, socket => Pin::new(socket).poll_shutdown(ctx))
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(self.socket.get_mut()).poll_read(ctx, buffer)
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(mut self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(ctx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(ctx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(ctx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(ctx)
    }
}

#[async_trait]
impl Shutdown for ClientSocket {
    async fn shutdown(&mut self) {
        // What is lost of a stream that is closed is lost.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl Peek for ClientSocket {}

impl UniqueID for ClientSocket {
    fn id(&self) -> UniqueIDType {
        with!(self.socket.get_ref(), socket => socket.as_raw_fd())
    }
}

impl Ssl for ClientSocket {}

impl GetTimingDigest for ClientSocket {
    /// Nothing: nobody asks when a connection was made.
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for ClientSocket {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for ClientSocket {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.digest.clone())
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.digest = Arc::new(digest);
    }
}
