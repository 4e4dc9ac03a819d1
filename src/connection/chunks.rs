//! A strict reading of a request body in chunks (RFC 9112 §7.1).
//!
//! Pingora takes a chunk-size line without a digit for the last chunk and a bare LF inside an extension
//! for nothing. It writes chunks anew, so no origin is misled; a proxy in front of this one that reads
//! them another way would be. So the bytes are followed here, beside Pingora, and the first that breaks
//! the grammar ends the request.

/// Bytes of all extensions and trailers of a body. There is no use for more, and each is read and
/// thrown away at the cost of this side only.
const OVERHEAD_LIMIT: usize = 16 * 1024;
/// Hexadecimal digits of a size: 2^60 is past every body.
const SIZE_DIGITS: u8 = 15;

/// A body broke the rules of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request's body is not in chunks as RFC 9112 §7.1 has them")]
pub struct BadChunk;

/// A request's body in chunks, as it comes over the wire.
#[derive(Debug, Default)]
pub struct Body {
    state: State,
    overhead: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the size of a chunk, after so many digits.
    Size {
        bytes: u64,
        digits: u8,
    },
    /// In blanks behind the size, after which an extension may begin.
    Padding {
        bytes: u64,
    },
    /// After `;`, up to the line's end.
    Extension {
        bytes: u64,
    },
    /// After the CR of a size line.
    SizeEnd {
        bytes: u64,
    },
    /// In the data of a chunk.
    Data {
        left: u64,
    },
    /// Behind the data, where CR LF must follow.
    DataEnd {
        has_cr: bool,
    },
    /// In the trailers after the last chunk.
    Trailer {
        is_line_empty: bool,
    },
    /// After the CR of a trailer.
    TrailerEnd {
        is_line_empty: bool,
    },
    /// The body is whole; what follows is not part of it.
    Done,
    Malformed,
}

impl Default for State {
    fn default() -> Self {
        Self::START
    }
}

impl Body {
    /// Follows bytes of a body in chunks.
    ///
    /// # Errors
    ///
    /// At the first byte that breaks the grammar.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<(), BadChunk> {
        let mut rest = bytes;
        while let Some(byte) = rest.first() {
            self.state = match self.state {
                State::Data { left } => {
                    let taken = left.min(rest.len() as u64);
                    rest = &rest[taken as usize..];
                    self.state = match left - taken {
                        0 => State::DataEnd { has_cr: false },
                        left => State::Data { left },
                    };
                    continue;
                }
                State::Done => return Ok(()),
                state => {
                    let is_overhead = matches!(
                        state,
                        State::Padding { .. }
                            | State::Extension { .. }
                            | State::Trailer { .. }
                            | State::TrailerEnd { .. }
                    );
                    self.overhead += usize::from(is_overhead);
                    match self.overhead > OVERHEAD_LIMIT {
                        true => State::Malformed,
                        false => state.after(*byte),
                    }
                }
            };
            if self.state == State::Malformed {
                return Err(BadChunk);
            }
            rest = &rest[1..];
        }
        Ok(())
    }

    /// Says whether the body broke the rules.
    pub fn is_malformed(&self) -> bool {
        self.state == State::Malformed
    }

    /// Says whether the body has come to its end.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_whole(&self) -> bool {
        self.state == State::Done
    }
}

impl State {
    const START: Self = Self::Size { bytes: 0, digits: 0 };
}

