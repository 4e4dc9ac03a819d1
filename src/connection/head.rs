//! What a client may take, in time and bytes, to say what it wants.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use memchr::memchr;
use tokio::time::{Sleep, sleep};

use super::Reason;
use crate::model::Limits;

/// Fields that Pingora reads at most.
const PINGORA_FIELDS: usize = 256;
/// The preface of HTTP/2 (RFC 9113 §3.4), after which frames follow at their own pace.
const PREFACE_BYTES: usize = 24;
/// Bytes of a header beside target, names and values: method, version, ends of lines.
const FRAME_BYTES: usize = 1024;
/// Bytes of a field beside name and value: colon, blank, CR, LF.
const FIELD_FRAME_BYTES: usize = 4;

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2, by ALPN or by prior knowledge.
    Http2,
}

/// What the header of a request may take.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Time from its first byte to its end; with HTTP/2, from the connection's start to the preface.
    pub time: Duration,
    /// Bytes on the wire. What a whole header may have is judged by the proxy, which then keeps the
    /// connection; this ends the reading of one that goes on and on.
    pub bytes: usize,
}

/// The header of a request on its way in.
#[derive(Debug)]
pub(super) struct Head {
    protocol: Protocol,
    limits: HeadLimits,
    bytes: usize,
    lines: usize,
    request_line: RequestLine,
    line: Line,
    has_ended: bool,
    /// Set up at the first wait: most headers come whole.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// How far the request line has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestLine {
    /// Empty lines may come before it.
    Awaited,
    /// In it, behind so many blanks.
    Begun {
        blanks: u8,
    },
    /// Behind its CR.
    Ending,
    Over,
    Malformed,
}

/// Where in a line behind the request line it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Start,
    /// Behind a CR at the start.
    AfterCr,
    Within,
}

impl HeadLimits {
    /// Derives them from the settings.
    pub fn new(time: Duration, limits: &Limits) -> Self {
        let frame = FRAME_BYTES + FIELD_FRAME_BYTES * limits.headers;
        Self {
            time,
            bytes: limits.uri_bytes + limits.header_bytes + frame,
        }
    }
}

impl Head {
    pub fn new(protocol: Protocol, limits: HeadLimits) -> Self {
        Self {
            protocol,
            limits,
            bytes: 0,
            lines: 0,
            request_line: RequestLine::Awaited,
            line: Line::Start,
            has_ended: false,
            deadline: None,
        }
    }

    /// Takes note of bytes that came, and says where the empty line in them ends that ends the header.
    pub fn note(&mut self, bytes: &[u8]) -> Option<usize> {
        self.bytes += bytes.len();
        if self.protocol == Protocol::Http2 {
            return None;
        }
        let mut at = 0;
        if self.request_line != RequestLine::Over {
            at = self.request_line.advance(bytes);
            if self.request_line != RequestLine::Over {
                return None;
            }
            self.lines = 1;
        }
        loop {
            let rest = &bytes[at..];
            match (self.line, rest.first()?) {
                (Line::Start | Line::AfterCr, b'\n') => {
                    self.has_ended = true;
                    return Some(at + 1);
                }
                (Line::Start, b'\r') => {
                    self.line = Line::AfterCr;
                    at += 1;
                }
                (Line::Start | Line::AfterCr | Line::Within, _) => match memchr(b'\n', rest) {
                    Some(end) => {
                        self.lines += 1;
                        self.line = Line::Start;
                        at += end + 1;
                    }
                    None => {
                        self.line = Line::Within;
                        return None;
                    }
                },
            }
        }
    }

    /// Says whether the request line holds what Pingora would mend: a control character, or a third blank.
    ///
    /// It encodes such a byte and goes on, but only where the read that brought it brought the whole line. A
    /// request is not to depend on how the network cuts it, and RFC 9112 §3.2 asks not to mend such a line.
    pub fn is_malformed(&self) -> bool {
        self.request_line == RequestLine::Malformed
    }

    /// Says whether it is over, where that follows from its bytes alone.
    pub fn is_whole(&self) -> bool {
        self.protocol == Protocol::Http2 && self.bytes >= PREFACE_BYTES
    }

    /// Says whether the empty line has come that ends it.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns why no more of it is read, if so.
    pub fn excess(&self) -> Option<Reason> {
        (self.bytes > self.limits.bytes).then_some(match self.lines {
            0 => Reason::UriTooLong,
            _ => Reason::HeaderTooLarge,
        })
    }

    /// Returns why Pingora answered it with this status.
    pub fn reason_of(&self, answer: &[u8]) -> Reason {
        if answer.get(9..12) == Some(b"405") {
            Reason::Connect
        } else if self.lines > PINGORA_FIELDS {
            Reason::HeaderTooLarge
        } else {
            Reason::Malformed
        }
    }

    /// Is ready once its time is over.
    pub fn poll_deadline(&mut self, ctx: &mut Context<'_>) -> Poll<()> {
        let time = self.limits.time;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(time)));
        deadline.as_mut().poll(ctx)
    }
}

