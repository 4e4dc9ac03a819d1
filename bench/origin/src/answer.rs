//! What the origin answers, and its counts.
//!
//! | path ends with | answer |
//! |---|---|
//! | `/__count` | the counts of all ports as JSON; not counted itself |
//! | `/__echo` | the request as it was received, head and body |
//! | `/Nk`, for example `/64k` | N KiB of the letters a to z over and over |
//! | anything else | 13 bytes |
//!
//! Every answer but the counts names the port it came in on in `X-Port`.

use std::fmt::Write as _;
use std::io::Write as _;

use crate::request::Request;

/// The body of the plain answer.
const PLAIN: &str = "Hello, world\n";

/// Largest answer that can be asked for by path.
const MAX_BODY_KIB: usize = 1024;

/// The ports with their counts and prepared answers.
pub(crate) struct Ports {
    ports: Vec<Port>,
    /// Requests that were refused.
    refused: u64,
    /// Source of the sized answers. Lives as long as the process, so that connections can borrow it.
    letters: &'static [u8],
}

struct Port {
    number: u16,
    requests: u64,
    connections: u64,
    /// The whole plain answer.
    plain: Vec<u8>,
}

impl Ports {
    /// Takes the port numbers in the order of the listeners.
    pub(crate) fn new(numbers: &[u16]) -> Self {
        let ports = numbers
            .iter()
            .map(|&number| {
                let mut plain = Vec::new();
                head(&mut plain, number, PLAIN.len(), false);
                plain.extend_from_slice(PLAIN.as_bytes());
                Port {
                    number,
                    requests: 0,
                    connections: 0,
                    plain,
                }
            })
            .collect();
        let letters: Vec<u8> = (b'a'..=b'z').cycle().take(MAX_BODY_KIB * 1024).collect();
        Self {
            ports,
            refused: 0,
            letters: Box::leak(letters.into_boxed_slice()),
        }
    }

    /// Counts a connection.
    pub(crate) fn opened(&mut self, port: usize) {
        self.ports[port].connections += 1;
    }

    /// Counts the request and puts its answer into `out`; returns what is to be sent after `out`.
    pub(crate) fn answer(&mut self, port: usize, request: &Request<'_>, out: &mut Vec<u8>) -> &'static [u8] {
        let last = request
            .path
            .rsplit(|&byte| byte == b'/')
            .next()
            .unwrap_or_default();
        if last == b"__count" {
            let counts = self.counts();
            head(out, self.ports[port].number, counts.len(), request.close);
            out.extend_from_slice(counts.as_bytes());
            return &[];
        }
        let port = &mut self.ports[port];
        port.requests += 1;
        if last == b"__echo" {
            head(out, port.number, request.bytes.len(), request.close);
            out.extend_from_slice(request.bytes);
            return &[];
        }
        if let Some(kib) = kib(last) {
            let body = &self.letters[..kib * 1024];
            head(out, port.number, body.len(), request.close);
            return body;
        }
        if request.close {
            head(out, port.number, PLAIN.len(), true);
            out.extend_from_slice(PLAIN.as_bytes());
        } else {
            out.extend_from_slice(&port.plain);
        }
        &[]
    }

    /// Counts a refusal and puts its answer into `out`.
    pub(crate) fn refuse(&mut self, status: &str, out: &mut Vec<u8>) {
        self.refused += 1;
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_bytes());
        out.extend_from_slice(b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }

    fn counts(&self) -> String {
        let mut json = format!("{{\"refused\":{},\"ports\":[", self.refused);
        for (
            index,
            Port {
                number,
                requests,
                connections,
                ..
            },
        ) in self.ports.iter().enumerate()
        {
            let comma = if index == 0 { "" } else { "," };
            // Writing to a String cannot fail.
            let _ = write!(
                json,
                "{comma}{{\"port\":{number},\"requests\":{requests},\"connections\":{connections}}}"
            );
        }
        json.push_str("]}\n");
        json
    }
}

/// Writes the head of a 200.
fn head(out: &mut Vec<u8>, port: u16, length: usize, close: bool) {
    let connection = if close { "Connection: close\r\n" } else { "" };
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nX-Port: {port}\r\n{connection}\r\n"
    );
}

/// The size that a path's last segment asks for.
fn kib(segment: &[u8]) -> Option<usize> {
    let digits = std::str::from_utf8(segment.strip_suffix(b"k")?).ok()?;
    digits.parse().ok().filter(|&kib| kib <= MAX_BODY_KIB)
}