impl State {
    /// The state after one byte outside of data.
    fn after(self, byte: u8) -> Self {
        let is_text = byte == b'\t' || byte >= b' ' && byte != 0x7f;
        match (self, byte) {
            (Self::Size { bytes, digits }, _) if byte.is_ascii_hexdigit() && digits < SIZE_DIGITS => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Self::Size {
                    bytes: bytes * 16 + u64::from(digit),
                    digits: digits + 1,
                }
            }
            (Self::Size { digits: 0, .. }, _) => Self::Malformed,
            (Self::Size { bytes, .. } | Self::Padding { bytes }, b'\r') => Self::SizeEnd { bytes },
            (Self::Size { bytes, .. } | Self::Padding { bytes }, b';') => Self::Extension { bytes },
            // RFC 9112 §7.1.1 allows blanks before the semicolon, which senders must not write. Some pad the
            // size with them.
            (Self::Size { bytes, .. } | Self::Padding { bytes }, b' ' | b'\t') => Self::Padding { bytes },
            (Self::Extension { bytes }, b'\r') => Self::SizeEnd { bytes },
            (Self::Extension { .. }, _) if is_text => self,
            (Self::SizeEnd { bytes: 0 }, b'\n') => Self::Trailer { is_line_empty: true },
            (Self::SizeEnd { bytes }, b'\n') => Self::Data { left: bytes },
            (Self::DataEnd { has_cr: false }, b'\r') => Self::DataEnd { has_cr: true },
            (Self::DataEnd { has_cr: true }, b'\n') => Self::START,
            (Self::Trailer { is_line_empty }, b'\r') => Self::TrailerEnd { is_line_empty },
            (Self::Trailer { .. }, _) if is_text => Self::Trailer { is_line_empty: false },
            (Self::TrailerEnd { is_line_empty: true }, b'\n') => Self::Done,
            (Self::TrailerEnd { .. }, b'\n') => Self::Trailer { is_line_empty: true },
            _ => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a body in one piece and byte by byte, which must make no difference.
    fn read(wire: &[u8]) -> Result<State, BadChunk> {
        let follow = |bytes_at_once: usize| {
            let mut body = Body::default();
            wire.chunks(bytes_at_once)
                .try_for_each(|piece| body.follow(piece))?;
            Ok(body.state)
        };
        let whole = follow(usize::MAX);
        assert_eq!(whole, follow(1), "{}", wire.escape_ascii());
        whole
    }

    fn accepts(wire: &str) {
        assert_eq!(read(wire.as_bytes()), Ok(State::Done), "{wire:?}");
    }

    fn refuses(wire: &str) {
        assert_eq!(read(wire.as_bytes()), Err(BadChunk), "{wire:?}");
    }

    #[test]
    fn well_formed_bodies_are_read_to_their_end() {
        accepts("0\r\n\r\n");
        accepts("5\r\nhello\r\n0\r\n\r\n");
        accepts("05\r\nhello\r\nA\r\n0123456789\r\n000\r\n\r\n");
        accepts("5;name=value;other=\"quoted \u{e9}\"\r\nhello\r\n0 ;x\r\n\r\n");
        accepts("5  \r\nhello\r\n0\t \t;x\r\n\r\n");
        accepts("1\r\n\n\r\n0\r\nTrailer: value\r\nOther: \r\n\r\n");
        // What follows is not the body's.
        accepts("0\r\n\r\nGET / HTTP/1.1\r\n\n\0");
    }

    #[test]
    fn every_other_reading_is_refused() {
        for size in [
            "",
            ";a",
            " ",
            "\r",
            "g",
            "0x5",
            "+5",
            "-5",
            "5g",
            "5 g",
            "5 5",
            "5\t=a",
            "\n",
            "10000000000000000",
        ] {
            refuses(&format!("{size}\r\nhello\r\n0\r\n\r\n"));
        }
        refuses("5\nhello\r\n0\r\n\r\n");
        refuses("5\r\r\nhello\r\n0\r\n\r\n");
        refuses("5;a\nhello\r\n0\r\n\r\n");
        refuses("5;\0\r\nhello\r\n0\r\n\r\n");
        refuses("5\r\nhello0\r\n\r\n");
        refuses("5\r\nhello\n0\r\n\r\n");
        refuses("5\r\nhello!\r\n0\r\n\r\n");
        refuses("0\r\nTrailer: value\n\r\n");
        refuses("0\r\n\n");
        refuses("0\r\n\rx");
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let long = "x".repeat(OVERHEAD_LIMIT - 10);
        accepts(&format!("1;{long}\r\na\r\n0\r\n\r\n"));
        refuses(&format!("1;{long}{long}\r\na\r\n0\r\n\r\n"));
        refuses(&format!("0\r\nA: {long}\r\nB: {long}\r\n\r\n"));
        refuses(&format!(
            "{}0\r\n\r\n",
            "1;xxxxxxxx\r\na\r\n".repeat(OVERHEAD_LIMIT / 8)
        ));
    }

    proptest! {
        #[test]
        fn what_is_written_in_chunks_is_read(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..100), 0..20)) {
            let mut wire = Vec::new();
            for piece in &pieces {
                wire.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                wire.extend(piece);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\n\r\n");
            prop_assert_eq!(read(&wire), Ok(State::Done));
            prop_assert_ne!(read(&wire[..wire.len() - 1]), Ok(State::Done));
        }

        #[test]
        fn no_bytes_panic(wire in prop::collection::vec(prop::sample::select(b"05aF;\r\n \t\0x".to_vec()), 0..64)) {
            let _ = read(&wire);
        }
    }
}
