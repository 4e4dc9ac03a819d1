//! One HTTP/1.1 request, found in a buffer. Only what the benchmark's proxies send is understood; anything
//! else is refused, so that it shows as an error and not as a wrong figure.

/// Longest header section.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Longest body.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// What the start of a buffer holds.
pub(crate) enum Parsed<'a> {
    /// Not yet a whole request.
    Incomplete,
    /// A whole request.
    Whole(Request<'a>),
    /// Nothing that this origin serves; the status line to refuse it with.
    Refused(&'static str),
}

/// A whole request.
pub(crate) struct Request<'a> {
    /// The target without its query.
    pub(crate) path: &'a [u8],
    /// Whether the connection ends after the answer.
    pub(crate) close: bool,
    /// Head and body as received.
    pub(crate) bytes: &'a [u8],
}

/// Looks for a request at the start of `input`. Cost: one pass over the head.
pub(crate) fn parse(input: &[u8]) -> Parsed<'_> {
    let Some(head_end) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return if input.len() > MAX_HEAD_BYTES {
            Parsed::Refused("431 Request Header Fields Too Large")
        } else {
            Parsed::Incomplete
        };
    };
    let mut lines = input[..head_end].split(|&byte| byte == b'\n');
    let mut words = lines.next().unwrap_or_default().split(|&byte| byte == b' ');
    let (Some(_method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Parsed::Refused("400 Bad Request");
    };
    let mut close = version.starts_with(b"HTTP/1.0");
    let mut body = 0;
    for line in lines {
        if let Some(value) = value_of(line, b"content-length") {
            match std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()) {
                Some(length) if length <= MAX_BODY_BYTES => body = length,
                Some(_) => return Parsed::Refused("413 Content Too Large"),
                None => return Parsed::Refused("400 Bad Request"),
            }
        } else if let Some(value) = value_of(line, b"connection") {
            close |= value.eq_ignore_ascii_case(b"close");
        } else if value_of(line, b"transfer-encoding").is_some() {
            return Parsed::Refused("411 Length Required");
        }
    }
    let length = head_end + 4 + body;
    let Some(bytes) = input.get(..length) else {
        return Parsed::Incomplete;
    };
    let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
    Parsed::Whole(Request { path, close, bytes })
}

/// The value of a header line, if the line is that header's.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    found.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_with_its_body() {
        let input = b"POST /a/64k?x=1 HTTP/1.1\r\nHost: a\r\nCONTENT-length: 3\r\n\r\nabcGET";
        let Parsed::Whole(request) = parse(input) else {
            panic!("not whole");
        };
        assert_eq!(request.path, b"/a/64k");
        assert_eq!(request.bytes.len(), input.len() - 3);
        assert!(!request.close);
        assert!(matches!(parse(&input[..input.len() - 4]), Parsed::Incomplete));
    }

    #[test]
    fn close_and_chunks_are_seen() {
        let Parsed::Whole(request) = parse(b"GET / HTTP/1.1\r\nConnection: Close\r\n\r\n") else {
            panic!("not whole");
        };
        assert!(request.close);
        let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(matches!(parse(chunked), Parsed::Refused("411 Length Required")));
    }
}
