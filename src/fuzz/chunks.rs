//! A body in chunks.

use crate::connection::chunks::Body;

/// Bytes of extensions and trailers up to which nothing is refused for their number alone.
const JUDGED_BYTES: usize = 16 * 1024;

/// What a reader by RFC 9112 §7.1 makes of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reading {
    /// A body.
    Whole(Vec<u8>),
    /// The beginning of one.
    Incomplete,
    /// The beginning of none.
    Broken,
}

/// However the bytes are cut, a body is taken or refused as a strict reader does, and refused as soon as no bytes
/// that follow could mend it.
pub fn chunks(data: &[u8]) {
    if data.len() > JUDGED_BYTES {
        return;
    }
    let expected = match read_chunks(data) {
        Reading::Whole(_) => Some(true),
        Reading::Incomplete => Some(false),
        Reading::Broken => None,
    };
    let seed = data.iter().fold(7_usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(*byte))
    });
    for size in [usize::MAX, 1, 2, 3, 1 + seed % 61] {
        assert_eq!(follow(data, size), expected, "by {size}: {}", data.escape_ascii());
    }
}

/// Follows a body and says whether it is whole; none if it is malformed.
fn follow(data: &[u8], size: usize) -> Option<bool> {
    let mut body = Body::default();
    let outcome = data.chunks(size).try_for_each(|piece| body.follow(piece));
    assert_eq!(outcome.is_err(), body.is_malformed());
    outcome.ok().map(|()| body.is_whole())
}

/// A line of text and what follows it, or how far it got.
enum Line<'a> {
    Whole(&'a [u8], &'a [u8]),
    Begun { text: &'a [u8], has_cr: bool },
    Broken,
}

fn line(bytes: &[u8]) -> Line<'_> {
    let is_text = |byte: &u8| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f;
    let end = bytes
        .iter()
        .position(|byte| !is_text(byte))
        .unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at(end);
    match rest {
        [] => Line::Begun { text, has_cr: false },
        [b'\r'] => Line::Begun { text, has_cr: true },
        [b'\r', b'\n', rest @ ..] => Line::Whole(text, rest),
        _ => Line::Broken,
    }
}

/// Reads the size of a chunk; `None` where there is none, and cannot be once more of the line has come.
fn size_of(text: &[u8], is_over: bool) -> Option<usize> {
    let end = text.iter().position(|byte| b";\t ".contains(byte));
    let digits = std::str::from_utf8(&text[..end.unwrap_or(text.len())]).ok()?;
    let behind = text[digits.len()..].trim_ascii_start();
    if !matches!(behind, [] | [b';', ..]) {
        return None;
    }
    let is_size = digits.len() <= 15 && digits.chars().all(|char| char.is_ascii_hexdigit());
    if !is_size || digits.is_empty() && (is_over || end.is_some()) {
        return None;
    }
    usize::from_str_radix(&format!("0{digits}"), 16).ok()
}

/// Reads a body, one production of the grammar after the other.
pub(super) fn read_chunks(bytes: &[u8]) -> Reading {
    let mut body = Vec::new();
    let mut rest = bytes;
    loop {
        let size = match line(rest) {
            Line::Broken => return Reading::Broken,
            Line::Begun { text, has_cr } => {
                return match size_of(text, has_cr) {
                    Some(_) => Reading::Incomplete,
                    None => Reading::Broken,
                };
            }
            Line::Whole(text, after) => {
                rest = after;
                size_of(text, true)
            }
        };
        match size {
            None => return Reading::Broken,
            Some(0) => break,
            Some(size) => {
                let Some((data, after)) = rest.split_at_checked(size) else {
                    return Reading::Incomplete;
                };
                body.extend_from_slice(data);
                rest = match after {
                    [] | [b'\r'] => return Reading::Incomplete,
                    [b'\r', b'\n', rest @ ..] => rest,
                    _ => return Reading::Broken,
                };
            }
        }
    }
    loop {
        match line(rest) {
            Line::Broken => return Reading::Broken,
            Line::Begun { .. } => return Reading::Incomplete,
            Line::Whole(b"", _) => return Reading::Whole(body),
            Line::Whole(_, after) => rest = after,
        }
    }
}
