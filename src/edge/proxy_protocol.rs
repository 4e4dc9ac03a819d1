//! The PROXY protocol: a load balancer's word on whose connection it is, ahead of everything else on it.
//!
//! Versions 1 and 2 of HAProxy's specification
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>). A listener on which it is spoken takes no
//! connection without it, as the specification asks: whoever could leave it out could choose to be taken for
//! the load balancer. For the same reason only those are listened to whom `server.trusted_ips` holds.

use std::io;
use std::net::SocketAddr;

use ipnet::IpNet;
use ppp::{v1, v2};
use tokio::io::AsyncReadExt;

use crate::connection::ClientSocket;

/// The longest header of version 1, with its end of line.
const TEXT_LIMIT: usize = 107;
/// What a header of version 2 begins with, and where its length stands.
const BINARY_START: usize = 16;
/// Bytes of a header of version 2 at most: addresses, and room for what else cloud providers put there.
const BINARY_LIMIT: usize = 4096;

/// Why a connection is closed before anything was said on it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Distrust {
    /// The other end is not one of `server.trusted_ips`.
    #[error("{0} may not speak the PROXY protocol: it is not in server.trusted_ips")]
    Stranger(String),
    /// There is no such header, or not all of one.
    #[error("no header of the PROXY protocol: {0}")]
    Malformed(#[from] io::Error),
}

/// The two ends of a client's connection; `None` where the load balancer speaks for itself, as in a health
/// check, or does not know.
type Ends = Option<(SocketAddr, SocketAddr)>;

/// Reads the header off a socket and takes its addresses for the socket's own. The other end may also be a
/// Unix socket, which whoever owns the folder has let in.
pub(super) async fn take_header(socket: &mut ClientSocket, trusted: &[IpNet]) -> Result<(), Distrust> {
    if let Some(peer) = socket.peer().map(|peer| peer.ip().to_canonical())
        && !trusted.iter().any(|network| network.contains(&peer))
    {
        return Err(Distrust::Stranger(peer.to_string()));
    }
    if let Some((client, server)) = read_header(socket).await? {
        socket.set_ends(client, server);
    }
    Ok(())
}

/// The two ends, which both versions and both families name alike in types of their own.
macro_rules! inet {
    ($ends:ident) => {
        Some((
            ($ends.source_address, $ends.source_port).into(),
            ($ends.destination_address, $ends.destination_port).into(),
        ))
    };
}

/// Reads no more than the header: what follows it is the client's.
async fn read_header(socket: &mut ClientSocket) -> io::Result<Ends> {
    let mut header = vec![socket.read_u8().await?];
    match header[0] {
        b'P' => {
            read_line(socket, &mut header).await?;
            let header = v1::Header::try_from(&*header).map_err(bad)?;
            Ok(match header.addresses {
                v1::Addresses::Unknown => None,
                v1::Addresses::Tcp4(ends) => inet!(ends),
                v1::Addresses::Tcp6(ends) => inet!(ends),
            })
        }
        b'\r' => {
            header.resize(BINARY_START, 0);
            socket.read_exact(&mut header[1..]).await?;
            let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
            if BINARY_START + length > BINARY_LIMIT {
                return Err(bad("it is longer than 4096 bytes"));
            }
            header.resize(BINARY_START + length, 0);
            socket.read_exact(&mut header[BINARY_START..]).await?;
            let header = v2::Header::try_from(&*header).map_err(bad)?;
            Ok(match (header.command, header.addresses) {
                (v2::Command::Proxy, v2::Addresses::IPv4(ends)) => inet!(ends),
                (v2::Command::Proxy, v2::Addresses::IPv6(ends)) => inet!(ends),
                _ => None,
            })
        }
        _ => Err(bad("it begins with something else")),
    }
}

/// Reads the rest of a line. Where it ends is seen before it is read.
async fn read_line(socket: &mut ClientSocket, line: &mut Vec<u8>) -> io::Result<()> {
    let mut next = [0; TEXT_LIMIT];
    while line.last() != Some(&b'\n') {
        let room = TEXT_LIMIT - line.len();
        if room == 0 {
            return Err(bad("the line is longer than 107 bytes"));
        }
        let count = socket.peek(&mut next[..room]).await?;
        let count = memchr::memchr(b'\n', &next[..count]).map_or(count, |at| at + 1);
        // At the end of the stream one byte is missing.
        let part = &mut next[..count.max(1)];
        socket.read_exact(part).await?;
        line.extend_from_slice(part);
    }
    Ok(())
}

