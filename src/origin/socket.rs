//! A connection to an origin, as Pingora has it for one try.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket};
use pingora_error::ErrorType;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::link::{Link, Writing};
use super::pool::OriginConnection;
use crate::clock;

/// What is gathered at most. A chunk that is longer goes out as it comes, behind its size.
const GATHERED_BYTES: usize = 16 * 1024;

/// A connection to an origin, for one try.
#[derive(Debug)]
pub(super) struct OriginSocket {
    /// `None` once it is back in the pool.
    connection: Option<OriginConnection>,
    link: Arc<Link>,
    /// The header has been written, or waits.
    is_begun: bool,
    /// The header waits, and Pingora has not flushed it yet.
    is_flush_withheld: bool,
    /// What waits, and how much of it is out.
    gathered: Vec<u8>,
    written: usize,
    /// When the present wait for the origin to send, or to take, is over.
    read_end: Option<Instant>,
    write_end: Option<Instant>,
    /// Pingora asked whether it may be kept, and it may.
    is_kept: bool,
}

impl OriginSocket {
    /// Serves one try by this connection.
    pub fn new(connection: OriginConnection, link: Arc<Link>) -> Self {
        Self {
            connection: Some(connection),
            link,
            is_begun: false,
            is_flush_withheld: false,
            gathered: Vec::new(),
            written: 0,
            read_end: None,
            write_end: None,
            is_kept: false,
        }
    }

    fn stream(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.connection().stream)
    }

    fn connection(&mut self) -> &mut OriginConnection {
        self.connection.as_mut().expect("it is there until the end")
    }

    fn gathers(&self, bytes: &[u8]) -> bool {
        self.link.writing == Writing::Gathered && self.gathered.len() + bytes.len() <= GATHERED_BYTES
    }

    /// Gathers the header whose body is at hand; others go out as they come.
    fn poll_write_header(&mut self, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.link.writing == Writing::HeaderWithBody {
            self.is_begun = true;
            self.is_flush_withheld = true;
            self.gathered = bytes.to_vec();
            return Poll::Ready(Ok(bytes.len()));
        }
        let outcome = self.stream().poll_write(ctx, bytes);
        self.is_begun |= outcome.is_ready();
        outcome
    }

    /// Writes what waits, and with it what follows; returns how much of that is out.
    fn poll_write_gathered(&mut self, ctx: &mut Context<'_>, following: &[u8]) -> Poll<io::Result<usize>> {
        let connection = self.connection.as_mut().expect("it is there until the end");
        let mut stream = Pin::new(&mut connection.stream);
        while !self.gathered.is_empty() {
            let rest = &self.gathered[self.written..];
            let both = [IoSlice::new(rest), IoSlice::new(following)];
            let count = ready!(stream.as_mut().poll_write_vectored(ctx, &both))?;
            match count.checked_sub(rest.len()) {
                None if count == 0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                None => self.written += count,
                Some(count) => {
                    self.gathered.clear();
                    self.written = 0;
                    if count > 0 {
                        return Poll::Ready(Ok(count));
                    }
                }
            }
        }
        match following {
            [] => Poll::Ready(Ok(0)),
            _ => stream.poll_write(ctx, following),
        }
    }

    /// Bounds the wait for the origin to take what is written. What it takes lets it have its time to answer anew.
    fn poll_written<T>(
        &mut self,
        ctx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.read_end = None;
            self.write_end = None;
            return outcome;
        }
        let limit = self.link.timeouts.write;
        let end = *self.write_end.get_or_insert_with(|| clock::monotonic() + limit);
        ready!(self.connection().timer.poll(end, ctx));
        Poll::Ready(Err(self.link.note_timeout(ErrorType::WriteTimedout)))
    }
}

impl Drop for OriginSocket {
    fn drop(&mut self) {
        if self.is_kept
            && let Some(connection) = self.connection.take()
        {
            self.link.keep(connection);
        }
    }
}

impl AsyncRead for OriginSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Behind the header Pingora reads into many KiB: one byte is the question whether the connection may be kept.
        if buffer.remaining() == 1 && self.link.is_answered() {
            self.is_kept = self.connection().is_open();
            return Poll::Ready(Ok(()));
        }
        let outcome = self.stream().poll_read(ctx, buffer);
        if outcome.is_ready() {
            self.read_end = None;
            return outcome;
        }
        let limit = self.link.timeouts.read;
        let end = *self.read_end.get_or_insert_with(|| clock::monotonic() + limit);
        ready!(self.connection().timer.poll(end, ctx));
        Poll::Ready(Err(self.link.note_timeout(ErrorType::ReadTimedout)))
    }
}

