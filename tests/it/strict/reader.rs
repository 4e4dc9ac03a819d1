//! A reader of HTTP/1.1 requests that takes nothing RFC 9112 does not ask it to, and repairs nothing.
//!
//! It stands for the origin that is easiest to deceive: whatever a lenient parser between it and the client
//! lets through, it complains about. Beyond the RFC it wants what the gateway promises: one coding, one
//! length, no field for the hop before, no name with an underscore.

/// A request, every byte of which was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Method.
    pub method: String,
    /// Target, as it was on the wire.
    pub target: String,
    /// Fields in the order in which they came, names in lower case.
    pub fields: Vec<(String, String)>,
    /// Body, without its framing.
    pub body: Vec<u8>,
}

impl Message {
    /// Returns a field, of which there is at most one.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut all = self.fields.iter().filter(|(field, _)| field == name);
        let first = all.next().map(|(_, value)| value.as_str());
        assert!(all.next().is_none(), "{name} more than once: {self:?}");
        first
    }
}

/// What bytes amount to so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// No more than the beginning of a request.
    Incomplete,
    /// A header, whose body has yet to come: what `100 Continue` answers.
    Header,
    /// A request and the number of its bytes.
    Complete(Message, usize),
}

/// Fields that end at the hop that sent them.
const HOP_BY_HOP: [&str; 5] = [
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "trailer",
];
/// Fields of which there is one at most.
const SINGLE: [&str; 8] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "cookie",
    "x-forwarded-for",
    "via",
];

/// Reads the request at the start of `bytes`; an error says what is wrong with it.
pub fn read(bytes: &[u8]) -> Result<Progress, String> {
    let mut rest = bytes;
    let Some(line) = take_line(&mut rest)? else {
        return Ok(Progress::Incomplete);
    };
    let (method, target) = read_request_line(line)?;
    let mut fields = Vec::new();
    loop {
        match take_line(&mut rest)? {
            None => return Ok(Progress::Incomplete),
            Some("") => break,
            Some(line) => fields.push(read_field(line)?),
        }
    }
    let mut message = Message {
        method,
        target,
        fields,
        body: Vec::new(),
    };
    judge_fields(&message)?;
    let body = match (
        message.field("transfer-encoding"),
        message.field("content-length"),
    ) {
        (Some("chunked"), None) => take_chunks(&mut rest)?,
        (None, Some(length)) => take_bytes(&mut rest, read_length(length)?),
        (None, None) => Some(Vec::new()),
        framing => return Err(format!("framed by {framing:?}")),
    };
    Ok(match body {
        None => Progress::Header,
        Some(body) => {
            message.body = body;
            Progress::Complete(message, bytes.len() - rest.len())
        }
    })
}

/// Takes a line and its CRLF; `None` while it has no end. Bytes that no line may hold are an error, also
/// while it has none.
fn take_line<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a str>, String> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n");
    let line = &rest[..end.unwrap_or(rest.len())];
    // The last byte may be the first half of an end.
    let line = match end {
        None => line.strip_suffix(b"\r").unwrap_or(line),
        Some(_) => line,
    };
    if let Some(byte) = line.iter().find(|byte| !matches!(byte, b'\t' | b' '..=b'~')) {
        return Err(format!("byte {byte:#04x} in a line: {}", line.escape_ascii()));
    }
    Ok(end.map(|end| {
        *rest = &rest[end + 2..];
        std::str::from_utf8(line).expect("ASCII is UTF-8")
    }))
}

fn take_bytes(rest: &mut &[u8], count: usize) -> Option<Vec<u8>> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken.to_vec())
}

fn read_request_line(line: &str) -> Result<(String, String), String> {
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return Err(format!("no request line: {line:?}"));
    };
    let is_target = target.starts_with('/') || target == "*" && method == "OPTIONS";
    if !is_token(method) || !is_target || target.contains(['#', '\t']) {
        return Err(format!("no request line: {line:?}"));
    }
    Ok((method.to_owned(), target.to_owned()))
}

fn read_field(line: &str) -> Result<(String, String), String> {
    let (name, value) = line
        .split_once(':')
        .ok_or_else(|| format!("no field: {line:?}"))?;
    if !is_token(name) || name.contains('_') {
        return Err(format!("no name of a field: {line:?}"));
    }
    Ok((
        name.to_ascii_lowercase(),
        value.trim_matches([' ', '\t']).to_owned(),
    ))
}

fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

fn judge_fields(message: &Message) -> Result<(), String> {
    let count = |name: &str| message.fields.iter().filter(|(field, _)| field == name).count();
    if let Some(name) = SINGLE.into_iter().find(|name| count(name) > 1) {
        return Err(format!("{name} more than once"));
    }
    if let Some(name) = HOP_BY_HOP.into_iter().find(|name| count(name) > 0) {
        return Err(format!("{name} is for another hop"));
    }
    if message.field("host").is_none_or(str::is_empty) {
        return Err("no Host".to_owned());
    }
    match (message.field("connection"), message.field("upgrade")) {
        (None, None) | (Some("Upgrade"), Some("websocket")) => Ok(()),
        other => Err(format!("Connection and Upgrade are {other:?}")),
    }
}

fn read_length(text: &str) -> Result<usize, String> {
    let is_plain = text == "0" || !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    let length = text.parse().ok().filter(|_| is_plain);
    length.ok_or_else(|| format!("no length: {text:?}"))
}

/// Takes chunks without extensions up to the last one, after which no trailer comes.
fn take_chunks(rest: &mut &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        let Some(line) = take_line(rest)? else {
            return Ok(None);
        };
        let is_size = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = usize::from_str_radix(line, 16).ok().filter(|_| is_size);
        let size = size.ok_or_else(|| format!("no size of a chunk: {line:?}"))?;
        let Some(chunk) = take_bytes(rest, size) else {
            return Ok(None);
        };
        body.extend(chunk);
        match take_line(rest)? {
            None => return Ok(None),
            Some("") if size == 0 => return Ok(Some(body)),
            Some("") => {}
            Some(line) => return Err(format!("after a chunk: {line:?}")),
        }
    }
}

#[test]
fn the_reader_takes_what_is_right() {
    for (bytes, target, body) in [
        ("GET /a HTTP/1.1\r\nHost: a\r\n\r\n", "/a", ""),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "*", ""),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok",
            "/",
            "ok",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "/",
            "ok",
        ),
    ] {
        let Ok(Progress::Complete(message, length)) = read(bytes.as_bytes()) else {
            panic!("{bytes:?}");
        };
        assert_eq!(length, bytes.len());
        assert_eq!((&*message.target, &*message.body), (target, body.as_bytes()));
        for length in 0..bytes.len() {
            let progress = read(&bytes.as_bytes()[..length]);
            assert!(
                matches!(progress, Ok(Progress::Incomplete | Progress::Header)),
                "{progress:?}"
            );
        }
    }
}

#[test]
fn the_reader_complains_of_what_is_wrong() {
    for bytes in [
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX_Y: z\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 01\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: trailer\r\n\r\n",
    ] {
        assert!(read(bytes.as_bytes()).is_err(), "{bytes:?}");
    }
}
