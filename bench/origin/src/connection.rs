//! One connection: reads requests, answers them in order.

use std::io::{self, ErrorKind, IoSlice, Read, Write};

use mio::net::TcpStream;

use crate::answer::Ports;
use crate::request::{Parsed, parse};

/// What becomes of a connection after an event.
#[derive(PartialEq, Eq)]
pub(crate) enum Next {
    /// It waits for the next event.
    Keep,
    /// It is over.
    Close,
}

/// A connection and what is not yet sent on it.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Index of the port that it came in on.
    port: usize,
    /// Received and not yet answered.
    input: Vec<u8>,
    /// The answer, up to where `rest` begins.
    out: Vec<u8>,
    /// How much of `out` is sent.
    sent: usize,
    /// What follows `out`, less what is sent.
    rest: &'static [u8],
    /// Whether the connection ends once the answer is sent.
    closing: bool,
}

impl Connection {
    /// Takes an accepted stream.
    pub(crate) fn new(stream: TcpStream, port: usize) -> Self {
        Self {
            stream,
            port,
            input: Vec::new(),
            out: Vec::new(),
            sent: 0,
            rest: &[],
            closing: false,
        }
    }

    /// Goes on until there is nothing to do. `read_closed`: the peer has sent its last byte.
    pub(crate) fn on_event(&mut self, read_closed: bool, scratch: &mut [u8], ports: &mut Ports) -> Next {
        match self.drive(read_closed, scratch, ports) {
            Ok(next) => next,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Next::Keep,
            Err(_) => Next::Close,
        }
    }

    fn drive(&mut self, read_closed: bool, scratch: &mut [u8], ports: &mut Ports) -> io::Result<Next> {
        let mut emptied = false;
        loop {
            self.flush()?;
            while !self.closing && self.take_request(ports) {
                self.flush()?;
            }
            if self.closing {
                return Ok(Next::Close);
            }
            if emptied {
                return Ok(Next::Keep);
            }
            let read = match self.stream.read(scratch) {
                Ok(0) => return Ok(Next::Close),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.input.extend_from_slice(&scratch[..read]);
            // A short read has emptied the socket, and epoll tells of what comes later: asking again would
            // cost a system call per request. An end that is already known gives no further event.
            emptied = read < scratch.len() && !read_closed;
        }
    }

    /// Answers the first request of `input`, if there is a whole one. All earlier answers must be sent.
    fn take_request(&mut self, ports: &mut Ports) -> bool {
        if self.input.is_empty() {
            return false;
        }
        let taken = match parse(&self.input) {
            Parsed::Incomplete => return false,
            Parsed::Whole(request) => {
                self.rest = ports.answer(self.port, &request, &mut self.out);
                self.closing = request.close;
                request.bytes.len()
            }
            Parsed::Refused(status) => {
                ports.refuse(status, &mut self.out);
                self.closing = true;
                self.input.len()
            }
        };
        if taken == self.input.len() {
            self.input.clear();
        } else {
            self.input.drain(..taken);
        }
        true
    }

    /// Sends what is left of the answer. `WouldBlock` when the socket takes no more.
    fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() || !self.rest.is_empty() {
            let head = &self.out[self.sent..];
            let result = if self.rest.is_empty() {
                self.stream.write(head)
            } else {
                self.stream
                    .write_vectored(&[IoSlice::new(head), IoSlice::new(self.rest)])
            };
            match result {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    let of_head = written.min(head.len());
                    self.sent += of_head;
                    self.rest = &self.rest[written - of_head..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }
}