impl AsyncWrite for OriginSocket {
    fn poll_write(mut self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = match self.is_begun {
            false => self.poll_write_header(ctx, bytes),
            true if self.gathers(bytes) => {
                self.gathered.extend_from_slice(bytes);
                Poll::Ready(Ok(bytes.len()))
            }
            true => self.poll_write_gathered(ctx, bytes),
        };
        self.poll_written(ctx, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.is_flush_withheld) {
            return Poll::Ready(Ok(()));
        }
        let outcome = self.poll_write_gathered(ctx, &[]).map_ok(|_| ());
        self.poll_written(ctx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(ctx)
    }
}

impl VirtualSocket for OriginSocket {
    /// Pingora asks for no delay, which was set when the connection was made.
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => Ok(()),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    use pingora_core::connectors::TransportConnector;
    use pingora_core::protocols::Stream;
    use pingora_core::upstreams::peer::HttpPeer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::origin::{Pool, PoolKey, Timeouts};

    /// How long anything may take before it counts as hanging.
    const HANG_LIMIT: Duration = Duration::from_secs(20);

    /// An origin, and Pingora's way to it.
    struct Setup {
        origin: TcpListener,
        connector: TransportConnector,
        pool: Arc<Pool>,
        timeouts: Timeouts,
    }

    impl Setup {
        fn new() -> Self {
            Self {
                origin: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
                connector: TransportConnector::new(None),
                pool: Pool::new(8),
                timeouts: Timeouts {
                    connect: HANG_LIMIT,
                    read: HANG_LIMIT,
                    write: HANG_LIMIT,
                },
            }
        }

        /// Returns Pingora's stream for a try, and the peer that it was made for.
        async fn connect(&self, writing: Writing) -> (Stream, HttpPeer, Arc<Link>) {
            let address = self.origin.local_addr().unwrap();
            let key = PoolKey { address, group: 0 };
            let link = Link::new(&self.pool, key, self.timeouts, writing);
            let mut peer = HttpPeer::new(address, false, String::new());
            peer.options.custom_l4 = Some(link.clone());
            let (stream, is_reused) = self.connector.get_stream(&peer).await.unwrap();
            assert!(!is_reused, "to Pingora each is new");
            (stream, peer, link)
        }

        fn accept(&self) -> std::net::TcpStream {
            let (far, _) = self.origin.accept().unwrap();
            far.set_nonblocking(true).unwrap();
            far
        }

        fn release(&self, stream: Stream, peer: &HttpPeer) {
            use pingora_core::upstreams::peer::Peer;
            self.connector.release_stream(stream, peer.reuse_hash(), None);
        }
    }

    /// Lets the runtime hear from the system what has happened on its connections.
    async fn hear() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        drop(listener.accept().unwrap());
        near.readable().await.unwrap();
    }