impl RequestLine {
    /// Goes through bytes up to the line's end; returns how many. One look at each.
    fn advance(&mut self, bytes: &[u8]) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            *self = match (*self, *byte) {
                (Self::Over | Self::Malformed, _) => return at,
                (Self::Awaited, b'\r' | b'\n') => Self::Awaited,
                (_, b'\n') => Self::Over,
                (Self::Ending, _) => Self::Malformed,
                (Self::Begun { .. }, b'\r') => Self::Ending,
                (Self::Begun { blanks }, b' ') if blanks < 2 => Self::Begun { blanks: blanks + 1 },
                (_, byte) if byte.is_ascii_control() || byte == b' ' => Self::Malformed,
                (Self::Awaited, _) => Self::Begun { blanks: 0 },
                (begun, _) => begun,
            };
        }
        bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(protocol: Protocol) -> Head {
        let limits = Limits {
            header_bytes: 100,
            headers: 3,
            uri_bytes: 20,
            body_bytes: None,
            ..Limits::default()
        };
        Head::new(protocol, HeadLimits::new(Duration::from_secs(1), &limits))
    }

    #[test]
    fn a_header_that_is_within_the_settings_is_never_in_excess() {
        let mut head = head(Protocol::Http1);
        let line = format!("GET /{} HTTP/1.1\r\n", "x".repeat(19));
        head.note(line.as_bytes());
        head.note(
            format!(
                "A: {}\r\nB: {}\r\nC: {}\r\n\r\n",
                "1".repeat(32),
                "2".repeat(32),
                "3".repeat(33)
            )
            .as_bytes(),
        );
        assert_eq!(head.excess(), None);
        head.note(&[b'x'; 1200]);
        assert_eq!(head.excess(), Some(Reason::HeaderTooLarge));
    }

    #[test]
    fn the_end_is_the_first_empty_line() {
        let end = |text: &str| head(Protocol::Http1).note(text.as_bytes());
        assert_eq!(end("GET / HTTP/1.1\r\nA: b\r\n\r\n"), Some(24));
        assert_eq!(end("GET / HTTP/1.1\nA: b\n\n0\r\n\r\n"), Some(21));
        assert_eq!(end("GET / HTTP/1.1\nA: b\n\r\n0\r\n\r\n"), Some(22));
        assert_eq!(end("GET / HTTP/1.1\r\nA: b\r\n\r"), None);
    }

    #[test]
    fn a_request_line_is_not_mended_however_it_is_cut() {
        for (text, is_malformed) in [
            ("GET / HTTP/1.1\r\nX: \t \u{1} y\r\n", false),
            ("\r\n\nGET / HTTP/1.1\nX: a b c d\n", false),
            ("GET /\u{fc} HTTP/1.1\r\n", false),
            ("GET /a b HTTP/1.1\r\n", true),
            ("GET  / HTTP/1.1\r\n", true),
            ("GET / HTTP/1.1 \r\n", true),
            (" GET / HTTP/1.1\r\n", true),
            ("GET /?\u{1} HTTP/1.1\r\n", true),
            ("GET /?\u{7f} HTTP/1.1\r\n", true),
            ("GET\t/ HTTP/1.1\r\n", true),
            ("GET /?\rx HTTP/1.1\r\n", true),
            ("GET / HTTP/1.1\r\r\n", true),
        ] {
            for size in [1, 2, 7, usize::MAX] {
                let mut head = head(Protocol::Http1);
                for piece in text.as_bytes().chunks(size) {
                    head.note(piece);
                }
                assert_eq!(head.is_malformed(), is_malformed, "{text:?} by {size}");
            }
        }
        let mut preface = head(Protocol::Http2);
        preface.note(b"\0\0\x12\x04");
        assert!(!preface.is_malformed());
    }

    #[test]
    fn a_line_without_an_end_is_a_target_too_long() {
        let mut head = head(Protocol::Http1);
        head.note(&[b'x'; 2000]);
        assert_eq!(head.excess(), Some(Reason::UriTooLong));
    }

    #[test]
    fn only_a_preface_ends_by_its_length() {
        let (mut one, mut two) = (head(Protocol::Http1), head(Protocol::Http2));
        for head in [&mut one, &mut two] {
            head.note(&[b'x'; PREFACE_BYTES - 1]);
            assert!(!head.is_whole());
            head.note(b"x");
        }
        assert!(!one.is_whole() && two.is_whole());
    }

    #[test]
    fn what_pingora_refuses_has_a_reason() {
        let mut head = head(Protocol::Http1);
        assert_eq!(
            head.reason_of(b"HTTP/1.1 405 Method Not Allowed"),
            Reason::Connect
        );
        assert_eq!(head.reason_of(b"HTTP/1.1 400 Bad Request"), Reason::Malformed);
        assert_eq!(head.reason_of(b""), Reason::Malformed);
        head.note("a:\r\n".repeat(257).as_bytes());
        assert_eq!(
            head.reason_of(b"HTTP/1.1 400 Bad Request"),
            Reason::HeaderTooLarge
        );
    }
}
