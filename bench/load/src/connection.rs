//! One connection: sends a request, reads its answer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};

/// What came of a request, or of a connection without one.
pub(crate) enum Outcome {
    Answered(Answer),
    Failed,
    ClosedIdle,
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) due: Instant,
    pub(crate) status: u16,
    pub(crate) bytes: usize,
    /// Whether the server ends the connection.
    pub(crate) closes: bool,
}

/// A connection with at most one request under way.
pub(crate) struct Connection {
    stream: TcpStream,
    tls: Option<ClientConnection>,
    /// When the request under way was due.
    due: Option<Instant>,
    out: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
    /// The answer's head, once it is there.
    expected: Option<Head>,
    is_ended: bool,
}

#[derive(Clone, Copy)]
struct Head {
    status: u16,
    length: usize,
    closes: bool,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let tls = tls
            .map(|config| ClientConnection::new(config.clone(), address.ip().into()))
            .transpose()
            .map_err(io::Error::other)?;
        Ok(Self {
            stream: TcpStream::from_std(stream),
            tls,
            due: None,
            out: Vec::new(),
            sent: 0,
            input: Vec::new(),
            expected: None,
            is_ended: false,
        })
    }

    pub(crate) fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(crate) fn is_resumed(&self) -> bool {
        let kind = self.tls.as_ref().and_then(|tls| tls.handshake_kind());
        kind == Some(HandshakeKind::Resumed)
    }

    /// Sends a request; during a handshake it waits for its end.
    pub(crate) fn send(&mut self, request: &[u8], due: Instant) -> Option<Outcome> {
        self.due = Some(due);
        self.input.clear();
        self.expected = None;
        self.sent = 0;
        self.out.clear();
        self.out.extend_from_slice(request);
        match self.write() {
            Ok(()) => None,
            Err(_) => Some(Outcome::Failed),
        }
    }

    /// Goes on until there is nothing to do.
    pub(crate) fn on_event(&mut self) -> Option<Outcome> {
        match self.write().and_then(|()| self.read()) {
            Ok(()) => self.answer(),
            Err(_) if self.due.is_none() => Some(Outcome::ClosedIdle),
            Err(_) => Some(Outcome::Failed),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let result = match &mut self.tls {
            Some(tls) => {
                if self.sent < self.out.len() && !tls.is_handshaking() {
                    tls.writer().write_all(&self.out[self.sent..])?;
                    self.sent = self.out.len();
                }
                loop {
                    if !tls.wants_write() {
                        break Ok(());
                    }
                    if let Err(error) = tls.write_tls(&mut self.stream) {
                        break Err(error);
                    }
                }
            }
            None => loop {
                if self.sent == self.out.len() {
                    break Ok(());
                }
                match self.stream.write(&self.out[self.sent..]) {
                    Ok(written) => self.sent += written,
                    Err(error) => break Err(error),
                }
            },
        };
        match result {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }

    /// Reads all there is. An error once the server has closed, unless a whole answer came before.
    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 64 * 1024];
        loop {
            let read = match &mut self.tls {
                Some(tls) => match tls.read_tls(&mut self.stream) {
                    Ok(0) => Ok(0),
                    Ok(read) => {
                        let state = tls.process_new_packets().map_err(io::Error::other)?;
                        let start = self.input.len();
                        self.input.resize(start + state.plaintext_bytes_to_read(), 0);
                        tls.reader().read_exact(&mut self.input[start..])?;
                        self.write()?;
                        Ok(read)
                    }
                    Err(error) => Err(error),
                },
                None => self.stream.read(&mut buffer).inspect(|&read| {
                    self.input.extend_from_slice(&buffer[..read]);
                }),
            };
            match read {
                Ok(0) if self.due.is_some() && self.is_whole() => {
                    self.is_ended = true;
                    return Ok(());
                }
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                // The socket is empty, and epoll tells of what comes later.
                Ok(read) if self.tls.is_none() && read < buffer.len() => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn is_whole(&mut self) -> bool {
        if self.expected.is_none() {
            self.expected = head(&self.input);
        }
        self.expected.is_some_and(|head| self.input.len() >= head.length)
    }

    fn answer(&mut self) -> Option<Outcome> {
        if self.due.is_none() || !self.is_whole() {
            return None;
        }
        let (due, head) = (self.due.take()?, self.expected.take()?);
        let bytes = self.input.len();
        self.input.clear();
        self.out.clear();
        self.sent = 0;
        Some(Outcome::Answered(Answer {
            due,
            status: head.status,
            bytes,
            closes: head.closes || self.is_ended,
        }))
    }
}

/// The head at the start of `input`, if it is whole. Answers have a Content-Length, or no body.
fn head(input: &[u8]) -> Option<Head> {
    let end = input.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&input[..end]).ok()?.to_ascii_lowercase();
    let status = text.get(9..12)?.parse().ok()?;
    let mut length = 0;
    let mut closes = false;
    for line in text.split("\r\n").skip(1) {
        let (name, value) = line.split_once(':')?;
        match name {
            "content-length" => length = value.trim().parse().ok()?,
            "connection" => closes = value.trim() == "close",
            _ => {}
        }
    }
    Some(Head {
        status,
        length: end + 4 + length,
        closes,
    })
}

#[cfg(test)]
mod tests {
    use super::head;

    #[test]
    fn an_answer_ends_with_its_body() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
        let found = head(answer).unwrap();
        assert_eq!(
            (found.status, found.length, found.closes),
            (200, answer.len(), true)
        );
        assert!(head(&answer[..20]).is_none());
    }
}