    /// Returns what has come; on a loopback address it has when the write is over.
    fn received(far: &mut std::net::TcpStream) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        let count = match far.read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            outcome => outcome.unwrap(),
        };
        bytes.truncate(count);
        bytes
    }

    #[tokio::test]
    async fn a_connection_is_used_again_after_an_answer_and_only_then() {
        let setup = Setup::new();
        let (stream, peer, link) = setup.connect(Writing::AsItComes).await;
        let first = setup.accept();
        assert!(!link.is_reused());
        link.note_answer();
        setup.release(stream, &peer);

        let (stream, _, link) = setup.connect(Writing::AsItComes).await;
        assert!(link.is_reused());
        link.note_answer();
        drop(stream);
        assert_eq!(first.peek(&mut [0]).unwrap(), 0, "dropped unasked, it is closed");

        let (stream, peer, link) = setup.connect(Writing::AsItComes).await;
        assert!(!link.is_reused());
        let mut second = setup.accept();
        setup.release(stream, &peer);
        assert_eq!(received(&mut second), b"");
        let (_, _, link) = setup.connect(Writing::AsItComes).await;
        assert!(!link.is_reused(), "without an answer it is not kept here");
    }

    #[tokio::test]
    async fn a_connection_that_has_more_to_say_is_not_kept() {
        use std::io::Write;
        for says in [&b""[..], b"x"] {
            let setup = Setup::new();
            let (mut stream, peer, link) = setup.connect(Writing::AsItComes).await;
            let mut far = setup.accept();
            far.write_all(b"answer").unwrap();
            assert_eq!(stream.read(&mut [0; 64]).await.unwrap(), 6);
            link.note_answer();
            match says {
                [] => far.shutdown(std::net::Shutdown::Write).unwrap(),
                _ => far.write_all(says).unwrap(),
            }
            hear().await;
            setup.release(stream, &peer);
            let (_, _, link) = setup.connect(Writing::AsItComes).await;
            assert!(!link.is_reused());
        }
    }

    #[tokio::test]
    async fn one_byte_of_a_header_is_read_as_such() {
        use std::io::Write;
        let setup = Setup::new();
        let (mut stream, _, _) = setup.connect(Writing::AsItComes).await;
        setup.accept().write_all(b"H").unwrap();
        let mut one = [0];
        assert_eq!(stream.read(&mut one).await.unwrap(), 1);
        assert_eq!(&one, b"H");
    }

    #[tokio::test]
    async fn a_header_goes_out_at_once_unless_its_body_is_at_hand() {
        for (writing, expected) in [
            (Writing::AsItComes, [&b"header"[..], b"body", b""]),
            (Writing::Gathered, [b"header", b"", b"body"]),
            (Writing::HeaderWithBody, [b"", b"headerbody", b""]),
        ] {
            let setup = Setup::new();
            let (mut stream, _, _) = setup.connect(writing).await;
            let mut far = setup.accept();
            stream.write_all(b"header").await.unwrap();
            stream.flush().await.unwrap();
            assert_eq!(received(&mut far), expected[0], "{writing:?}");
            stream.write_all(b"body").await.unwrap();
            assert_eq!(received(&mut far), expected[1], "{writing:?}");
            stream.flush().await.unwrap();
            assert_eq!(received(&mut far), expected[2], "{writing:?}");
            stream.write_all(b"more").await.unwrap();
            stream.flush().await.unwrap();
            assert_eq!(received(&mut far), b"more", "{writing:?}");
        }
    }

    #[tokio::test]
    async fn a_chunk_goes_out_with_its_size_and_its_end() {
        let setup = Setup::new();
        let (mut stream, _, _) = setup.connect(Writing::Gathered).await;
        let mut far = setup.accept();
        stream.write_all(b"header").await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(received(&mut far), b"header");
        for part in [&b"4\r\n"[..], b"part", b"\r\n"] {
            stream.write_all(part).await.unwrap();
        }
        assert_eq!(received(&mut far), b"");
        stream.flush().await.unwrap();
        assert_eq!(received(&mut far), b"4\r\npart\r\n");
    }

    /// The error as Pingora makes it of what the stream says.
    fn upstream_error(error: io::Error) -> Box<pingora_error::Error> {
        pingora_error::Error::because(ErrorType::ReadError, "in a test", error).into_up()
    }

    #[tokio::test(start_paused = true)]
    async fn an_origin_that_sends_nothing_for_too_long_has_timed_out() {
        let setup = Setup::new();
        let (mut stream, _, link) = setup.connect(Writing::AsItComes).await;
        let _far = setup.accept();
        stream.write_all(b"header").await.unwrap();
        let mut error = upstream_error(stream.read(&mut [0; 64]).await.unwrap_err());
        link.name_timeout(&mut error);
        assert_eq!(*error.etype(), ErrorType::ReadTimedout);
    }

    #[tokio::test(start_paused = true)]
    async fn an_origin_that_takes_nothing_for_too_long_has_timed_out() {
        for writing in [Writing::AsItComes, Writing::Gathered, Writing::HeaderWithBody] {
            let setup = Setup::new();
            let (mut stream, _, link) = setup.connect(writing).await;
            let _far = setup.accept();
            stream.write_all(b"header").await.unwrap();
            let error = loop {
                if let Err(error) = stream.write_all(&[0; 1 << 20]).await {
                    break error;
                }
            };
            let mut error = upstream_error(error);
            link.name_timeout(&mut error);
            assert_eq!(*error.etype(), ErrorType::WriteTimedout, "{writing:?}");
        }
    }

    #[tokio::test]
    async fn another_error_keeps_its_type() {
        let setup = Setup::new();
        let (mut stream, _, link) = setup.connect(Writing::AsItComes).await;
        drop(setup.accept());
        assert_eq!(stream.read(&mut [0; 64]).await.unwrap(), 0);
        let mut error = upstream_error(io::ErrorKind::ConnectionReset.into());
        link.name_timeout(&mut error);
        assert_eq!(*error.etype(), ErrorType::ReadError);
    }

    /// More than the system takes at once, so that each write is taken in part.
    #[tokio::test]
    async fn what_is_taken_in_part_goes_on_where_it_stopped() {
        const MUCH: usize = 24 << 20;
        let header: Vec<u8> = (0..=u8::MAX).cycle().take(MUCH).collect();
        let body: Vec<u8> = (0..=u8::MAX).rev().cycle().take(MUCH).collect();
        for writing in [Writing::AsItComes, Writing::Gathered, Writing::HeaderWithBody] {
            let setup = Setup::new();
            let (mut stream, _, _) = setup.connect(writing).await;
            let mut far = setup.accept();
            far.set_nonblocking(false).unwrap();
            let reading = std::thread::spawn(move || {
                let mut bytes = Vec::new();
                far.read_to_end(&mut bytes).map(|_| bytes)
            });
            for part in [&header[..], b"small", &body, b"smaller"] {
                stream.write_all(part).await.unwrap();
                stream.flush().await.unwrap();
            }
            drop(stream);
            let expected = [&header[..], b"small", &body, b"smaller"].concat();
            assert!(reading.join().unwrap().unwrap() == expected, "{writing:?}");
        }
    }
}