fn bad(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, cause)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use futures_util::poll;
    use socket2::{Domain, Socket, Type};

    use super::*;

    const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

    /// Returns a client's socket and the load balancer's end of it.
    fn connection() -> (ClientSocket, Socket) {
        let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
        (ClientSocket::new(near, None).unwrap(), far)
    }

    /// Reads a header with a request behind it, which is to be left alone.
    async fn read(header: &[u8]) -> Result<Ends, io::ErrorKind> {
        let (mut socket, mut far) = connection();
        far.write_all(&[header, b"GET / HTTP/1.1\r\n"].concat()).unwrap();
        drop(far);
        let ends = read_header(&mut socket).await.map_err(|error| error.kind())?;
        let mut rest = String::new();
        socket.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "GET / HTTP/1.1\r\n");
        Ok(ends)
    }

    fn ends(client: &str, server: &str) -> Result<Ends, io::ErrorKind> {
        Ok(Some((client.parse().unwrap(), server.parse().unwrap())))
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn a_line_of_version_1_names_both_ends() {
        assert_eq!(
            read(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n").await,
            ends("192.0.2.1:56324", "198.51.100.2:443")
        );
        assert_eq!(
            read(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n").await,
            ends("[2001:db8::1]:1", "[2001:db8::2]:65535")
        );
        assert_eq!(read(b"PROXY UNKNOWN\r\n").await, Ok(None));
        assert_eq!(read(b"PROXY UNKNOWN ::1 ::1 1 2\r\n").await, Ok(None));
    }

    #[tokio::test]
    async fn a_header_of_version_2_names_both_ends() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0, 80, 1, 187];
        assert_eq!(
            read(&binary(1, 0x11, &v4)).await,
            ends("192.0.2.1:80", "198.51.100.2:443")
        );
        // What else is said is passed over: a type, two bytes of length, a value.
        let with_more = [&v4[..], &[0x04, 0, 2, 9, 9]].concat();
        assert_eq!(
            read(&binary(1, 0x11, &with_more)).await,
            ends("192.0.2.1:80", "198.51.100.2:443")
        );
        let mut v6 = [0; 36];
        (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 5, 6);
        assert_eq!(read(&binary(1, 0x21, &v6)).await, ends("[::1]:5", "[::2]:6"));
        assert_eq!(read(&binary(0, 0x00, &[])).await, Ok(None), "a health check");
        assert_eq!(
            read(&binary(0, 0x11, &v4)).await,
            Ok(None),
            "its addresses are to be ignored"
        );
        assert_eq!(read(&binary(1, 0x00, &[])).await, Ok(None));
    }

    #[tokio::test]
    async fn what_is_no_header_is_an_error() {
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200], b"\r\n"].concat();
        let headers: [&[u8]; 9] = [
            b"GET / HTTP/1.1\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 70000\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n",
            b"POST / HTTP/1.1\r\n",
            &long,
            &binary(1, 0x11, &[1, 2, 3]),
            &binary(1, 0x11, &[0; 5000]),
            &binary(7, 0x11, &[0; 12]),
        ];
        for header in headers {
            assert_eq!(
                read(header).await,
                Err(io::ErrorKind::InvalidData),
                "{}",
                header.escape_ascii()
            );
        }
    }

    #[tokio::test]
    async fn a_header_may_come_in_pieces_and_has_to_come_whole() {
        let v4 = binary(1, 0x11, &[192, 0, 2, 1, 198, 51, 100, 2, 219, 4, 1, 187]);
        for header in [b"PROXY TCP4 192.0.2.1 198.51.100.2 56068 443\r\n", &v4[..]] {
            for size in [1, 2, 7, 20] {
                let (mut socket, mut far) = connection();
                let mut reading = Box::pin(read_header(&mut socket));
                let mut pieces = header.chunks(size).peekable();
                while let Some(piece) = pieces.next() {
                    far.write_all(piece).unwrap();
                    if pieces.peek().is_some() {
                        assert!(poll!(&mut reading).is_pending());
                        // Lets the runtime hear of it.
                        tokio::task::yield_now().await;
                    }
                }
                let read = reading.await.map_err(|error| error.kind());
                assert_eq!(read, ends("192.0.2.1:56068", "198.51.100.2:443"));
            }
            for count in 0..header.len() {
                let (mut socket, mut far) = connection();
                far.write_all(&header[..count]).unwrap();
                drop(far);
                let read = read_header(&mut socket).await;
                assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            }
        }
    }
}
