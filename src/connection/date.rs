//! An origin's `Date` on its way to the client.
//!
//! It says when the answer was made, which caches count from (RFC 9110 §6.6.1). Pingora writes the time at
//! which it passes an answer on over it, and no hook comes after that; so the stream puts it back where the
//! two differ, as they do by a second now and then and by more behind a cache.

use std::sync::LazyLock;

use http::HeaderValue;
use memchr::memmem::Finder;

static FIELD: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\r\nDate: "));
/// Length of a date (RFC 9110 §5.6.7), of which Pingora writes no other.
const LENGTH: usize = 29;

/// A date that is to be in the header that is written next.
#[derive(Debug)]
pub(super) struct KeptDate {
    value: HeaderValue,
    place: Place,
}

/// How far the header is written.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Nothing of it is.
    Unknown,
    /// The place of the date is so many bytes ahead.
    Ahead(usize),
    /// So much of the date is written.
    Within(usize),
}

/// What is to be written for the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// The bytes as they are, so many of them.
    AsIs(usize),
    /// These instead of as many.
    Instead(&'a [u8]),
}

impl KeptDate {
    /// Keeps a date, unless it is of a form that cannot take the place of Pingora's.
    pub fn new(value: HeaderValue) -> Option<Self> {
        (value.len() == LENGTH).then_some(Self {
            value,
            place: Place::Unknown,
        })
    }

    /// Returns what to write next of a header, or of what is left of it; `None` when nothing has to be put
    /// in place any more.
    pub fn piece(&mut self, header: &[u8]) -> Option<Piece<'_>> {
        let date = self.value.as_bytes();
        if let Place::Unknown = self.place {
            let start = FIELD.find(header)? + FIELD.needle().len();
            if header.get(start..start + LENGTH)? == date {
                return None;
            }
            self.place = Place::Ahead(start);
        }
        match self.place {
            Place::Ahead(count) => Some(Piece::AsIs(count)),
            Place::Within(written) if written < LENGTH => Some(Piece::Instead(&date[written..])),
            Place::Unknown | Place::Within(_) => None,
        }
    }

    /// Says how much of the last piece was written.
    pub fn wrote(&mut self, count: usize) {
        self.place = match self.place {
            Place::Ahead(ahead) if count < ahead => Place::Ahead(ahead - count),
            Place::Within(written) => Place::Within(written + count),
            Place::Ahead(_) | Place::Unknown => Place::Within(0),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "Tue, 15 Nov 1994 08:12:31 GMT";
    const KEPT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    /// Writes a header that has this date through a stream that takes so many bytes at a time.
    fn written(date: &str, at_once: usize) -> String {
        let header = format!("HTTP/1.1 200 OK\r\nDate: {date}\r\nX-Date: {date}\r\n\r\nbody");
        let mut rest = header.as_bytes();
        let mut kept = KeptDate::new(HeaderValue::from_static(KEPT));
        let mut out = Vec::new();
        while !rest.is_empty() {
            let piece = match kept.as_mut().and_then(|kept| kept.piece(rest)) {
                Some(Piece::AsIs(count)) => Some(&rest[..count]),
                Some(Piece::Instead(bytes)) => Some(bytes),
                None => None,
            };
            let is_over = piece.is_none();
            let piece = piece.unwrap_or(rest);
            let count = piece.len().min(at_once);
            out.extend(&piece[..count]);
            match &mut kept {
                Some(date) if !is_over => date.wrote(count),
                _ => kept = None,
            }
            rest = &rest[count..];
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_date_is_put_in_place_however_the_header_is_written() {
        for at_once in [1, 2, 7, 20, 30, 1000] {
            for date in [OWN, KEPT] {
                let expected = format!("HTTP/1.1 200 OK\r\nDate: {KEPT}\r\nX-Date: {date}\r\n\r\nbody");
                assert_eq!(written(date, at_once), expected, "{at_once}");
            }
        }
    }

    #[test]
    fn what_is_no_date_is_not_kept() {
        assert!(KeptDate::new(HeaderValue::from_static("yesterday")).is_none());
        let mut kept = KeptDate::new(HeaderValue::from_static(KEPT)).unwrap();
        assert_eq!(kept.piece(b"HTTP/1.1 200 OK\r\n\r\n"), None);
        assert_eq!(kept.piece(b"HTTP/1.1 200 OK\r\nDate: Tue"), None);
    }
}
